"""Chunks: what stands between two spaces of a text. A chunk is taken apart once, and then looked up.

Tokenizer and tagger take a text apart into smaller parts, and neither looks across a space (see there for exceptions).
A `ChunkTable` knows the parts of the chunks seen so far, and finds those of all chunks of a batch of texts with few
array operations: a tenth of a microsecond a chunk.
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Split = Sequence[Sequence[str]]
"""The chunks of each text."""


class Found(NamedTuple):
    """The chunks of a batch of texts, one text after another: numbers int64 [C], ends int64 [B], of each text in C."""

    numbers: NDArray[np.int64]
    ends: NDArray[np.int64]


class Parts(NamedTuple):
    """The parts of a batch of texts, one text after another.

    rows: int64 [P], of the table; starts: int64 [P], place of the first character in its text; ends: int64 [B], of each
    text in P.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class ChunkTable:
    """Chunks, numbered from 0, and a row for each of their parts. What else there is to know of either its owner keeps.

    Grows without bounds: its owner makes another when `len` is too large.
    """

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._length, self._first, self._count, self._starts = (array("q") for _ in range(4))

    def __len__(self) -> int:
        return len(self._number_of)

    @property
    def num_parts(self) -> int:
        """Rows of all chunks."""
        return len(self._starts)

    def add(self, chunk: str, starts: Sequence[int]) -> None:
        """Number a new chunk, and give a row to each of its parts. starts: the place of each in the chunk."""
        self._number_of[chunk] = len(self._number_of)
        self._length.append(len(chunk))
        self._first.append(len(self._starts))
        self._count.append(len(starts))
        self._starts.extend(starts)

    def find(self, texts: Split, learn: Callable[[list[str]], None]) -> Found:
        """The chunks of texts. `learn` is called with the new ones, if any, sorted, and must add them all in order."""
        if new := set(chain.from_iterable(texts)).difference(self._number_of):
            learn(sorted(new))
        numbers = np.fromiter(map(self._number_of.__getitem__, chain.from_iterable(texts)), np.int64)
        return Found(numbers, np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts))))

    def parts(self, chunks: Found) -> Parts:
        """The parts of chunks that stand one space apart, from the beginning of their text."""
        numbers, ends = chunks
        if not len(numbers):
            nothing = np.zeros(0, np.int64)
            return Parts(nothing, nothing, np.zeros_like(ends))
        counts, offsets = _rows(self._count, numbers), _before(_rows(self._length, numbers) + 1)
        firsts = np.concatenate([[0], ends[:-1]])
        begins = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(begins[-1]) + np.repeat(_rows(self._first, numbers) - begins[:-1], counts)
        offsets -= np.repeat(np.append(offsets, 0)[firsts], ends - firsts)
        starts = _rows(self._starts, rows) + np.repeat(offsets, counts)
        return Parts(rows, starts, begins[ends])


def _rows(column: "array[int]", rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A copy: an array whose memory numpy looks at cannot grow."""
    found: NDArray[np.int64] = np.frombuffer(column, np.int64)[rows] if len(column) else np.zeros(0, np.int64)
    return found


def _before(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of all before each."""
    before: NDArray[np.int64] = np.cumsum(lengths) - lengths
    return before
