"""prep.verify on a small real store: what is whole passes, and every damage is found and named.

SHORTCLIP_FLIPS=N flips N bytes of every Arrow and parquet file instead of two; each takes about 0.1 s.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prep.errors import UserError
from prep.files import write_json
from prep.places import Folder
from prep.schemas import shard_file
from prep.verify import main, verify
from prep.verify_file import MAX_ROWS_NAMED

from .damage import NUM_ROWS, flip, found, rows_at, small_store, told

GOLDEN = Path(__file__).parent / "golden"
FLIPS = int(os.environ.get("SHORTCLIP_FLIPS", 2))
OUTSIDE = re.compile("header, footer, metadata or padding|an Arrow file|a record batch|wanted the columns|metadata is")
COLUMNS = (
    *("rows", "captions/original", "captions/synthetic", "tokens/original/clip", "tokens/synthetic/clip"),
    *("priorities/original/clip/spacy", "priorities/synthetic/clip/spacy", "16", "16-raw-crop0", "16-raw-crop1"),
)


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the small store, to damage."""
    return Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to damage and mend again."""
    return Path(shutil.copytree(small_store(tmp_path_factory), tmp_path_factory.mktemp("spare") / "store"))


def test_a_whole_store_passes(spare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(spare), "--decode", "--workers", "2"])
    said = capsys.readouterr().out
    assert said.startswith(f"OK: {sum(NUM_ROWS):,} samples, {len(COLUMNS)} columns, {2 * len(COLUMNS) + 2} files")
    assert said.count("\n") == 1


def test_stores_of_format_version_1_are_checked(tmp_path: Path) -> None:
    store = Path(shutil.copytree(GOLDEN / "store-v1", tmp_path / "store"))
    assert found(store, decode=True) == []
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        was = flip(path, path.stat().st_size // 2, 4)
        assert any(path.name in line for line in told(store)), path
        path.write_bytes(was)


def cases() -> Iterator[tuple[str, int]]:
    for seed in range(FLIPS):
        yield from ((shard_file(column, seed % 2), seed) for column in COLUMNS)
        yield shard_file("rejects", seed % 2), seed
    for column in COLUMNS:
        yield shard_file(f"records/{column}", 0), 0
    yield from ((name, seed) for seed in range(3 * FLIPS) for name in ("manifest.json", "plan.json"))


@pytest.mark.parametrize(("name", "seed"), list(cases()))
def test_a_flipped_byte_is_found_and_named(spare: Path, name: str, seed: int) -> None:
    path, draw = spare / name, random.Random(f"{name} {seed}")
    offset, mask = draw.randrange(path.stat().st_size), draw.randrange(1, 256)
    place = rows_at(path, offset, mask) if name.endswith(".arrow") else None
    was = flip(path, offset, mask)
    problems = found(spare)
    path.write_bytes(was)
    assert any(name in str(problem) for problem in problems), problems
    if name.endswith((".arrow", ".parquet")):
        assert all(problem.path == name for problem in problems), problems
    if place:
        assert {problem.batch for problem in problems[1:]} == {place[0]}
        assert {problem.row for problem in problems[1:]} <= place[1]
    elif name.endswith(".arrow"):
        assert OUTSIDE.search("\n".join(map(str, problems))), problems


def test_a_cut_a_missing_and_a_stray_file_are_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(store / "16" / "00000.arrow", 1000)
    (store / "rows" / "00001.arrow").unlink()
    (store / "records" / "16-raw-crop0" / "00000.json").unlink()
    (store / "16" / "notes.txt").write_text("mine")
    (store / "16" / ".00001.arrow.77.tmp").write_bytes(b"half")
    with pytest.raises(UserError, match="5 problems in 5 of its files"):
        main([str(store), "--workers", "1"])
    said = capsys.readouterr().out
    for line in (
        "16/notes.txt: a file that no account names",
        "16/.00001.arrow.77.tmp: a file that a killed program left half-written",
        "16/00000.arrow: wanted ",
        "rows/00001.arrow: it is missing",
        "records/16-raw-crop0/00000.json: it is missing",
    ):
        assert said.count(line) == 1


def test_files_that_changed_places_are_told(store: Path) -> None:
    a, b = store / "16-raw-crop0" / "00000.arrow", store / "16-raw-crop1" / "00000.arrow"
    a.rename(store / "a")
    b.rename(a)
    (store / "a").rename(b)
    said = told(store)
    assert len(said) == 2
    assert said[0].endswith("which is that of 16-raw-crop1/00000.arrow")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("records/16/00000.json", {"num_samples": 5}, "records/16/00000.json: says 16, 0, 5, where manifest.json says"),
        ("records/rows/00001.json", {"num_read": 7}, "records/rows/00001.json: says rows, 1, 5, 7, where"),
        ("records/16/00000.json", {"counts": {"num_kept": 3}}, "manifest.json: the counts of 16 are not the sums"),
        ("records/16/00001.json", {"files": []}, "records/16/00001.json: its files, their sizes or hashes are not"),
        ("records/16/00001.json", {"more": 1}, "records/16/00001.json: wanted the record of a column's shard"),
        ("manifest.json", {"num_samples": 3}, "manifest.json: not what plan.json and the records come to: num_samples"),
        ("manifest.json", {"rejects": {}}, "manifest.json: not what plan.json and the records come to: rejects"),
        ("manifest.json", {"fingerprint": "0"}, "plan.json: its fingerprint is "),
        ("plan.json", {"inputs": []}, "manifest.json: wanted the 0 inputs of plan.json"),
        ("plan.json", {"columns": {}}, "plan.json: the column 16 of manifest.json is not in it"),
    ],
)
def test_an_edited_account_is_told(store: Path, name: str, change: dict[str, Any], said: str) -> None:
    path = store / name
    write_json(path, {**json.loads(path.read_text()), **change})
    assert any(said in line for line in told(store))


def test_a_column_that_was_begun_and_not_finished_is_told(store: Path) -> None:
    plan = json.loads((store / "plan.json").read_text())
    plan["columns"]["32"] = plan["columns"]["16"]
    write_json(store / "plan.json", plan)
    assert told(store) == [
        "manifest.json: the column 32 of plan.json is not in it: run the prep.build command again that began to add it"
    ]


def test_a_file_damaged_all_over_is_told_in_a_few_lines(store: Path) -> None:
    path = store / "16-raw-crop0" / "00000.arrow"
    was = bytearray(path.read_bytes())
    was[200_000:400_000] = bytes(200_000)
    path.write_bytes(was)
    said = told(store)
    assert MAX_ROWS_NAMED < len(said) < MAX_ROWS_NAMED + 4
    assert re.search(r"batch 0: \d+ of its 1,024 rows are not as they were written", "\n".join(said))


def test_processes_and_a_store_at_a_url_find_the_same(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(store / "tokens" / "synthetic" / "clip" / "00000.arrow", 40_000, 1)
    here = found(store)
    assert len(here) == 2
    there = Folder.of("memory://verified")
    for path in (path for path in store.rglob("*") if path.is_file()):
        with there.written(path.relative_to(store).as_posix()) as file:
            file.write(path.read_bytes())
    assert list(verify(there).problems) == here
    monkeypatch.setattr("prep.verify._BYTES_A_WORKER", 1 << 20)  # as if the store were large
    assert list(verify(Folder.of(store), 2).problems) == here


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no manifest\.json in it"):
        main([str(tmp_path)])
