"""The text masks in one plain pass: the judge of the fast selection in prep.text_masks.

A token's rank is one uint64 key, unique in its caption: (class of the strategy, position or draw). The T-th smallest
key of each caption is the threshold, and what lies at or under it is kept. Start and end of text rank first in all of
the strategies; padding ranks last.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms, words

_ENDS, _PADDING = np.uint64(0), np.uint64(255)


def select(
    tokens: NDArray[np.uint16],
    priorities: NDArray[np.uint8],
    num_tokens: NDArray[np.uint8],
    text_tokens: int,
    text_mask: str,
    keys: U64,
) -> NDArray[np.int64]:
    """As prep.text_masks.select."""
    batch, length = tokens.shape
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
    """1 inside the window of text_tokens - 2 content tokens, 2 outside."""
    window = np.uint64(text_tokens - 2)
    content = last - np.uint64(1)
    num_windows = np.maximum(content, window) - window + np.uint64(1)
    draw = uniforms(keys, np.zeros_like(keys))[:, None]
    start = np.uint64(1) + (draw * num_windows.astype(np.float64)).astype(np.uint64)
    inside = (position >= start) & (position < start + window)
    return np.where(inside, np.uint64(1), np.uint64(2))
