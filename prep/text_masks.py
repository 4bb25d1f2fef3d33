"""Text-token reduction: every strategy ranks a caption's tokens; the best T are kept in reading order.

A content token's rank is one integer key, unique in its caption: (word class or draw, position). The keys of the tokens
kept are those up to the (T - 2)-th smallest: start and end of text are kept by every strategy, and padding ranks last.
Most captions are shorter than the longest one, and many fit in T: only longer ones are ranked, sorted by length and a
few at a time, so that neither padding nor a large batch's memory is worked on. tests/slow_text_masks.py ranks plainly.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms, words

TEXT_MASKS = ("truncate", "random", "block", "syntax")

# Ranked in one go: the keys stay in the second-level cache, and the cost of calling numpy is spread over enough rows.
_GROUP = 512
# More than so many go in two parts: the few long captions of a small batch would widen all of it.
_WHOLE = 128
_DRAWN_BITS = np.uint64(0xFFFFFFFFFF000000)

Ranks = NDArray[np.unsignedinteger]


def select(
    tokens: NDArray[np.uint16],
    priorities: NDArray[np.uint8],
    num_tokens: NDArray[np.uint8],
    text_tokens: int,
    text_mask: str,
    keys: U64,
) -> NDArray[np.int64]:
    """Reduce captions to `text_tokens` tokens: int64 [B, T], zero padded.

    tokens: uint16 [B, L], start of text first, zero padded. priorities: uint8 [B, L], 0 at the ends, word class 1-4
    (lower is kept longer), 255 at padding. num_tokens: uint8 [B], ends included. keys: uint64 [B], drawn from (seed,
    epoch, row); only `random` and `block` use them. Raises ValueError for an unknown mask or a length outside 2 ...
    L.

    truncate: the first ones. random: a uniform subset. block: a window, uniform among all windows. syntax: by word
    class, earlier words first. In all four a larger budget keeps a superset of a smaller one.
    """
    length = tokens.shape[1]
    if text_mask not in TEXT_MASKS or not 2 <= text_tokens <= length:
        raise ValueError(f"text_mask {text_mask!r} (one of {TEXT_MASKS}) at {text_tokens} of {length} tokens")
    kept = tokens[:, :text_tokens].astype(np.int64, order="C")
    longer = np.flatnonzero(num_tokens > text_tokens)
    if not len(longer):
        return kept
    last = num_tokens[longer].astype(np.intp) - 1
    kept[longer, text_tokens - 1] = tokens[longer, last]
    if text_mask == "truncate" or text_tokens == 2:
        return kept
    if text_mask == "block":
        start = _block_starts(last, text_tokens, keys[longer])
        window = start[:, None] + np.arange(text_tokens - 2)
        kept[longer, 1:-1] = tokens[longer[:, None], window]
        return kept
    order = np.argsort(num_tokens[longer], kind="stable")
    while len(order):
        size = len(order) if len(order) <= _WHOLE else min(_GROUP, len(order) * 7 // 8)
        group, order = order[:size], order[size:]
        rows, ends = longer[group], last[group]
        width = ends[-1]
        rank = _draws(keys[rows], width) if text_mask == "random" else _classes(priorities[rows, 1:width])
        rank[np.arange(1, width) >= ends[:, None]] = np.iinfo(rank.dtype).max
        kept[rows, 1:-1] = _best(tokens[rows, 1:width], rank, text_tokens - 2)
    return kept


def _best(content: NDArray[np.uint16], rank: Ranks, count: int) -> NDArray[np.uint16]:
    """The `count` tokens of smallest rank in each row, in reading order; every row has so many."""
    threshold = np.partition(rank, count - 1, axis=1)[:, count - 1 : count]
    places = np.flatnonzero(rank <= threshold)
    return content.ravel().take(places).reshape(-1, count)


def _classes(priorities: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The ranks of `syntax`: (word class, position)."""
    rank = priorities.astype(np.uint32)
    rank <<= np.uint32(8)
    rank |= np.arange(rank.shape[1], dtype=np.uint32)
    return rank


def _draws(keys: U64, width: int) -> U64:
    """The ranks of `random`: (40 bits drawn for the token's position in its caption, that position)."""
    position = np.arange(1, width, dtype=np.uint64)
    rank = words(keys[:, None], position)
    rank &= _DRAWN_BITS
    rank |= position
    return rank


def _block_starts(last: NDArray[np.intp], text_tokens: int, keys: U64) -> NDArray[np.intp]:
    """Where the window of text_tokens - 2 content tokens begins, in captions that have more of them.

    The start floor(u x (number of windows)) is uniform, and because it moves left by at most one when the window
    grows by one, windows of growing size are nested for a fixed draw u.
    """
    num_windows = last - (text_tokens - 2)
    draw = uniforms(keys, np.zeros_like(keys))
    return 1 + (draw * num_windows).astype(np.intp)
