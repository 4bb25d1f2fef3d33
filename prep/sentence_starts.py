"""Sentences of a caption, told from its token ids, and the mask `sub-caption` that draws one of them.

CLIPS (Liu et al., arXiv 2411.16828) trains on a part of a long synthetic caption, from a sentence on that is drawn at
random. Its code for it is not public. Here: the start is drawn uniformly among the caption's sentences; from there on
the tokens are kept one after another, across the ends of sentences, until the budget is full or the caption ends. A row
that begins in the last sentences may so be shorter than the budget; it is filled with nothing from before its start,
which would be no contiguous text. A caption that fits the budget is kept whole, as by every mask.

A sentence ends with `.`, `!` or `?`, alone or several together, with quotes and brackets that close behind it. Between
two digits it does not (3.50). Ids do not tell white space, so an abbreviation (U.S.) and an address (example.com) end
sentences, too, and a digit before the stop and one behind it ("in 2010. 3 dogs") hide an end.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms
from prep.token_marks import CLOSES, DIGITS, STOPS


def sentence_starts(
    content: NDArray[np.uint16], is_outside: NDArray[np.bool_], marks: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Where a sentence begins: bool [B, W], always at the first token.

    content: uint16 [B, W], without ends. is_outside: bool [B, W], true at padding. marks: of `prep.token_marks`.
    """
    mark = marks[content]
    mark[is_outside] = 0
    is_stop, is_digit = (mark & STOPS) > 0, (mark & DIGITS) > 0
    is_stop[:, 1:-1] &= ~(is_digit[:, :-2] & is_digit[:, 2:])
    # What closes belongs to the sentence before it: look past it, to the last token that does not.
    is_body = (mark & CLOSES) == 0
    position = np.arange(content.shape[1])
    body = np.maximum.accumulate(np.where(is_body, position, 0), axis=1)
    starts = np.ones(content.shape, np.bool_)
    starts[:, 1:] = np.take_along_axis(is_stop, body, axis=1)[:, :-1] & is_body[:, 1:] & ~is_stop[:, 1:]
    return starts & ~is_outside


def sub_captions(
    tokens: NDArray[np.uint16],
    last: NDArray[np.intp],
    room: int,
    keys: U64,
    marks: NDArray[np.uint8],
    end_token: bool,
) -> NDArray[np.uint16]:
    """What follows the start of text: uint16 [B, room], zero padded, the end of text behind what is kept.

    tokens: uint16 [B, L], rows of captions that do not fit. last: int [B], place of the end of text.
    """
    width = int(last.max())
    content, is_outside = tokens[:, 1:width], np.arange(1, width) >= last[:, None]
    starts = sentence_starts(content, is_outside, marks)
    drawn = (uniforms(keys, np.zeros_like(keys)) * starts.sum(axis=1)).astype(np.int64)
    first = 1 + (np.cumsum(starts, axis=1) > drawn[:, None]).argmax(axis=1)
    places = first[:, None] + np.arange(room)
    num_kept = np.minimum(last - first, room - end_token)
    is_kept = np.arange(room) < num_kept[:, None]
    found = np.where(is_kept, np.take_along_axis(tokens, np.minimum(places, tokens.shape[1] - 1), axis=1), 0)
    if end_token:
        rows = np.arange(len(tokens))
        found[rows, num_kept] = tokens[rows, last]
    return found.astype(np.uint16)
