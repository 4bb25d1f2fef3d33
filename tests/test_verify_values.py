"""prep.verify where every hash fits, but what was written is not what a build writes: by value, and by column."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prep.schemas import schema_of
from prep.verify_values import odd_values
from prep.word_masks import WORD_GOES_ON

from .damage import NUM_ROWS, found, rewrite, small_store, told


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the small store, to damage."""
    return Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))


def with_value(table: pa.Table, column: str, row: int, change: Callable[[Any], Any]) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = change(values[row])
    field = table.schema.field(column)
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))


def cut_short(ranks: list[int]) -> list[int]:
    """The priorities of a caption as if it had a token less."""
    end = ranks.index(255)
    return [*ranks[: end - 2], 0, 255, *ranks[end:]]


def test_rows_in_another_order_are_told_even_when_every_hash_fits(store: Path) -> None:
    path = store / "tokens" / "original" / "clip" / "00000.arrow"
    order = [0, 2, 1, *range(3, NUM_ROWS[0])]
    rewrite(store, path, lambda table: table.take(order))
    said = told(store)
    place = "tokens/original/clip/00000.arrow, batch 0, row 1 of the batch"
    assert f"{place}: the key is not that of the same row in rows/00000.arrow" in said


def test_captions_that_do_not_belong_together_are_told(store: Path) -> None:
    """One caption's token ids and priorities are lost, its text is not; another's priorities are one too few."""
    tokens, priorities = (
        store / name / "00001.arrow" for name in ("tokens/original/clip", "priorities/original/clip/spacy")
    )
    rewrite(store, tokens, lambda table: with_value(table, "tokens", 3, lambda own: own[:0]))
    rewrite(
        store, priorities, lambda table: with_value(table, "priorities", 0, lambda own: [cut_short(own[0]), *own[1:]])
    )
    said = "\n".join(told(store))
    assert "tokens/original/clip/00001.arrow, batch 0, row 3 of the batch: wanted as many numbers of tokens" in said
    assert "row 3 of the batch: the number of captions is not that of the same row in captions/original" in said
    assert "row 0 of the batch: the number of tokens is not that of the same row in tokens/original/clip" in said


BAD_VALUES: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("tokens/original/clip", "tokens", lambda own: [[7, *own[0][1:]], *own[1:]], "start of text"),
    ("tokens/original/clip", "tokens", lambda own: [[*own[0][:-1], 7], *own[1:]], "padding of 0"),
    ("tokens/original/clip", "num_tokens", lambda own: [own[0] + 1, *own[1:]], "the number of tokens"),
    (
        "priorities/original/clip/spacy",
        "priorities",
        lambda own: [[5 if p == 4 else p for p in own[0]]],
        "priorities 0",
    ),
    (
        "priorities/original/clip/spacy",
        "priorities",
        lambda own: [[p + WORD_GOES_ON if p == 4 else p for p in own[0]]],  # only of words as NLTK splits them
        "priorities 0",
    ),
    ("captions/original", "captions", lambda own: ["", *own[1:]], "not empty"),
    ("16", "width", lambda own: 0, "at least one pixel"),
    ("16", "image", lambda own: b"GIF89a", "a JPEG"),
    ("16", "image", lambda own: own[:-40] + bytes(40), "a whole JPEG, but"),
    ("16", "height", lambda own: own + 1, "an image of"),
    ("16-raw-crop0", "width", lambda own: own + 1, "width x height x 3 bytes"),
    ("rows", "original_width", lambda own: 0, "an original of at least one pixel"),
]


@pytest.mark.parametrize(("folder", "column", "change", "said"), BAD_VALUES)
def test_values_that_no_build_writes_are_told(
    store: Path, folder: str, column: str, change: Callable[[Any], Any], said: str
) -> None:
    rewrite(store, store / folder / "00001.arrow", lambda table: with_value(table, column, 2, change))
    problems = found(store, decode=folder == "16")
    place = (f"{folder}/00001.arrow", 0, 2)
    assert any((p.path, p.batch, p.row) == place and said in p.what for p in problems), problems


@pytest.mark.parametrize(("ranks", "is_odd"), [([0, 4, 20, 17, 0], False), ([0, 4, 21, 0], True), ([0, 16, 0], True)])
def test_of_nltks_words_a_priority_may_say_that_a_word_goes_on(ranks: list[int], is_odd: bool) -> None:
    padded = [[*ranks, *[255] * (77 - len(ranks))]]
    schema = schema_of("priorities", {})
    batch = pa.RecordBatch.from_pylist([{"priorities": padded, "key": "a", "hash": 0}], schema=schema)
    assert bool(odd_values(batch, {"priorities": {"tokenizer_name": "clip-nltk"}})) is is_odd
    assert odd_values(batch, {"priorities": {"tokenizer_name": "clip"}})
