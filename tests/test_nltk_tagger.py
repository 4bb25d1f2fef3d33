"""NLTK's tagger: the tags of `nltk.pos_tag`, the places of its words, and the tokens that open_clip's mask keeps."""

import json
import random
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip.tokenizer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep.errors import UserError
from prep.taggers import ADJECTIVE, NOUN, OTHER, VERB, load_tagger
from prep.taggers.nltk_tagger import DOWNLOAD, NltkTagger
from prep.text_columns import annotate
from prep.text_masks import select
from prep.tokenizer import END_OF_TEXT, START_OF_TEXT, load_tokenizer

from .nltk_folder import FOLDER, use_nltk_data

WORDS = [
    *("dog", "harbour", "Paris", "children", "mugs", "knife", "bread", "London", "sky", "paintings"),
    *("red", "old", "small", "blue", "tall", "shiny", "running", "sits", "holding", "cooked", "was", "parked"),
    *("the", "a", "of", "under", "very", "slowly", "two", "and", "with", ",", ".", "!", "?", ":", ";"),
]
"""Words that CLIP's vocabulary holds whole."""
FRAGMENTS = [
    *"'\"`.,:;!?()[]{}<>-/&%$#@* ",
    *("''", "``", "...", "--", "—", "“", "”", "‘", "’", "«", "»", "n't", "'s", "'tis", "gonna", "cannot", "lemme"),
    *("Mr.", "U.S.", "e.g.", "3.5", "1,000", "2019", "T-shirt", "dog", "Paris", "ran"),
    *("É", "漢字", "😀", "\u00a0", "\x1c"),
]


@pytest.fixture(scope="module")
def tagger() -> NltkTagger:
    use_nltk_data()
    return NltkTagger()


def sentences(num: int, words: list[str], seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(1, 25))) for _ in range(num)]


def test_words_and_tags_are_those_of_nltk(tagger: NltkTagger) -> None:
    import nltk

    texts = [*sentences(300, WORDS), *sentences(100, FRAGMENTS), "", "It's the dog's! (\"Don't\" run.) 'A' b"]
    for text in texts:
        assert tagger.words_and_tags(text) == nltk.pos_tag(nltk.word_tokenize(text))


@given(fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=12))
def test_every_word_is_found_in_its_place(tagger: NltkTagger, fragments: list[str]) -> None:
    text = "".join(fragments)
    words = [word for word, _ in tagger.words_and_tags(text)]
    starts = tagger.tag([text])[0].starts.tolist()
    assert len(starts) == len(words)
    end = 0
    for word, start in zip(words, starts, strict=True):
        quoted = word in ("``", "''")
        written = '"' if quoted and text[start] == '"' else word
        assert text.startswith(written, start) or (quoted and text[start : start + 2] in ("''", "``"))
        assert not text[end:start].strip()  # nothing but white space lies between
        end = start + len(written)
    assert not text[end:].strip()


def test_quotes_are_places_of_their_own(tagger: NltkTagger) -> None:
    text = 'a "red" dog isn\'t'
    words = [word for word, _ in tagger.words_and_tags(text)]
    assert words == ["a", "``", "red", "''", "dog", "is", "n't"]
    assert tagger.tag([text])[0].starts.tolist() == [0, 2, 3, 6, 8, 12, 14]


def test_classes_follow_the_context(tagger: NltkTagger) -> None:
    (first, second) = tagger.tag(["a tall man likes to paint the wall", "the red paint"])
    assert first.classes.tolist() == [OTHER, ADJECTIVE, NOUN, VERB, OTHER, VERB, OTHER, NOUN]
    assert second.classes.tolist() == [OTHER, ADJECTIVE, NOUN]


def test_tags_of_a_text_do_not_depend_on_its_neighbours(tagger: NltkTagger) -> None:
    texts = sentences(50, WORDS, seed=3)
    alone = [tagger.tag([text])[0] for text in texts]
    for one, among in zip(alone, reversed(tagger.tag(texts[::-1])), strict=True):
        assert np.array_equal(one.starts, among.starts)
        assert np.array_equal(one.classes, among.classes)
    assert tagger.tag([]) == []


@pytest.mark.parametrize("text_tokens", [8, 16])
def test_the_syntax_mask_keeps_what_open_clip_keeps(
    text_tokens: int, tagger: NltkTagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On words that are one token each. Longer words differ by design: open_clip's budget is of words, ours of tokens.

    Its sort is made stable, as its authors meant it; as it stands, which of equal words it keeps is chance.
    """
    stable = SimpleNamespace(array=np.array, take=np.take, argsort=lambda classes: np.argsort(classes, kind="stable"))
    monkeypatch.setattr(open_clip.tokenizer, "np", stable)
    monkeypatch.setattr(open_clip.tokenizer, "_nltk_init", True)  # or it would download
    tokenizer, texts = load_tokenizer(), sentences(300, WORDS, seed=text_tokens)
    theirs = open_clip.tokenizer.syntax_mask_tokenize(
        texts, text_tokens, START_OF_TEXT, END_OF_TEXT, open_clip.tokenizer.SimpleTokenizer().encode
    )
    ours = annotate(texts, tokenizer, tagger)
    keys = np.zeros(len(texts), np.uint64)
    kept = select(ours.tokens, ours.priorities, ours.num_tokens, text_tokens, "syntax", keys)
    assert np.array_equal(kept, theirs.numpy())
    truncated = select(ours.tokens, ours.priorities, ours.num_tokens, text_tokens, "truncate", keys)
    assert (kept != truncated).any(axis=1).mean() > 0.3


def test_identity_names_the_data(tagger: NltkTagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk.data

    identity = tagger.identity()
    assert {"name": "nltk", "model": "averaged_perceptron_tagger_eng"}.items() <= identity.items()
    copy = tmp_path / "data"
    shutil.copytree(FOLDER, copy, copy_function=shutil.copyfile)
    monkeypatch.setattr(nltk.data, "path", [str(copy)])
    assert load_tagger("nltk").identity() == identity
    known = copy / "taggers" / identity["model"] / f"{identity['model']}.tagdict.json"
    known.parent.chmod(0o755)
    known.write_text(json.dumps({**json.loads(known.read_text()), "dog": "VB"}))
    other = load_tagger("nltk")
    assert other.identity()["fingerprint"] != identity["fingerprint"]
    assert (other.tag(["a dog"])[0].classes[1], tagger.tag(["a dog"])[0].classes[1]) == (VERB, NOUN)


def test_missing_data_are_a_message_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(UserError, match=DOWNLOAD) as caught:
        load_tagger("nltk")
    assert str(tmp_path) in str(caught.value)


def test_a_missing_package_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(UserError, match="pip install 'nltk"):
        load_tagger("nltk")
