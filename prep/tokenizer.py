"""CLIP's byte-pair encoding: the ids that open_clip's `SimpleTokenizer` gives, to the id, about seven times as fast.

A caption is cleaned and lower-cased, split into words (a regular expression), and each word, as UTF-8 bytes, is merged
pair by pair. The vocabulary, 1.3 MB, comes with the `open_clip_torch` package, which is located but never imported:
importing it takes seconds and pulls in torch. Its hash is pinned, and so are the ids.

Ids: 0-255 bytes, 256-511 bytes at the end of a word, then one per merge in order of rank, START_OF_TEXT, END_OF_TEXT.
Since merges are numbered by rank, "the lowest rank" and "the lowest new id" are the same.

As in open_clip, the literal texts "<start_of_text>" and "<end_of_text>" in a caption become those very ids, and a
model that pools at the first end of text reads no further; the "<|endoftext|>" of OpenAI's own tokenizer is
punctuation and letters.
"""

import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import regex
from numpy.typing import NDArray

from prep.captions import clean
from prep.errors import UserError
from prep.store import CONTEXT_LENGTH

START_OF_TEXT = 49406
END_OF_TEXT = 49407
VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"

Word = tuple[tuple[int, ...], int, int]
"""The ids of one word, and the word's place in the text: start, end."""

