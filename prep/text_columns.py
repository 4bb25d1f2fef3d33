"""The text columns of a store: for a batch of captions their token ids and a priority for each.

A priority is a part-of-speech class: what the `syntax` mask ranks by. Words of the tagger and words of the tokenizer
are not the same ("don't" is do + n't to one and don + 't to the other), so they are matched by place: each word of the
tokenizer takes the class of the tagger's word that covers its first character, and gives it to all its pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.store import CONTEXT_LENGTH
from prep.tagger import OTHER, Tagged, Tagger
from prep.tokenizer import END_OF_TEXT, START_OF_TEXT, Tokenizer

ENDS = 0
"""Priority of start and end of text, which every mask keeps; 1 to 4 are the tagger's classes."""
PADDING = 255

_MAX_CONTENT = CONTEXT_LENGTH - 2
# Of a caption longer than the context, the tagger also sees what follows: to the first space this many characters after
# the last kept word begins. spaCy's small model looks four words ahead.
_LOOKAHEAD = 128


@dataclass(frozen=True, slots=True)
class Annotated:
    """One row a caption.

    tokens: uint16 [N, 77], start of text, ids, end of text, then zeros. priorities: uint8 [N, 77], ENDS at the ends, a
    class 1-4 at each id, PADDING behind. num_tokens: uint8 [N], ends included. truncated: bool [N], the caption has
    more than 75 ids, and the first 75 are kept.
    """

    tokens: NDArray[np.uint16]
    priorities: NDArray[np.uint8]
    num_tokens: NDArray[np.uint8]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Encoded:
    """One caption's kept ids and where the word of each begins in `seen`, the text for the tagger."""

    ids: list[int]
    starts: list[int]
    seen: str
    truncated: bool


def annotate(texts: Sequence[str], tokenizer: Tokenizer, tagger: Tagger) -> Annotated:
    """Tokens and priorities of clean captions (see `prep.captions`). Repeated captions are tagged once."""
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    encoded = [_encode(text, tokenizer) for text in row_of]
    num_ids = np.array([len(e.ids) for e in encoded], np.int64)
    rows = np.repeat(np.arange(len(encoded)), num_ids)
    starts = np.array([start for e in encoded for start in e.starts], np.int64)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(num_ids) - num_ids, num_ids) + 1
    ends = np.arange(len(encoded)), num_ids + 1

    tokens = np.zeros((len(encoded), CONTEXT_LENGTH), np.uint16)
    tokens[rows, places] = [id_ for e in encoded for id_ in e.ids]
    tokens[:, 0] = START_OF_TEXT
    tokens[ends] = END_OF_TEXT
    priorities = np.full((len(encoded), CONTEXT_LENGTH), PADDING, np.uint8)
    priorities[rows, places] = _covering_classes(rows, starts, tagger.tag([e.seen for e in encoded]))
    priorities[:, 0] = ENDS
    priorities[ends] = ENDS

    index = np.array([row_of[text] for text in texts], np.int64)
    truncated = np.array([e.truncated for e in encoded], np.bool_)
    return Annotated(tokens[index], priorities[index], (num_ids + 2).astype(np.uint8)[index], truncated[index])


def _encode(text: str, tokenizer: Tokenizer) -> _Encoded:
    lowered = text.lower()
    ids: list[int] = []
    starts: list[int] = []
    for word, start, _ in tokenizer.encode_words(lowered):
        ids += word
        starts += [start] * len(word)
        if len(ids) > _MAX_CONTENT:
            break
    if len(lowered) != len(text):  # U+0130, a capital I with a dot, lowers to two characters
        origin = [place for place, character in enumerate(text) for _ in character.lower()]
        starts = [origin[start] for start in starts]
    if len(ids) <= _MAX_CONTENT:
        return _Encoded(ids, starts, text, truncated=False)
    ids, starts = ids[:_MAX_CONTENT], starts[:_MAX_CONTENT]
    end = text.find(" ", starts[-1] + _LOOKAHEAD)
    return _Encoded(ids, starts, text if end < 0 else text[:end], truncated=True)


def _covering_classes(rows: NDArray[np.int64], starts: NDArray[np.int64], tagged: list[Tagged]) -> NDArray[np.uint8]:
    """For each place (row, start) the class of the last word of that row that begins at or before it, else OTHER.

    One binary search serves the batch: each row gets a stretch of one long line, with a word of class OTHER at its
    head.
    """
    stretch = np.int64(1 << 32)
    num_words = np.array([len(t.starts) for t in tagged], np.int64)
    heads = np.arange(len(tagged), dtype=np.int64) * stretch
    words = np.concatenate([*(t.starts for t in tagged), np.zeros(0, np.int64)]) + np.repeat(heads, num_words) + 1
    line = np.insert(words, np.cumsum(num_words) - num_words, heads)
    classes = np.concatenate([*(t.classes for t in tagged), np.zeros(0, np.uint8)])
    classes = np.insert(classes, np.cumsum(num_words) - num_words, np.uint8(OTHER))
    found: NDArray[np.uint8] = classes[np.searchsorted(line, rows * stretch + starts + 1, side="right") - 1]
    return found
