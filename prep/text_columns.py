"""The text columns of a store: for a batch of captions their token ids and a priority for each.

A priority is a part-of-speech class: what the `syntax` mask ranks by. Words of the tagger and words of the tokenizer
are not the same ("don't" is do + n't to one and don + 't to the other), so they are matched by place: each word of the
tokenizer takes the class of the tagger's word that covers its first character, and gives it to all its pieces.

Of the tokenizer `clip-nltk` the words are the tagger's own, and its priorities also tell where they begin: see
`prep.nltk_tokens`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.nltk_tokens import NltkTokenizer
from prep.store import CONTEXT_LENGTH
from prep.taggers import OTHER, Tagged, Tagger
from prep.tokenizer import Tokenizer

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


def joined(parts: Sequence[Annotated]) -> Annotated:
    """The rows of several batches, one after the other."""
    fields = ("tokens", "priorities", "num_tokens", "truncated")
    return Annotated(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def annotate(texts: Sequence[str], tokenizer: Tokenizer, tagger: Tagger) -> Annotated:
    """Tokens and priorities of clean captions (see `prep.captions`). Repeated captions are tagged once.

    The tokenizer `clip-nltk` brings its own tagger: the one given is not asked.
    """
    if isinstance(tokenizer, NltkTokenizer):
        return _of_own_words(texts, tokenizer)
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    ids, starts, num_ids, seen = _encode(list(row_of), tokenizer)
    truncated = num_ids > _MAX_CONTENT
    kept = _places(num_ids) < _MAX_CONTENT
    num_ids = np.minimum(num_ids, _MAX_CONTENT)
    rows, places = np.repeat(np.arange(len(num_ids)), num_ids), _places(num_ids) + 1
    ends = np.arange(len(num_ids)), num_ids + 1

    tokens = np.zeros((len(num_ids), CONTEXT_LENGTH), np.uint16)
    tokens[rows, places] = ids[kept]
    tokens[:, 0] = tokenizer.start
    tokens[ends] = tokenizer.end
    priorities = np.full((len(num_ids), CONTEXT_LENGTH), PADDING, np.uint8)
    priorities[rows, places] = _covering_classes(rows, starts[kept], seen, tagger.tag(seen))
    priorities[:, 0] = ENDS
    priorities[ends] = ENDS

    index = np.array([row_of[text] for text in texts], np.int64)
    num_tokens = (num_ids + 2).astype(np.uint8)
    return Annotated(tokens[index], priorities[index], num_tokens[index], truncated[index])


def _of_own_words(texts: Sequence[str], tokenizer: NltkTokenizer) -> Annotated:
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    tokens = np.zeros((len(row_of), CONTEXT_LENGTH), np.uint16)
    priorities = np.full((len(row_of), CONTEXT_LENGTH), PADDING, np.uint8)
    num_tokens, truncated = np.zeros(len(row_of), np.uint8), np.zeros(len(row_of), np.bool_)
    for text, row in row_of.items():
        ids, ranks, truncated[row] = tokenizer.content(text)
        num_tokens[row] = len(ids) + 2
        tokens[row, : len(ids) + 2] = [tokenizer.start, *ids, tokenizer.end]
        priorities[row, : len(ids) + 2] = [ENDS, *ranks, ENDS]
    index = np.array([row_of[text] for text in texts], np.int64)
    return Annotated(tokens[index], priorities[index], num_tokens[index], truncated[index])


def _encode(
    texts: list[str], tokenizer: Tokenizer
) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Ids of all texts, where in its text the word of each begins, how many a text has; and texts for the tagger."""
    lowered = [text.lower() for text in texts]
    ids, starts, ends = tokenizer.encode_texts(lowered)
    num_ids, seen = np.diff(ends, prepend=0), list(texts)
    for row, (text, low) in enumerate(zip(texts, lowered, strict=True)):
        if len(low) != len(text):  # U+0130, a capital I with a dot, lowers to two characters
            origin = np.array([place for place, character in enumerate(text) for _ in character.lower()])
            of_text = slice(ends[row] - num_ids[row], ends[row])
            starts[of_text] = origin[starts[of_text]]
    for row in np.flatnonzero(num_ids > _MAX_CONTENT).tolist():
        last = starts[ends[row] - num_ids[row] + _MAX_CONTENT - 1]
        end = texts[row].find(" ", last + _LOOKAHEAD)
        seen[row] = texts[row] if end < 0 else texts[row][:end]
    return ids, starts, num_ids, seen


def _places(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... counts[0] - 1, 0, 1, ... counts[1] - 1, ..."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) - np.repeat(ends - counts, counts)


def _covering_classes(
    rows: NDArray[np.int64], starts: NDArray[np.int64], texts: Sequence[str], tagged: list[Tagged]
) -> NDArray[np.uint8]:
    """For each place (row, start) the class of the last word of that row that begins at or before it, else OTHER.

    All texts are laid out as one line, each with a word of class OTHER at its head, and the line is painted with the
    classes of its words.
    """
    lengths = np.array([len(text) + 1 for text in texts], np.int64)
    heads = np.cumsum(lengths) - lengths
    num_words = np.array([len(t.starts) for t in tagged], np.int64)
    first = np.cumsum(num_words) - num_words
    begins = np.concatenate([*(t.starts for t in tagged), np.zeros(0, np.int64)]) + np.repeat(heads, num_words) + 1
    begins = np.insert(begins, first, heads)
    classes = np.concatenate([*(t.classes for t in tagged), np.zeros(0, np.uint8)])
    classes = np.insert(classes, first, np.uint8(OTHER))
    line = np.repeat(classes, np.diff(begins, append=lengths.sum()))
    found: NDArray[np.uint8] = line[heads[rows] + starts + 1]
    return found
