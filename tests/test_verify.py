"""prep.verify on a small real store: what is whole passes, and every damage is found and named."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from prep.errors import UserError
from prep.places import Folder
from prep.row_hash import hash_rows
from prep.schemas import shard_file
from prep.verify import main, verify
from prep.verify_file import MAX_ROWS_NAMED, Problem

from .conftest import once
from .damage import NUM_ROWS, flip, make_small_store, rows_at

GOLDEN = Path(__file__).parent / "golden"
COLUMNS = (
    *("rows", "captions/original", "captions/synthetic", "tokens/original/clip", "tokens/synthetic/clip"),
    *("priorities/original/clip/spacy", "priorities/synthetic/clip/spacy", "16", "16-raw-crop0", "16-raw-crop1"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, to be left as it is."""
    return Path(os.environ["S"]) if "S" in os.environ else once(tmp_path_factory, "small_store", make_small_store)[0]


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


@pytest.fixture(scope="module")
def spare(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to damage and mend again."""
    return Path(shutil.copytree(whole, tmp_path_factory.mktemp("spare") / "store"))


def found(store: Path, **how: bool) -> list[Problem]:
    return list(verify(Folder.of(store), **how).problems)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write an Arrow file anew with other values, each row with the hash of its new values."""
    table = change(pa.ipc.open_file(path.read_bytes()).read_all()).combine_chunks()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        for batch in table.to_batches(max_chunksize=1024):
            columns = [*batch.columns[:-1], pa.array(hash_rows(batch))]
            writer.write_batch(pa.record_batch(columns, schema=table.schema))


def account_for(store: Path, path: Path) -> None:
    """Make the accounts agree with a file that was written anew."""
    name = path.relative_to(store).as_posix()
    for account in [store / "manifest.json", *(store / "records").rglob("*.json")]:
        value = json.loads(account.read_text())
        for files in [value.get("files", []), *(column["files"] for column in value.get("columns", {}).values())]:
            for file in files:
                if file["path"] == name:
                    file |= {"num_bytes": path.stat().st_size, "xxh3": xxhash.xxh3_64_hexdigest(path.read_bytes())}
        account.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def test_a_whole_store_passes(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(whole), "--decode", "--workers", "2"])
    said = capsys.readouterr().out
    assert said.startswith(f"OK: {sum(NUM_ROWS):,} samples, {len(COLUMNS)} columns, {2 * len(COLUMNS) + 2} files")
    assert said.count("\n") == 1


def test_stores_of_format_version_1_are_checked(tmp_path: Path) -> None:
    store = Path(shutil.copytree(GOLDEN / "store-v1", tmp_path / "store"))
    assert found(store, decode=True) == []
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        was = flip(path, path.stat().st_size // 2, 4)
        assert any(path.name in str(problem) for problem in problems_or_error(store)), path
        path.write_bytes(was)


def problems_or_error(store: Path) -> list[str]:
    try:
        return [str(problem) for problem in found(store)]
    except UserError as error:  # a manifest that is none
        return [str(error)]


def cases() -> Iterator[tuple[str, int]]:
    for seed in range(3):
        for column in COLUMNS:
            yield shard_file(column, seed % 2), seed
            if seed < 1:
                yield shard_file(f"records/{column}", seed), seed
        yield shard_file("rejects", seed % 2), seed
    for seed in range(8):
        yield from (("manifest.json", seed), ("plan.json", seed))


@pytest.mark.parametrize(("name", "seed"), list(cases()))
def test_a_flipped_byte_is_found_and_named(spare: Path, name: str, seed: int) -> None:
    path, draw = spare / name, random.Random(f"{name}{seed}")
    offset, mask = draw.randrange(path.stat().st_size), draw.randrange(1, 256)
    expected = rows_at(path, offset, mask) if name.endswith(".arrow") else None
    was = flip(path, offset, mask)
    try:
        said = problems_or_error(spare)
        assert any(line.startswith((f"{name}", f"{spare}/{name}")) for line in said), said
        assert name in ("manifest.json", "plan.json") or all(name in line for line in said)
        if expected:
            batch, rows = expected
            named = [p for p in found(spare) if p.row is not None]
            assert named
            assert {(problem.path, problem.batch) for problem in named} == {(name, batch)}
            assert {problem.row for problem in named} <= rows
        elif name.endswith(".arrow"):
            assert any("header, footer, metadata or padding" in line or "batch" in line or "Arrow" in line for line in said)
    finally:
        path.write_bytes(was)
