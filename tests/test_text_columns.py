"""Tokens and priorities of captions: aligned by place, invariant, and those of open_clip."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from prep.captions import clean, decode
from prep.taggers import OTHER, Tagged, Tagger, load_tagger
from prep.text_columns import ENDS, PADDING, Annotated, annotate
from prep.tokenizer import END_OF_TEXT, START_OF_TEXT, load_tokenizer

RAW = [
    "A red apple don't run",
    "",
    "Vintage  WOODEN chairs &amp; two-seater sofas for sale!!! $49.99",
    "İSTANBUL'UN İKİ İNCE minaresi at sunset",
    "😀 Zoë’s café — crème brûlée №5",
    "the the the the",
    "x" * 300,
    "a photo of antidisestablishmentarianism " * 12,
    "Photograph of seventeen dogs running along the beach towards a small boat, " * 9,
    "<end_of_text> a dog",
]


class EveryThirdLetter:
    """A tagger whose words are three letters long, spaces or not, with a class that only their place decides."""

    def __init__(self, first: int = 0) -> None:
        self.first, self.texts = first, list[str]()

    def identity(self) -> dict[str, str]:
        return {"name": "every third letter"}

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        self.texts += texts
        starts = [np.arange(self.first, len(text), 3, dtype=np.int32) for text in texts]
        return [Tagged(s, (1 + (s * 7 + len(t)) % 4).astype(np.uint8)) for s, t in zip(starts, texts, strict=True)]

    def class_at(self, text: str, place: int) -> int:
        """The class of the word that covers `place`, straight from the definition."""
        if place < self.first:
            return OTHER
        return 1 + ((place - (place - self.first) % 3) * 7 + len(text)) % 4


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return load_tagger()


def check_invariants(columns: Annotated, num_rows: int) -> None:
    assert columns.tokens.shape == columns.priorities.shape == (num_rows, 77)
    assert columns.tokens.dtype == np.uint16
    assert columns.priorities.dtype == np.uint8
    assert columns.num_tokens.dtype == np.uint8
    for tokens, priorities, num, truncated in zip(
        columns.tokens, columns.priorities, columns.num_tokens, columns.truncated, strict=True
    ):
        assert (tokens[0], tokens[num - 1]) == (START_OF_TEXT, END_OF_TEXT)
        assert (priorities[0], priorities[num - 1]) == (ENDS, ENDS)
        assert set(priorities[1 : num - 1].tolist()) <= {1, 2, 3, 4}
        assert (priorities[num:] == PADDING).all()
        assert (tokens[num:] == 0).all()
        assert num == 77 or not truncated


def test_a_crafted_caption_has_the_priorities_one_expects(tagger: Tagger) -> None:
    columns = annotate(["A red apple don't run"], load_tokenizer(), tagger)
    # sot, a, red, apple, don (of do), 't (of n't), run, eot
    assert columns.num_tokens.tolist() == [8]
    assert columns.priorities[0, :9].tolist() == [0, 4, 2, 1, 3, 4, 3, 0, 255]
    check_invariants(columns, 1)


def test_pieces_of_a_word_share_its_priority(tagger: Tagger) -> None:
    text = "a happy hippopotamuses' sunbathing spectroscopically"
    words = load_tokenizer().encode_words(text)
    priorities = annotate([text], load_tokenizer(), tagger).priorities[0, 1:].tolist()
    assert any(len(ids) > 1 for ids, _, _ in words)
    for ids, _, _ in words:
        assert len({priorities.pop(0) for _ in ids}) == 1


def test_invariants_hold_and_tokens_are_open_clips(tagger: Tagger) -> None:
    columns = annotate([clean(raw) for raw in RAW], load_tokenizer(), tagger)
    check_invariants(columns, len(RAW))
    oracle = SimpleTokenizer()
    assert np.array_equal(columns.tokens, oracle(RAW).numpy())
    assert columns.truncated.tolist() == [len(oracle.encode(raw)) > 75 for raw in RAW]


def test_of_ten_thousand_words_the_first_75_ids_are_kept(tagger: Tagger) -> None:
    raw = " ".join(["An old harbour with seven boats, seen at dawn."] * 1200)
    columns = annotate([decode(raw.encode()).text], load_tokenizer(), tagger)
    check_invariants(columns, 1)
    assert columns.truncated.tolist() == [True]
    assert np.array_equal(columns.tokens, SimpleTokenizer()([raw]).numpy())


@pytest.mark.parametrize(("num_words", "truncated"), [(74, False), (75, False), (76, True)])
def test_the_context_is_used_to_its_last_place(num_words: int, truncated: bool) -> None:
    columns = annotate(["dog " * (num_words - 1) + "dog"], load_tokenizer(), EveryThirdLetter())
    assert columns.num_tokens.tolist() == [min(num_words, 75) + 2]
    assert columns.truncated.tolist() == [truncated]
    check_invariants(columns, 1)


@given(st.lists(st.text("aB cÇİßΣ'1 .😀", max_size=30).map(clean), max_size=6), st.integers(0, 4))
def test_a_word_takes_the_class_of_what_covers_its_first_character(texts: list[str], first: int) -> None:
    tagger = EveryThirdLetter(first)
    columns = annotate(texts, load_tokenizer(), tagger)
    check_invariants(columns, len(texts))
    for text, priorities, num in zip(texts, columns.priorities.tolist(), columns.num_tokens.tolist(), strict=True):
        expected = []
        for ids, start, _ in load_tokenizer().encode_words(text.lower()):
            place = next(i for i in range(len(text)) if len(text[: i + 1].lower()) > start)
            expected += [tagger.class_at(text, place)] * len(ids)
        assert priorities[1 : num - 1] == expected


def test_a_repeated_caption_is_tagged_once() -> None:
    tagger = EveryThirdLetter()
    columns = annotate(["a dog", "a cat", "a dog", "a dog"], load_tokenizer(), tagger)
    assert tagger.texts == ["a dog", "a cat"]
    assert columns.tokens[:, 2].tolist() == [1929, 2368, 1929, 1929]


def test_a_caption_has_the_same_row_in_any_batch(tagger: Tagger) -> None:
    texts = [clean(raw) for raw in RAW]
    together = annotate(texts, load_tokenizer(), tagger)
    for row, text in enumerate(texts):
        alone = annotate([text], load_tokenizer(), tagger)
        assert np.array_equal(alone.tokens[0], together.tokens[row])
        assert np.array_equal(alone.priorities[0], together.priorities[row])


def test_what_the_tagger_is_spared_changes_no_kept_word(tagger: Tagger) -> None:
    sentence = (
        "The well lit room, where two of them left their old bikes to rust, looks out on a park they like to run in. "
    )
    for shift in range(0, 100, 9):
        text = clean(sentence[shift:] + sentence * 12)
        kept = annotate([text], load_tokenizer(), tagger)
        assert kept.truncated.all()
        (whole,) = tagger.tag([text])
        starts = [start for ids, start, _ in load_tokenizer().encode_words(text.lower()) for _ in ids][:75]
        expected = whole.classes[np.searchsorted(whole.starts, starts, side="right") - 1]
        assert kept.priorities[0, 1:76].tolist() == expected.tolist()


def test_no_captions_are_no_rows(tagger: Tagger) -> None:
    check_invariants(annotate([], load_tokenizer(), tagger), 0)
