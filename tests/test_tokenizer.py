"""The tokenizer: ids equal to open_clip's on ordinary and odd texts, and where each word lies."""

import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from prep import tokenizer as module
from prep.captions import clean
from prep.errors import UserError
from prep.tokenizer import END_OF_TEXT, START_OF_TEXT, Tokenizer, load_tokenizer

from .caption_corpus import ODD, corpus

odd_texts = st.lists(st.sampled_from(ODD) | st.text(max_size=6), max_size=8).map(" ".join)


@cache
def oracle() -> SimpleTokenizer:
    return SimpleTokenizer()


@given(odd_texts)
def test_ids_equal_open_clips_on_odd_texts(text: str) -> None:
    assert load_tokenizer().encode(text) == oracle().encode(text)


def test_ids_equal_open_clips_for_each_character_alone_and_inside_a_word() -> None:
    codes = [*range(0x3100), *range(0x1F300, 0x1F700)]
    each = [f"{chr(code)} a{chr(code)}b" for code in codes]
    texts = [" ".join(each[i : i + 16]) for i in range(0, len(each), 16)]
    ours = load_tokenizer()
    assert [text for text in texts if ours.encode(text) != oracle().encode(text)] == []


@pytest.mark.parametrize(
    "word",
    [
        "a" * 1500,
        "ab" * 700,
        "aab" * 500,
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=1200)),
        "".join(random.Random(2).choices("etaoin", k=1200)),
        "😀😂" * 150,
        "漢字かなカナ" * 60,
        "!?" * 400,
        "9" * 300,
        "e\u0301" * 300,
    ],
)
def test_very_long_words_are_merged_as_open_clip_does(word: str) -> None:
    assert load_tokenizer().encode(word) == oracle().encode(word)


@pytest.mark.parametrize("context_length", [2, 3, 8, 16, 77, 100])
def test_truncation_keeps_the_first_ids_and_ends_the_text(context_length: int) -> None:
    texts = ["", "a", "a dog", "a dog on a red sofa in the sun", "dog " * 74, "dog " * 75, "dog " * 76, "dog " * 200]
    ours = load_tokenizer().tokenize(texts, context_length)
    assert np.array_equal(ours, oracle()(texts, context_length).numpy())
    assert (ours[:, 0] == START_OF_TEXT).all()
    assert (ours.max(axis=1) == END_OF_TEXT).all()


def test_no_texts_are_no_rows() -> None:
    assert load_tokenizer().tokenize([]).shape == (0, 77)


def test_one_text_is_not_taken_for_a_list() -> None:
    with pytest.raises(AssertionError, match="not one text"):
        load_tokenizer().tokenize("a dog")


def test_special_tokens_spelled_out_are_what_open_clip_makes_of_them() -> None:
    assert load_tokenizer().encode("a <end_of_text> b") == [320, END_OF_TEXT, 321]
    assert load_tokenizer().encode("<START_OF_TEXT>") == [START_OF_TEXT]
    assert END_OF_TEXT not in load_tokenizer().encode("a <|endoftext|> b")


@given(odd_texts)
def test_words_lie_in_order_and_cover_all_but_white_space(text: str) -> None:
    lowered = clean(text).lower()
    words = load_tokenizer().encode_words(lowered)
    assert [id_ for ids, _, _ in words for id_ in ids] == load_tokenizer().encode(text)
    places = [place for _, start, end in words for place in range(start, end)]
    assert places == sorted(set(places))
    assert "".join(lowered[place] for place in places) == "".join(lowered.split())
    for ids, start, end in words:
        assert load_tokenizer().encode_words(lowered[start:end])[0][0] == ids


def test_what_is_remembered_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = corpus(100)
    expected = load_tokenizer().tokenize(texts)
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 5)
    fresh = Tokenizer(load_tokenizer()._chunks._merges)  # type: ignore[attr-defined]
    assert np.array_equal(fresh.tokenize(texts), expected)
    assert len(fresh._chunks) <= 5
    fresh.encode("x" * 10_000)
    assert max(map(len, fresh._chunks)) <= 64


def without_open_clip(monkeypatch: pytest.MonkeyPatch, path: list[str]) -> None:
    """Let the import system look for open_clip in `path` alone."""
    load_tokenizer.cache_clear()
    monkeypatch.delitem(sys.modules, "open_clip")
    monkeypatch.setattr(sys, "path", path)


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without_open_clip(monkeypatch, [])
    with pytest.raises(UserError, match="pip install open_clip_torch"):
        load_tokenizer()


def test_another_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / module.VOCABULARY_FILE).write_bytes(b"not it")
    without_open_clip(monkeypatch, [str(tmp_path)])
    with pytest.raises(UserError, match=r"wanted the vocabulary with sha256 9246.*, found .*"):
        load_tokenizer()


def test_loading_imports_no_heavy_library() -> None:
    code = (
        "import sys; from prep.tokenizer import load_tokenizer; import prep.taggers, prep.text_columns; "
        "load_tokenizer().encode('a dog'); print({'torch', 'open_clip', 'spacy', 'nltk'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
