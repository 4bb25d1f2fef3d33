"""Other people's readers open a store: those that prep/FORMAT.md shows, as it shows them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest

from prep.store import Store, open_store

from .conftest import once
from .format_page import blocks
from .varied_store import NUM_ROWS, make_varied_store

READERS = ("pyarrow", "datasets", "polars", "duckdb")


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(once(tmp_path_factory, "varied", lambda out: str(make_varied_store(out)))[0] / "store")


@pytest.mark.parametrize("name", READERS)
def test_the_readers_on_the_page_join_images_and_captions(
    varied: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(varied.path.parent)
    room: dict[str, Any] = {}
    exec(blocks()["reader: pyarrow"], room)
    if name != "pyarrow":
        del room["rows"]
        exec(blocks()[f"reader: {name}"], room)
    wanted = []
    for shard in varied.manifest.shards:
        images = varied.open_shard("16", shard.shard).read_all().column("image").to_pylist()
        wanted += list(zip(map(len, images), varied.captions("original", shard.shard), strict=True))
    assert [(size, list(captions)) for size, captions in room["rows"]] == wanted


def test_the_plain_reader_has_about_ten_lines() -> None:
    assert len([line for line in blocks()["reader: pyarrow"].splitlines() if line.strip()]) <= 10


def count_with_datasets(folder: Path) -> int:
    datasets = pytest.importorskip("datasets")
    table = pyarrow.dataset.dataset(folder, format="ipc").to_table()
    return len(datasets.Dataset(table).with_format("numpy"))


def count_with_polars(folder: Path) -> int:
    return int(pytest.importorskip("polars").scan_ipc(folder / "*.arrow").collect().height)


def count_with_duckdb(folder: Path) -> int:
    duckdb = pytest.importorskip("duckdb")
    table = pyarrow.dataset.dataset(folder, format="ipc")
    return int(duckdb.from_arrow(table).aggregate("count(DISTINCT key)").fetchall()[0][0])


@pytest.mark.parametrize("count", [count_with_datasets, count_with_polars, count_with_duckdb])
def test_every_column_opens(varied: Store, count: Callable[[Path], Any]) -> None:
    for folder in varied.manifest.columns:
        assert count(varied.path / folder) == sum(NUM_ROWS), folder
