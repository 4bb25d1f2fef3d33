"""Byte pairs: how CLIP's vocabulary is written down, and how a word is put together from its bytes.

Ids: 0-255 bytes, 256-511 bytes at the end of a word, then one per merge in order of rank. Since merges are numbered by
rank, "the lowest rank" and "the lowest new id" are the same.
"""

from heapq import heapify, heappop, heappush
from itertools import pairwise

NUM_MERGES = 48894
"""Of the vocabulary file, which holds more: CLIP uses the best."""

_FIRST_MERGE = 512


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


def symbols_of(word: str) -> list[int]:
    """The ids of a word's bytes, to be merged."""
    symbols = [_BYTE_IDS[byte] for byte in word.encode()]
    symbols[-1] += 256
    return symbols


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
    lines = vocabulary.split("\n")[1 : 1 + NUM_MERGES]
    for merged, line in enumerate(lines, _FIRST_MERGE):
        left, right = line.split()
        merges[ids[left], ids[right]] = ids[left + right] = merged
    return merges


def spelled_by(merges: dict[tuple[int, int], int]) -> list[bytes]:
    """The bytes that each id stands for, in the order of ids. merges: as `parse_merges` gives them, best first."""
    single = [bytes([byte]) for byte in _byte_order()]
    spelled = [*single, *single]
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    return spelled
