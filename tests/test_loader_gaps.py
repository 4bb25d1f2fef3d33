"""Stores with gaps: caption sources that have nothing for a whole shard, and damage in a part of what a row has."""

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest

from pipelines.contract import Batch, Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.build import main as build_main
from prep.errors import UserError
from prep.store import Store, open_store

from .damage import NUM_ROWS, first_byte_of, flip, small_store
from .image_files import photo, save
from .tar_files import tar_of

BUDGET = TokenBudget(16, 8)


def take(draws: Draws, num: int) -> list[Batch]:
    return list(islice(TorchLoader(draws), num))


def test_a_source_without_any_caption_in_a_shard_leaves_the_other(tmp_path: Path) -> None:
    for shard in (0, 1):
        members = []
        for i in range(6):
            facts = {"blip": [f"a drawn thing {i}"] if shard == 0 else []}
            members += [
                (f"{shard}-{i}.jpg", save(photo(), "JPEG")),
                (f"{shard}-{i}.txt", f"a picture of {i} dogs".encode()),
                (f"{shard}-{i}.json", json.dumps(facts).encode()),
            ]
        (tmp_path / f"{shard}.tar").write_bytes(tar_of(members))
    options = ["--res", "16", "--captions", "original=txt", "made=json:blip", "--tagger", "textblob", "--workers", "0"]
    build_main(["--input", str(tmp_path / "*.tar"), "--out", str(tmp_path / "store"), *options])
    store = open_store(tmp_path / "store")
    (batch,) = take(Draws((store,), BUDGET, 12, 0, captions={"original": 1.0, "made": 1000.0}), 1)
    (plain,) = take(Draws((store,), BUDGET, 12, 0, captions={"original": 1.0}), 1)
    for row, tokens, original in zip(batch.index.tolist(), batch.tokens.tolist(), plain.tokens.tolist(), strict=True):
        assert (tokens == original) == (row >= 6)


def test_a_row_without_a_caption_in_any_source_is_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As after a caption folder was removed: of the others, none has to have a caption for every image."""
    path = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["columns"] = {name: one for name, one in manifest["columns"].items() if "/original" not in name}
    (path / "manifest.json").write_text(json.dumps(manifest))
    draws = Draws((open_store(path),), BUDGET, sum(NUM_ROWS), 0)
    with pytest.raises(UserError, match="none of the caption sources has one for it"):
        take(draws, 1)


@pytest.fixture
def half_damaged(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two rows are damaged in the second crop of the bank, and two others in one of the caption sources."""
    path = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))
    for row in (2, 3):
        file = path / "16-raw-crop1" / "00001.arrow"
        flip(file, first_byte_of(file, 0, row), 1)
    for row in (7, 11):
        file = path / "priorities" / "synthetic" / "clip" / "spacy" / "00000.arrow"
        flip(file, first_byte_of(file, 0, row), 1)
    return open_store(path)


def test_what_replaces_a_sample_does_not_depend_on_what_was_seen_before(half_damaged: Store) -> None:
    size = sum(NUM_ROWS)
    draws = Draws((half_damaged,), BUDGET, size, 0, crops="bank", replace_damaged=True)
    through = take(draws, 4)
    for epoch in range(4):
        (alone,) = take(Draws(**{**vars(draws), "samples_seen": epoch * size}), 1)
        assert alone.index.tolist() == through[epoch].index.tolist()
    assert set(range(NUM_ROWS[0] + 2, NUM_ROWS[0] + 4)) <= set(through[0].index.tolist()), "the first crop is whole"
    assert not set(range(NUM_ROWS[0] + 2, NUM_ROWS[0] + 4)) & set(through[1].index.tolist())


@pytest.mark.parametrize("world", [1, 4])
def test_and_not_on_the_number_of_ranks(half_damaged: Store, world: int) -> None:
    size = sum(NUM_ROWS)
    draws = Draws((half_damaged,), BUDGET, size, 0, replace_damaged=True, shuffle_captions=True)
    (whole,) = take(draws, 1)
    parts = [take(Draws(**{**vars(draws), "rank": rank, "world": world}), 1)[0] for rank in range(world)]
    assert [row for part in parts for row in part.index.tolist()] == whole.index.tolist()
