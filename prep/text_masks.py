"""Text-token reduction: every strategy ranks a caption's tokens; the best T are kept in reading order.

A token's rank is one uint64 key, unique in its caption: (class of the strategy, position or draw). The T-th smallest
key of each caption is the threshold, and what lies at or under it is kept: one vectorised selection for every
strategy and length. Start and end of text rank first in all of them and so survive any T >= 2; padding ranks last.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms, words

TEXT_MASKS = ("truncate", "random", "block", "syntax")

_ENDS, _PADDING = np.uint64(0), np.uint64(255)


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
    batch, length = tokens.shape
    if text_mask not in TEXT_MASKS or not 2 <= text_tokens <= length:
        raise ValueError(f"text_mask {text_mask!r} (one of {TEXT_MASKS}) at {text_tokens} of {length} tokens")
    position = np.arange(length, dtype=np.uint64)[None, :]
    last = num_tokens.astype(np.uint64)[:, None] - np.uint64(1)
    if text_mask == "syntax":
        rank = priorities.astype(np.uint64)
    elif text_mask == "block":
        rank = _outside_block(position, last, text_tokens, keys)
    else:
        rank = np.ones((batch, length), np.uint64)
    rank[:, 0] = _ENDS
    rank[position == last] = _ENDS
    rank[position > last] = _PADDING
    if text_mask == "random":
        rank = (rank << np.uint64(48)) | ((words(keys[:, None], position) >> np.uint64(24)) << np.uint64(8))
    else:
        rank <<= np.uint64(8)
    rank |= position
    threshold = np.partition(rank, text_tokens - 1, axis=1)[:, text_tokens - 1 : text_tokens]
    return tokens[rank <= threshold].reshape(batch, text_tokens).astype(np.int64)


def _outside_block(position: U64, last: U64, text_tokens: int, keys: U64) -> U64:
    """1 inside the window of text_tokens - 2 content tokens, 2 outside.

    The start floor(u x (number of windows)) is uniform, and because it moves left by at most one when the window
    grows by one, windows of growing size are nested for a fixed draw u.
    """
    window = np.uint64(text_tokens - 2)
    content = last - np.uint64(1)
    num_windows = np.maximum(content, window) - window + np.uint64(1)
    draw = uniforms(keys, np.zeros_like(keys))[:, None]
    start = np.uint64(1) + (draw * num_windows.astype(np.float64)).astype(np.uint64)
    inside = (position >= start) & (position < start + window)
    return np.where(inside, np.uint64(1), np.uint64(2))
