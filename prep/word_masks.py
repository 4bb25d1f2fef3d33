"""The masks of whole words: CLIPA's own two syntax masks, which rank words and then cut tokens from the right.

Of a caption's words the K best are kept, by class, of equals the earlier, in reading order; their pieces are laid out,
and what is more than K tokens is cut. So a rare word of many pieces pushes words behind it out, and a larger budget
need not contain a smaller one. Both references sort words by class; CLIPA's torch code and open_clip with an order of
equals that numpy leaves open (`np.argsort` without `kind="stable"`), which is mended here.

Where words begin: in priorities of the tokenizer `clip-nltk` the bit WORD_GOES_ON marks a token that continues a word;
in BERT's vocabulary the entries themselves are marked `##`.
"""

import numpy as np
from numpy.typing import NDArray

WORD_GOES_ON = 16
"""Added to the class of a token that is not the first of its word, in priorities of the tokenizer `clip-nltk`."""

_LAST = np.iinfo(np.uint32).max


def split_priorities(priorities: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Word classes, and whether a token continues a word."""
    return priorities & np.uint8(WORD_GOES_ON - 1), (priorities & np.uint8(WORD_GOES_ON)) > 0


def best_words(
    content: NDArray[np.uint16],
    classes: NDArray[np.uint8],
    continues: NDArray[np.bool_],
    is_outside: NDArray[np.bool_],
    count: int,
) -> NDArray[np.uint16]:
    """The first `count` tokens of the `count` best words of each caption, which has more tokens: uint16 [B, count].

    content uint16, classes uint8, continues bool, is_outside bool: [B, W], without ends, the last true at padding. A
    word's class is that of its first token.
    """
    position = np.arange(content.shape[1], dtype=np.uint32)
    rank = classes.astype(np.uint32)
    rank <<= np.uint32(8)
    rank |= position
    rank[:, 1:][continues[:, 1:]] = _LAST  # the first begins a word, whatever it is
    rank[is_outside] = _LAST
    threshold = np.partition(rank, count - 1, axis=1)[:, count - 1 : count]
    head = np.maximum.accumulate(np.where(continues, 0, position), axis=1)
    kept = np.take_along_axis(rank, head.astype(np.intp), axis=1) <= threshold
    kept &= ~is_outside
    kept &= np.cumsum(kept, axis=1, dtype=np.int32) <= count
    return content.ravel().take(np.flatnonzero(kept)).reshape(-1, count)
