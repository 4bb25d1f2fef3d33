"""The comparison of the three syntax masks: what counts as other words, worked out by hand, and the program."""

import json
from pathlib import Path

import numpy as np
import pytest

from prep.compare_masks import Mode, _plain, compare, main, modes, report
from prep.errors import UserError
from prep.taggers import NOUN, load_tagger
from prep.tokenizer import load_tokenizer

from .nltk_folder import use_nltk_data
from .test_compare_taggers import ByList

FIRST = ByList("first", {"dog": NOUN, "cat": NOUN})
SECOND = ByList("second", {"red": NOUN, "cat": NOUN})
CAPTIONS = ["the dog", "a red dog and a cat", "a cat and the cat"]


def test_other_words_are_counted_at_each_budget() -> None:
    clip = load_tokenizer()
    pair = Mode("one", "syntax", clip, FIRST), Mode("other", "syntax-jax", load_tokenizer("bert"), SECOND)
    found = compare(CAPTIONS * 400, pair, (3, 4, 8))
    assert (found.num_captions, found.num_longer) == (1200, {3: 1200, 4: 800, 8: 0})
    assert [(d.text_tokens, d.num_other) for d in found.differences] == [(3, 400 * 2), (4, 400), (8, 0)]
    assert [(e.text_tokens, e.caption) for e in found.examples[3:]] == [(4, CAPTIONS[1])] * 3
    assert found.examples[3].kept == {"one": "dog cat", "other": "red cat"}
    assert "T = 4: 800 captions have more than 4 tokens of CLIP's" in report(found)
    assert "33.3% keep other words" in report(found)


def test_what_is_spelled_alike_is_the_same() -> None:
    assert _plain([b"``", b"caf", "é".encode(), b"''"]) == _plain([b'"', b"Cafe", b'"']) == '"cafe"'
    assert _plain([]) == ""


def test_with_the_same_tagger_and_words_of_one_piece_two_modes_are_one() -> None:
    use_nltk_data()
    syntax, torch, jax, as_many = modes(load_tagger("nltk"))
    found = compare(["a small red dog sits on the old bed of a king"] * 3, (syntax, torch), (5, 8, 16))
    assert [difference.num_other for difference in found.differences] == [0, 0, 0]
    columns = compare(["two dogs and one cat see a man near the old king"], (jax, as_many), (6,))
    assert columns.differences == []  # the same mask is not compared with itself
    assert jax.end_token is not as_many.end_token


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use_nltk_data()
    path, out = tmp_path / "captions.txt", tmp_path / "masks.json"
    path.write_text("\n".join(f"a red doughnut sees {n} unaffable cats behind the door of a barn" for n in range(30)))
    main([str(path), "--tagger", "textblob", "--json", str(out), "--limit", "20", "--text-tokens", "6", "32"])
    value = json.loads(out.read_text())
    assert (value["num_captions"], value["num_longer"]) == (20, {"6": 20, "32": 0})
    at_6, at_32 = ([d["num_other"] for d in value["differences"] if d["text_tokens"] == size] for size in (6, 32))
    assert np.array_equal(at_32, np.zeros(5))
    assert max(at_6) == 20
    said = capsys.readouterr().out
    assert "syntax-jax, as many ids" in said
    assert said.count("T = 6: a red doughnut sees") == 3


def test_mistakes_are_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk.data

    use_nltk_data()
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(UserError, match="wanted captions; there is none"):
        main([str(empty), "--tagger", "textblob"])
    with pytest.raises(UserError, match="wanted 3 to 77, found 2"):
        main([str(empty), "--text-tokens", "2"])
    with pytest.raises(UserError, match="wanted a number from 0, found -1"):
        main([str(empty), "--limit", "-1"])
    load_tokenizer.cache_clear()
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"nltk\.downloader"):
        main([str(empty), "--tagger", "textblob"])
