"""TextBlob's tagger: its own tags, the places of its words, without any download."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textblob.taggers import PatternTagger

from prep.errors import UserError
from prep.taggers import ADJECTIVE, NOUN, OTHER, VERB, load_tagger
from prep.taggers.textblob_tagger import TextblobTagger

FRAGMENTS = [
    *"'\".,:;!?()[]-/&$#@* ",
    *("...", ".....", ": )", ":-)", "( ! )", "“", "’", "n't", "'s", "Mr.", "U.S.", "e.g.", "3.5", "w/"),
    *("END-OF-SENTENCE", "&slash;", "=D", "T-shirt", "dog", "Paris", "ran", "http://a.b/c"),
    *("É", "漢字", "😀", "\u00a0", "\x1c"),
]
CAPTIONS = [
    "A red dog runs quickly past an old wooden house",
    "Mr. Smith's 3 T-shirts, w/ prints... Isn't it nice? :-)",
    '"Paris by night" (1920), oil on canvas - see http://a.b/c!',
    "3/4 of the and/or cats",
    "",
]


@pytest.fixture(scope="module")
def tagger() -> TextblobTagger:
    return TextblobTagger()


def test_words_and_tags_are_those_of_textblob(tagger: TextblobTagger) -> None:
    for text in CAPTIONS:
        assert tagger.words_and_tags(text) == PatternTagger().tag(text)


def test_classes(tagger: TextblobTagger) -> None:
    (tagged,) = tagger.tag(["A red dog chased two old Italians"])
    assert tagged.classes.tolist() == [OTHER, ADJECTIVE, NOUN, VERB, OTHER, ADJECTIVE, NOUN]
    assert tagged.starts.tolist() == [0, 2, 6, 10, 17, 21, 25]


@given(fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=12))
def test_every_word_is_found_in_its_place(tagger: TextblobTagger, fragments: list[str]) -> None:
    text = "".join(fragments)
    words = [word for word, _ in tagger.words_and_tags(text)]
    starts = tagger.tag([text])[0].starts.tolist()
    assert starts == sorted(set(starts))
    for word, start in zip(words, starts, strict=True):
        assert "".join(text[start:].split()).lower().startswith(word.lower())
    spelled, written = ("".join(part).lower().replace(".", "") for part in (words, text.split()))
    assert spelled == written  # full stops beyond three are all that is lost


def test_it_needs_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [])
    assert load_tagger("textblob").tag(["a dog"])[0].classes.tolist() == [OTHER, NOUN]


def test_tags_of_a_text_do_not_depend_on_its_neighbours(tagger: TextblobTagger) -> None:
    for text, among in zip(CAPTIONS, reversed(tagger.tag(CAPTIONS[::-1])), strict=True):
        (alone,) = tagger.tag([text])
        assert np.array_equal(alone.starts, among.starts)
        assert np.array_equal(alone.classes, among.classes)


def test_identity_has_version_hash_and_license(tagger: TextblobTagger) -> None:
    identity = tagger.identity()
    assert (identity["name"], identity["model"]) == ("textblob", "pattern")
    assert identity["fingerprint"].startswith("sha256:")
    assert "MIT" in identity["license"]


def test_a_missing_package_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textblob", None)
    with pytest.raises(UserError, match="pip install 'textblob"):
        load_tagger("textblob")
