"""Which words of a caption each text mask keeps: token ids turned back into the words that they came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64
from prep.errors import UserError
from prep.text_masks import select
from prep.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption, in the tokenizer's sense. kept: the share of its tokens that is kept, 0 to 1.

    word_class: its priority, 1 noun, 2 adjective, 3 verb, 4 other; 0 of a word beyond the context. is_spaced: white
    space lies before it. Its text is empty where a character, İ, became two words: it is the first's.
    """

    text: str
    kept: float
    word_class: int
    is_spaced: bool


@dataclass(frozen=True, slots=True)
class StoredCaption:
    """A caption with its row of the token columns: tokens uint16 [77], priorities uint8 [77], num_tokens with ends."""

    text: str
    tokens: NDArray[np.uint16]
    priorities: NDArray[np.uint8]
    num_tokens: int


def kept_words(caption: StoredCaption, tokenizer: Tokenizer, text_tokens: int, text_mask: str, key: U64) -> list[Word]:
    """The caption's words under a mask of READING_MASKS at `text_tokens`, ends included. key: uint64 [1].

    Raises `UserError` when the tokenizer gives other ids than the stored ones.
    """
    positions = np.arange(len(caption.tokens), dtype=np.uint16)[None]  # in place of the ids, to learn where they stood
    num_tokens = np.array([caption.num_tokens], np.uint8)
    kept = set(select(positions, caption.priorities[None], num_tokens, text_tokens, text_mask, key)[0].tolist())
    last = caption.num_tokens - 1
    words, place, end = list[Word](), 1, 0
    ids: list[int] = []
    for own, first, stop in _words(caption.text, tokenizer):
        places = [position for position in range(place, place + len(own)) if position < last]
        share = sum(position in kept for position in places) / len(own)
        word_class = int(caption.priorities[places[0]]) if places else 0
        words.append(Word(caption.text[max(first, end) : stop], share, word_class, first > end))
        place, end = place + len(own), stop
        ids += own
    if ids[: last - 1] != caption.tokens[1:last].tolist():
        raise UserError(
            f"the caption {caption.text[:60]!r}",
            f"its stored token ids are not those that {tokenizer.name} gives here",
            "Check the store with prep.verify; if that is well, the tokenizer has changed.",
        )
    return words


def _words(text: str, tokenizer: Tokenizer) -> Sequence[tuple[tuple[int, ...], int, int]]:
    """The ids of each word and its place in the text, which the tokenizer wants lower-cased."""
    lowered = text.lower()
    words = tokenizer.encode_words(lowered)
    if len(lowered) == len(text):
        return words
    # U+0130, a capital I with a dot, lowers to two characters.
    origin = [place for place, character in enumerate(text) for _ in character.lower()]
    return [(ids, origin[start], origin[end - 1] + 1) for ids, start, end in words]
