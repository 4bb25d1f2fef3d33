"""The text masks told plainly: the judge of the fast selection in prep.text_masks.

READING_MASKS go in one pass. A token's rank is one uint64 key, unique in its caption: (class of the strategy, position
or draw). The T-th smallest key of each caption is the threshold, and what lies at or under it is kept. Start and end of
text rank first in all of the strategies; padding ranks last, and so does an end of text that is not wanted.

The other masks go a caption and a token at a time.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms, words
from prep.text_masks import READING_MASKS
from prep.token_marks import CLOSES, CONTINUES, DIGITS, STOPS
from prep.word_masks import WORD_GOES_ON

_ENDS, _PADDING = np.uint64(0), np.uint64(255)


def select(
    tokens: NDArray[np.uint16],
    priorities: NDArray[np.uint8],
    num_tokens: NDArray[np.uint8],
    text_tokens: int,
    text_mask: str,
    keys: U64,
    end_token: bool = True,
    marks: NDArray[np.uint8] | None = None,
) -> NDArray[np.int64]:
    """As prep.text_masks.select."""
    batch, length = tokens.shape
    if text_mask not in READING_MASKS:
        assert marks is not None
        rows = zip(tokens, priorities, num_tokens.tolist(), keys, strict=True)
        kept = [_row(t[:n], p[:n], text_tokens - end_token, text_mask, k, marks) for t, p, n, k in rows]
        ends = tokens[np.arange(batch), num_tokens.astype(np.intp) - 1] * end_token
        return _padded(kept, ends.tolist(), text_tokens)
    position = np.arange(length, dtype=np.uint64)[None, :]
    last = num_tokens.astype(np.uint64)[:, None] - np.uint64(1)
    if text_mask == "syntax":
        rank = priorities.astype(np.uint64)
    elif text_mask == "block":
        rank = _outside_block(position, last, text_tokens - 1 - end_token, keys)
    else:
        rank = np.ones((batch, length), np.uint64)
    rank[:, 0] = _ENDS
    rank[position == last] = _ENDS if end_token else _PADDING
    rank[position > last] = _PADDING
    tokens = np.where((position > last) | ((position == last) & (not end_token)), np.uint16(0), tokens)
    if text_mask == "random":
        rank = (rank << np.uint64(48)) | ((words(keys[:, None], position) >> np.uint64(24)) << np.uint64(8))
    else:
        rank <<= np.uint64(8)
    rank |= position
    threshold = np.partition(rank, text_tokens - 1, axis=1)[:, text_tokens - 1 : text_tokens]
    return tokens[rank <= threshold].reshape(batch, text_tokens).astype(np.int64)


def _outside_block(position: U64, last: U64, num_content: int, keys: U64) -> U64:
    """1 inside the window of num_content tokens, 2 outside."""
    window = np.uint64(num_content)
    content = last - np.uint64(1)
    num_windows = np.maximum(content, window) - window + np.uint64(1)
    draw = uniforms(keys, np.zeros_like(keys))[:, None]
    start = np.uint64(1) + (draw * num_windows.astype(np.float64)).astype(np.uint64)
    inside = (position >= start) & (position < start + window)
    return np.where(inside, np.uint64(1), np.uint64(2))


def _padded(kept: list[list[int]], ends: list[int], text_tokens: int) -> NDArray[np.int64]:
    rows = [[*row, end] if end else row for row, end in zip(kept, ends, strict=True)]
    padded = [row + [0] * (text_tokens - len(row)) for row in rows]
    return np.array(padded, np.int64).reshape(len(rows), text_tokens)


def _row(
    tokens: NDArray[np.uint16],
    priorities: NDArray[np.uint8],
    size: int,
    text_mask: str,
    key: np.uint64,
    marks: NDArray[np.uint8],
) -> list[int]:
    """What is kept of one caption, its end of text apart: at most `size` ids, the start of text first."""
    start, *content = tokens[:-1].tolist()
    room = size - 1
    if len(content) <= room:
        return [start, *content]
    own = np.array([key], np.uint64)
    if text_mask == "shuffle":
        drawn = {place: int(words(own, np.array([place], np.uint64))[0]) >> 24 for place in range(1, len(content) + 1)}
        return [start, *(content[place - 1] for place in sorted(drawn, key=lambda p: (drawn[p], p))[:room])]
    if text_mask == "sub-caption":
        begins = sentences(content, marks)
        draw = float(uniforms(own, np.zeros(1, np.uint64))[0])
        return [start, *content[begins[int(draw * len(begins))] :][:room]]
    ranks = priorities[1:-1].tolist()
    goes_on = [rank >= WORD_GOES_ON for rank in ranks]
    if text_mask == "syntax-jax":
        goes_on = [bool(marks[id_] & CONTINUES) for id_ in content]
    pieces: list[list[int]] = []
    classes: list[int] = []
    for id_, rank, on in zip(content, ranks, goes_on, strict=True):
        if on and pieces:
            pieces[-1].append(id_)
        else:
            pieces.append([id_])
            classes.append(rank % WORD_GOES_ON)
    return [start, *whole_words(pieces, classes, room)]


def whole_words(pieces: list[list[int]], classes: list[int], room: int) -> list[int]:
    """The first `room` ids of the `room` best words, in reading order."""
    best = sorted(range(len(pieces)), key=lambda place: classes[place])[:room]
    return [id_ for place in sorted(best) for id_ in pieces[place]][:room]


def sentences(content: list[int], marks: NDArray[np.uint8]) -> list[int]:
    """Where the sentences of a caption begin."""
    begins, ended = [0], False
    for place, id_ in enumerate(content):
        mark = int(marks[id_])
        between = 0 < place < len(content) - 1 and marks[content[place - 1]] & marks[content[place + 1]] & DIGITS
        if mark & STOPS and not between:
            ended = True
        elif not mark & CLOSES:
            if ended and place:
                begins.append(place)
            ended = False
    return begins