_FIRST_MERGE = 512
_SPECIAL = {"<start_of_text>": START_OF_TEXT, "<end_of_text>": END_OF_TEXT}
# OpenAI's pattern with open_clip's names of the special tokens. No alternative matches a space, and none looks around
# itself, so what lies between two spaces can be split, and remembered, on its own.
_WORD = regex.compile(
    rf"{'|'.join(_SPECIAL)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)
# Bounds on what is remembered: about 30 MB. A longer text between two spaces is a rare address or a script without
# spaces.
_MAX_REMEMBERED = 1 << 16
_MAX_REMEMBERED_LENGTH = 64


class _Chunks(dict[str, tuple[Word, ...]]):
    """The words of each text between two spaces, encoded when first asked for."""

    def __init__(self, merges: dict[tuple[int, int], int]) -> None:
        super().__init__()
        self._merges = merges

    def __missing__(self, chunk: str) -> tuple[Word, ...]:
        words = tuple((self._encode(m.group()), m.start(), m.end()) for m in _WORD.finditer(chunk))
        if len(chunk) <= _MAX_REMEMBERED_LENGTH:
            if len(self) >= _MAX_REMEMBERED:
                self.clear()
            self[chunk] = words
        return words

    def _encode(self, word: str) -> tuple[int, ...]:
        if word in _SPECIAL:
            return (_SPECIAL[word],)
        symbols = [_BYTE_IDS[byte] for byte in word.encode()]
        symbols[-1] += 256
        return merge(symbols, self._merges)


def merge(symbols: list[int], merges: dict[tuple[int, int], int]) -> tuple[int, ...]:
    """Merge neighbours, the lowest new id first and the leftmost of equals, until no pair is in `merges`.

    A heap over a linked list: n log n in the number of symbols, where going over the word once per merge takes n^2. The
    result is the same because each entry of the vocabulary is made by one merge only: a pair with a new symbol in it
    always ranks behind the merge that made the symbol, so no merge has to wait for its turn. Consumes `symbols`.
    """
    before, after = list(range(-1, len(symbols) - 1)), list(range(1, len(symbols) + 1))
    heap = [(merges[pair], left) for left, pair in enumerate(pairwise(symbols)) if pair in merges]
    heapify(heap)
    while heap:
        merged, left = heappop(heap)
        right = after[left]
        if right == len(symbols) or merges.get((symbols[left], symbols[right])) != merged:
            continue  # an earlier merge took one of the two
        symbols[left], symbols[right] = merged, -1
        after[left] = after[right]
        if after[left] < len(symbols):
            before[after[left]] = left
            if (new := merges.get((merged, symbols[after[left]]))) is not None:
                heappush(heap, (new, left))
        if before[left] >= 0 and (new := merges.get((symbols[before[left]], merged))) is not None:
            heappush(heap, (new, before[left]))
    return tuple(symbol for symbol in symbols if symbol >= 0)


class Tokenizer:
    """CLIP's tokenizer. `fingerprint` is the hash of its vocabulary."""

    name = "clip-bpe-49408"
    fingerprint = f"sha256:{VOCABULARY_SHA256}"

    def __init__(self, merges: dict[tuple[int, int], int]) -> None:
        self._chunks = _Chunks(merges)

    def identity(self) -> dict[str, str]:
        """What a manifest records; two stores with the same identity hold the same ids for the same captions."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def encode_words(self, text: str) -> list[Word]:
        """The words of a text that is clean and lower-cased already, in order, with their places in it."""
        words: list[Word] = []
        offset = 0
        for chunk in text.split(" "):
            for ids, start, end in self._chunks[chunk]:
                words.append((ids, offset + start, offset + end))
            offset += len(chunk) + 1
        return words

    def encode(self, text: str) -> list[int]:
        """The ids of a raw text, neither truncated nor enclosed in start and end of text."""
        chunks = self._chunks
        return [id_ for chunk in clean(text).lower().split(" ") for ids, _, _ in chunks[chunk] for id_ in ids]

    def tokenize(self, texts: Sequence[str], context_length: int = CONTEXT_LENGTH) -> NDArray[np.int64]:
        """Raw texts to int64 [N, context_length]: start of text, ids, end of text, zero padding.

        A longer text is truncated, with end of text in the last place: `open_clip.tokenize`, as a numpy array.
        """
        assert not isinstance(texts, str), "a list of texts, not one text"
        tokens = np.zeros((len(texts), context_length), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = [START_OF_TEXT, *self.encode(text)[: context_length - 2], END_OF_TEXT]
            row[: len(ids)] = ids
        return tokens


def _byte_order() -> list[int]:
    """Bytes in the order of their ids: first those that print as themselves in Latin-1, then the rest."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printable + sorted(set(range(256)) - set(printable))


_BYTE_IDS = {byte: id_ for id_, byte in enumerate(_byte_order())}


def parse_merges(vocabulary: str) -> dict[tuple[int, int], int]:
    """{(left id, right id): id of the two merged} of a vocabulary file: a title line, then a merge a line, best first.

    In the file a byte that does not print as itself is written as the character 256 + its rank among those.
    """
    order = _byte_order()
    ids = {}
    for id_, byte in enumerate(order):
        character = chr(byte) if id_ < 188 else chr(256 + id_ - 188)
        ids[character], ids[f"{character}</w>"] = id_, id_ + 256
    merges = {}
    lines = vocabulary.split("\n")[1 : 1 + START_OF_TEXT - _FIRST_MERGE]
    for merged, line in enumerate(lines, _FIRST_MERGE):
        left, right = line.split()
        merges[ids[left], ids[right]] = ids[left + right] = merged
    return merges


def _vocabulary_path() -> Path:
    package = find_spec("open_clip")
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder) / VOCABULARY_FILE).is_file():
            return path
    raise UserError(
        VOCABULARY_FILE,
        "wanted CLIP's vocabulary, which the package open_clip_torch brings; it is not installed",
        "pip install open_clip_torch",
    )


@cache
def load_tokenizer() -> Tokenizer:
    """The tokenizer, made once a process. Raises `UserError` when its vocabulary is missing or not the known one."""
    path = _vocabulary_path()
    packed = path.read_bytes()
    if (found := hashlib.sha256(packed).hexdigest()) != VOCABULARY_SHA256:
        raise UserError(
            str(path),
            f"wanted the vocabulary with sha256 {VOCABULARY_SHA256}, found {found}",
            "pip install --force-reinstall --no-deps open_clip_torch",
        )
    return Tokenizer(parse_merges(gzip.decompress(packed).decode("utf-8")))
