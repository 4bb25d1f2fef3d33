"""What taggers share: classes of tags, taggers by name, and a tagger that remembers."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep.errors import UserError
from prep.taggers import (
    ADJECTIVE,
    NOUN,
    OTHER,
    VERB,
    Remembering,
    Tagged,
    by_text,
    load_tagger,
    penn_class,
    universal_class,
)


class Counting:
    """A tagger of one word a text, of a class by its length, that counts what it is asked."""

    def __init__(self) -> None:
        self.asked = list[str]()

    def identity(self) -> dict[str, str]:
        return {"name": "counting"}

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        self.asked += texts
        return [Tagged(np.zeros(1, np.int32), np.array([1 + len(text) % 4], np.uint8)) for text in texts]


@pytest.mark.parametrize(
    ("expected", "tags"),
    [
        (NOUN, ["NN", "NNS", "NNP", "NNPS"]),
        (ADJECTIVE, ["JJ", "JJR", "JJS"]),
        (VERB, ["VB", "VBD", "VBG", "VBZ"]),
        (OTHER, ["DT", "RB", "CD", "MD", ".", "", "_SP"]),
    ],
)
def test_penn_tags_fall_into_four_classes(expected: int, tags: list[str]) -> None:
    assert {penn_class(tag) for tag in tags} == {expected}


@pytest.mark.parametrize(
    ("expected", "tags"),
    [
        (NOUN, ["NOUN", "PROPN"]),
        (ADJECTIVE, ["ADJ"]),
        (VERB, ["VERB", "AUX"]),
        (OTHER, ["ADP", "ADV", "DET", "NUM", "PRON", "PUNCT", "SPACE", "X", ""]),
    ],
)
def test_universal_tags_fall_into_four_classes(expected: int, tags: list[str]) -> None:
    assert {universal_class(tag) for tag in tags} == {expected}


@pytest.mark.parametrize("name", ["perceptron", "", "spacy:", "nltk:english", ":spacy"])
def test_an_unknown_tagger_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError) as caught:
        load_tagger(name)
    assert caught.value.problem == f"wanted one of spacy:PIPELINE, nltk, spacy, textblob, vocabulary, found {name}"


def test_flat_words_are_cut_into_texts() -> None:
    starts, classes = np.array([0, 3, 0], np.int32), np.array([NOUN, OTHER, VERB], np.uint8)
    cut = by_text(starts, classes, [0, 2, 0, 1])
    assert [t.starts.tolist() for t in cut] == [[], [0, 3], [], [0]]
    assert [t.classes.tolist() for t in cut] == [[], [NOUN, OTHER], [], [VERB]]


def test_a_text_that_was_seen_is_not_tagged_again() -> None:
    counting = Counting()
    tagger = Remembering(counting)
    assert tagger.identity() == {"name": "counting"}
    first, second = tagger.tag(["a dog", "a cat", "a dog"]), tagger.tag(["a cat", "two dogs"])
    assert counting.asked == ["a dog", "a cat", "two dogs"]
    assert [t.classes[0] for t in first + second] == [2, 2, 2, 2, 1]


@given(st.lists(st.lists(st.text("ab", max_size=3), max_size=6), max_size=6))
def test_what_is_remembered_is_bounded_and_changes_nothing(batches: list[list[str]]) -> None:
    tagger, plain = Remembering(Counting(), max_texts=4), Counting()
    for texts in batches:
        assert tagger.tag(texts) == plain.tag(texts)
        assert len(tagger._tagged) <= max(4, len(set(texts)))
