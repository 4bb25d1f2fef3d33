"""The comparison of taggers: counts worked out by hand, a text file and a store, the report."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from prep.compare_taggers import Comparison, compare, main, read_captions, report
from prep.errors import UserError
from prep.store import Store
from prep.taggers import ADJECTIVE, NOUN, OTHER, VERB, Tagged
from prep.tokenizer import load_tokenizer


class ByList:
    """A tagger of words between spaces, by a list of classes; what is not on it is other."""

    def __init__(self, name: str, classes: dict[str, int]) -> None:
        self._name, self._classes = name, classes

    def identity(self) -> dict[str, str]:
        return {"name": self._name, "model": "a list", "version": "1"}

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        return [self._tag(text) for text in texts]

    def _tag(self, text: str) -> Tagged:
        words = text.split(" ")
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
        return Tagged(starts.astype(np.int32), np.array([self._classes.get(w, OTHER) for w in words], np.uint8))


FIRST = ByList("first", {"dog": NOUN, "cat": NOUN, "red": ADJECTIVE, "runs": VERB})
SECOND = ByList("second", {"dog": NOUN, "cat": NOUN, "red": NOUN, "runs": NOUN})
CAPTIONS = [
    "the dog",  # fits
    "a dog and a cat",  # longer, the same classes
    "the red dog and the cat",  # longer; red is the best of the rest to both
    "the red dog runs to the cat",  # longer; with room for three, dog, cat and red; or red, dog and runs
    "the red dog runs to the cat",
]


def comparison(text_tokens: Sequence[int] = (5,)) -> Comparison:
    return compare(CAPTIONS, load_tokenizer(), FIRST, SECOND, text_tokens)


def test_classes_are_counted_token_by_token() -> None:
    found = comparison()
    assert (found.num_captions, found.num_tokens) == (5, 2 + 5 + 6 + 7 + 7)
    assert found.confusion == [[9, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 13]]
    assert found.agreement == 22 / 27


def test_kept_tokens_are_counted_where_they_differ() -> None:
    found = comparison((5, 8, 77))
    assert {budget: (kept.num_longer, kept.num_other) for budget, kept in found.kept.items()} == {
        5: (4, 2),
        8: (2, 0),  # six tokens of seven: both leave the last of the others out
        77: (0, 0),
    }


def test_examples_are_the_words_that_each_keeps() -> None:
    found = comparison()
    (first, second) = found.examples
    assert first == second
    assert (first.caption, first.text_tokens) == (CAPTIONS[3], 5)
    assert (first.first, first.second) == ("red dog cat", "red dog runs")
    assert len(compare(CAPTIONS, load_tokenizer(), FIRST, SECOND, (5,), num_examples=1).examples) == 1


def test_more_captions_than_one_batch_are_all_counted() -> None:
    one = comparison()
    many = compare(CAPTIONS * 500, load_tokenizer(), FIRST, SECOND, (5,))
    assert (many.num_captions, many.kept[5].num_other) == (2500, one.kept[5].num_other * 500)
    assert many.confusion == [[500 * count for count in row] for row in one.confusion]
    assert many.agreement == one.agreement


def test_nothing_to_compare_is_no_division_by_zero() -> None:
    found = compare([], load_tokenizer(), FIRST, SECOND)
    assert (found.num_captions, found.agreement) == (0, 0.0)
    assert "0 captions" in report(found, ["first", "second"])


def test_the_report_tells_shares_of_all_and_of_the_longer() -> None:
    said = report(comparison(), ["first", "second"])
    assert "same class for 81.5% of the tokens" in said
    assert "at T = 5, 2 captions keep other tokens: 40.0% of all, 50.0% of the 4 with more tokens than 5" in said
    assert "first down, second across" in said


def test_a_text_file_is_read_clean(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes(b"A  dog &amp; a cat\r\n\n   \n\xff\xfe\n" + "schÃ¶n\n".encode())
    assert list(read_captions(str(path))) == ["A dog & a cat", "schön"]


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "captions.txt", tmp_path / "comparison.json"
    path.write_text("\n".join(f"a red dog sees {n} old cats behind the wooden door of a barn" for n in range(30)))
    main([str(path), "textblob", "textblob", "--json", str(out), "--limit", "20", "--text-tokens", "4", "8"])
    value = json.loads(out.read_text())
    assert (value["num_captions"], value["agreement"], value["examples"]) == (20, 1.0, [])
    assert value["kept"] == {"4": {"num_longer": 20, "num_other": 0}, "8": {"num_longer": 20, "num_other": 0}}
    assert [tagger["name"] for tagger in value["taggers"]] == ["textblob", "textblob"]
    assert "same class for 100.0% of the tokens" in capsys.readouterr().out


def test_mistakes_are_messages(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(UserError, match="wanted captions; there is none"):
        main([str(empty), "textblob", "textblob"])
    with pytest.raises(UserError, match="wanted 2 to 77, found 78"):
        main([str(empty), "textblob", "textblob", "--text-tokens", "78"])
    with pytest.raises(UserError, match="the classes of clip-nltk are NLTK's"):
        main([str(empty), "textblob", "textblob", "--tokenizer", "clip-nltk"])
    with pytest.raises(UserError, match="wanted a number from 0, found -1"):
        main([str(empty), "textblob", "textblob", "--limit", "-1"])
    with pytest.raises(UserError, match="wanted a store"):
        main([str(tmp_path), "textblob", "textblob"])


def test_a_store_gives_its_captions_in_the_order_of_its_rows(store: Store) -> None:
    found = list(read_captions(str(store.path)))
    assert len(found) == store.manifest.num_samples
    first = store.manifest.shards[0].shard
    assert found[0] == store.captions("original", first)[0][0]
