"""Sentences told from ids, of real vocabularies and of made-up marks; and the mask that begins at one of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prep.sentence_starts import sentence_starts
from prep.text_masks import select
from prep.token_marks import CLOSES, CONTINUES, DIGITS, STOPS, marks_of
from prep.tokenizer import Tokenizer, load_tokenizer

from .slow_text_masks import sentences

TEXTS = {
    "A dog runs. A cat sits! Why? It rains": ["a", "a", "why", "it"],
    'He said (it\'s a dog.) Then "a cat!!" and ... more': ["he", "then", "and", "more"],
    "It costs 3.50 or 4.25. Cheap.": ["it", "cheap"],
    "Built in 2010. A house": ["built", "a"],
    "no sentence at all": ["no"],
    "the U.S. flag": ["the", "s", "flag"],  # ids do not tell that no space follows
    "in 2010. 3 dogs": ["in"],  # nor that one does
    "...and so on. End": ["and", "end"],
}
"""Captions, and the words that begin their sentences; a first mark that ends nothing is taken for a beginning, too."""


@pytest.mark.parametrize("name", ["clip", "bert"])
@pytest.mark.parametrize("text", TEXTS)
def test_sentences_of_captions(text: str, name: str) -> None:
    tokenizer = load_tokenizer(name)
    ids = np.array([tokenizer.encode(text)], np.uint16)
    starts = np.flatnonzero(sentence_starts(ids, np.zeros(ids.shape, np.bool_), tokenizer.marks())[0])
    words = [tokenizer.spelled()[ids[0, start]].decode() for start in starts]
    assert starts[0] == 0
    assert [word for word in words if word.isalnum()] == TEXTS[text]


def test_marks_are_of_what_entries_spell() -> None:
    spelled = [b"dog", b".", b"!!!", b'."', b".)", b'"', b"')", b"12", b"1a", b".com", b"", b"-", b"...?", b"\xe2\x80"]
    assert marks_of(spelled).tolist() == [0, STOPS, STOPS, STOPS, STOPS, CLOSES, CLOSES, DIGITS, 0, 0, 0, 0, STOPS, 0]


@pytest.mark.parametrize("name", ["clip", "bert"])
def test_what_ids_spell_is_what_they_were_made_from(name: str) -> None:
    tokenizer = load_tokenizer(name)
    spelled, marks = tokenizer.spelled(), tokenizer.marks()
    text = "unaffable antidisestablishmentarianism, 12 doughnuts in japan! it's naive"
    assert b"".join(spelled[id_] for id_ in tokenizer.encode(text)).decode() == text.replace(" ", "")
    assert len(spelled) == len(marks) == {"clip": 49408, "bert": 30522}[name]
    assert (marks & CONTINUES).astype(bool).sum() == {"clip": 0, "bert": 5828}[name]


CONTENT = st.lists(st.integers(1, 5), min_size=1, max_size=30)
BY_ID = np.array([0, 0, STOPS, CLOSES, DIGITS, CONTINUES], np.uint8)


@given(CONTENT, st.integers(0, 5))
def test_starts_are_those_of_a_plain_reading(content: list[int], padding: int) -> None:
    ids = np.array([content + [2] * padding], np.uint16)  # padding is looked at by no one
    is_outside = np.arange(len(content) + padding)[None] >= len(content)
    assert np.flatnonzero(sentence_starts(ids, is_outside, BY_ID)[0]).tolist() == sentences(content, BY_ID)


def drawn(tokenizer: Tokenizer, text: str, text_tokens: int, end_token: bool = True) -> set[str]:
    """All that the mask keeps of a text, with 300 keys."""
    tokens = tokenizer.tokenize([text] * 300).astype(np.uint16)
    num_tokens = np.full(300, len(tokenizer.encode(text)) + 2, np.uint8)
    keys: NDArray[np.uint64] = np.random.default_rng(0).integers(0, 2**64, 300, np.uint64)
    priorities = np.zeros(tokens.shape, np.uint8)
    rows = select(tokens, priorities, num_tokens, text_tokens, "sub-caption", keys, end_token, tokenizer.marks())
    spelled = [*tokenizer.spelled()]
    spelled[tokenizer.start], spelled[tokenizer.end], spelled[0] = b"<", b">", b"_"
    return {b" ".join(spelled[id_] for id_ in row).decode() for row in rows.tolist()}


@pytest.mark.parametrize("name", ["clip", "bert"])
def test_a_sub_caption_begins_at_any_sentence_and_reads_on(name: str) -> None:
    text = "a dog runs. a cat! two birds sing"
    tokenizer = load_tokenizer(name)
    assert drawn(tokenizer, text, 7) == {"< a dog runs . a >", "< a cat ! two birds >", "< two birds sing > _ _"}
    assert drawn(tokenizer, text, 7, end_token=False) == {
        *("< a dog runs . a cat", "< a cat ! two birds sing", "< two birds sing _ _ _"),
    }
    assert drawn(tokenizer, text, 20) == {f"< {text.replace('.', ' .').replace('!', ' !')} >" + " _" * 8}


def test_sentences_are_drawn_alike() -> None:
    tokenizer = load_tokenizer()
    num_rows = 6000
    ids = tokenizer.tokenize(["one dog. two. three red cats. four. " * 3] * num_rows).astype(np.uint16)
    num_tokens = (ids > 0).sum(axis=1).astype(np.uint8)
    keys = np.random.default_rng(1).integers(0, 2**64, num_rows, np.uint64)
    kept = select(ids, np.zeros(ids.shape, np.uint8), num_tokens, 3, "sub-caption", keys, True, tokenizer.marks())
    counts = np.unique(kept[:, 1], return_counts=True)[1]
    assert len(counts) == 4
    assert np.abs(counts - num_rows / 4).max() < 150
