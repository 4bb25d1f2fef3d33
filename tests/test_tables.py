"""Parquet files and Arrow streams: columns of every type that can serve, flat memory, and no damage in silence."""

import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.errors import UserError
from prep.pairs import Pair, Reject
from prep.sources import Part, SourceOptions, list_parts, read_part
from tests.tar_files import captions_of, held, original, outline

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WORDS = pa.array(["a", "b", "a"], pa.string())


def table_of(**columns: pa.Array) -> pa.Table:
    return pa.table(columns)


def numbered(num_rows: int, num_bytes: int = 3) -> pa.Table:
    images = pa.array([b"%0*d" % (num_bytes, i) for i in range(num_rows)], pa.binary())
    return table_of(image=images, text=pa.array([f"t{i}" for i in range(num_rows)], pa.string()))


def write_arrow(table: pa.Table, path: Path, rows_per_batch: int = 10, kind: str = "stream") -> None:
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table, rows_per_batch)


def read(path: Path, options: SourceOptions | None = None) -> list[Pair | Reject]:
    options = options or SourceOptions()
    parts = list_parts([str(path)], options)
    return held((item for part in parts for item in read_part(part, options)), path.name)


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view"])
def test_embedded_bytes(tmp_path: Path, kind: str) -> None:
    images = pa.array([b"one", None, b"12345"], getattr(pa, kind)())
    captions = pa.array([["x", None, "y"], ["x"], ["x"]], pa.list_(pa.string()))
    error = pa.array([None, "HTTP Error 404\n", None], pa.string())
    table = table_of(key=pa.array([1, 2, 3], pa.uint32()), jpg=images, captions=captions, error_message=error)
    pq.write_table(table, tmp_path / "x.parquet")
    results = read(tmp_path / "x.parquet", SourceOptions(max_image_bytes=4))
    assert outline(results) == [("1", "pair"), ("2", "image_missing"), ("3", "image_too_large")]
    assert results[0] == Pair("1", b"one", original(b"x", b"y"), "x.parquet")
    assert isinstance(results[1], Reject)
    assert "HTTP Error 404\\n" in results[1].detail


def test_hugging_faces_struct_holds_bytes_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    images = [{"bytes": b"inside", "path": "/gone"}, {"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": None}]
    images += [{"bytes": None, "path": "/etc/passwd"}, None]
    table = table_of(image=pa.array(images, STRUCT), text=pa.array(["x"] * 5, pa.string()))
    wanted = ["pair", "pair", "image_missing", "unsafe_name", "image_missing"]
    pq.write_table(table, tmp_path / "x.parquet")
    write_arrow(table, tmp_path / "x.arrow")
    for name in ("x.parquet", "x.arrow"):
        results = read(tmp_path / name)
        assert [what for _, what in outline(results)] == wanted
        assert [result.image for result in results if isinstance(result, Pair)] == [b"inside", b"file"]


@pytest.mark.parametrize(
    "column",
    [
        WORDS,
        WORDS.cast(pa.large_string()),
        WORDS.cast(pa.string_view()),
        WORDS.dictionary_encode(),
        pa.array([["a"], ["b"], ["a"]], pa.list_(pa.string())),
        pa.array([["a"], ["b"], ["a"]], pa.large_list(pa.large_string())),
        pa.array([["a"], ["b"], ["a"]], pa.list_(pa.string(), 1)),
    ],
    ids=lambda column: str(column.type)[:24],
)
def test_captions_of_every_type(tmp_path: Path, column: pa.Array) -> None:
    table = table_of(image=pa.array([b"1", b"2", b"3"], pa.binary()), text=column)
    pq.write_table(table, tmp_path / "x.parquet")
    write_arrow(table, tmp_path / "x.arrow")
    for name in ("x.parquet", "x.arrow"):
        assert captions_of(read(tmp_path / name)) == [original(b"a"), original(b"b"), original(b"a")]


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"image": pa.array([1]), "text": pa.array(["x"], pa.string())}, "wanted images, or their paths.*int64"),
        ({"image": pa.array([b""]), "text": pa.array([1.5])}, "wanted strings.*double"),
        ({"image": pa.array([b""]), "text": pa.array([b"x"])}, "wanted strings.*binary"),
        ({"image": pa.array([b""]), "text": pa.array(["x"]), "key": pa.array([1.5])}, "whole numbers.*double"),
        ({"image": pa.array(["http://x/"]), "text": pa.array(["x"])}, "prep.fetch"),
    ],
)
def test_types_that_cannot_serve_are_named(tmp_path: Path, columns: dict[str, pa.Array], wanted: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=wanted):
        read(tmp_path / "x.parquet")


def test_bytes_that_are_not_utf8_stay_what_they_are(tmp_path: Path) -> None:
    texts = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    table = table_of(key=texts, image=pa.array([b"1"], pa.binary()), text=texts)
    pq.write_table(table, tmp_path / "x.parquet")
    write_arrow(table, tmp_path / "x.arrow")
    for name in ("x.parquet", "x.arrow"):
        assert read(tmp_path / name) == [Pair("caf\\xe9", b"1", original(b"caf\xe9"), name)]


@pytest.mark.parametrize("rows_per_shard", [1, 7, 10, 25, 100, 1000])
def test_parts_are_the_whole(tmp_path: Path, rows_per_shard: int) -> None:
    table = numbered(95)
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=20)
    write_arrow(table, tmp_path / "x.arrow")
    write_arrow(table, tmp_path / "y.arrow", kind="file")
    for name in ("x.parquet", "x.arrow", "y.arrow"):
        parts = list_parts([str(tmp_path / name)], SourceOptions(rows_per_shard=rows_per_shard))
        results = [list(read_part(part, SourceOptions())) for part in parts]
        assert max(map(len, results)) <= rows_per_shard
        keys = [(result.key, getattr(result, "image", None)) for part in results for result in part]
        assert keys == [(f"{name[0]}-{i:09d}", b"%03d" % i) for i in range(95)]
    # Row groups are kept whole where they go in, so that none is read twice.
    parts = list_parts([str(tmp_path / "x.parquet")], SourceOptions(rows_per_shard=50))
    assert [(part.first, part.last) for part in parts] == [(0, 40), (40, 80), (80, 95)]


def test_a_cut_stream_is_noticed_wherever_it_falls(tmp_path: Path) -> None:
    write_arrow(numbered(25), tmp_path / "x.arrow")
    data = (tmp_path / "x.arrow").read_bytes()
    assert len(read(tmp_path / "x.arrow")) == 25
    for cut in range(0, len(data), 23):
        (tmp_path / "x.arrow").write_bytes(data[:cut])
        for rows_per_shard in (1000, 10):
            results = read(tmp_path / "x.arrow", SourceOptions(rows_per_shard=rows_per_shard))
            assert outline(results)[-1] == ("", "source_cut"), cut
            assert [result.key for result in results[:-1]] == [f"x-{i:09d}" for i in range(len(results) - 1)]
            assert len(results) - 1 in (0, 10, 20, 25)


def test_a_cut_parquet_file_is_one_reject(tmp_path: Path) -> None:
    pq.write_table(numbered(25), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    for damaged in (b"", data[:1], data[:-1], data[: len(data) // 2], b"PAR1" + bytes(100) + b"PAR1"):
        (tmp_path / "x.parquet").write_bytes(damaged)
        assert outline(read(tmp_path / "x.parquet")) == [("", "source_cut")]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_damage_ends_in_rejects(tmp_path: Path, name: str) -> None:
    table = table_of(key=pa.array(map(str, range(40)), pa.string()), **{c: numbered(40)[c] for c in ("image", "text")})
    path = tmp_path / name
    pq.write_table(table, path) if name == "x.parquet" else write_arrow(table, path)
    data, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        damaged = np.frombuffer(data, np.uint8).copy()
        places = random.integers(0, len(data), random.integers(1, 5))
        damaged[places] = random.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        with suppress(UserError):  # of another name or type of a column, another number of rows
            assert len(read(path)) <= 41


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_memory_is_flat(tmp_path: Path, name: str) -> None:
    table = numbered(400, 100_000)
    path = tmp_path / name
    if name == "x.parquet":
        pq.write_table(table, path, write_batch_size=16, use_dictionary=False)  # one row group
    else:
        write_arrow(table, path, 400)
    before = pa.total_allocated_bytes()
    peak, num_rows = 0, 0
    tracemalloc.start()
    try:
        for _ in read_part(Part("table", str(path), name, 0), SourceOptions()):
            peak, num_rows = max(peak, pa.total_allocated_bytes() - before), num_rows + 1
        assert max(peak, tracemalloc.get_traced_memory()[1]) < 24 << 20
    finally:
        tracemalloc.stop()
    assert num_rows == 400


def test_the_options_and_parts_pickle_and_are_small(tmp_path: Path) -> None:
    pickle = pytest.importorskip("pickle")
    write_arrow(numbered(5), tmp_path / "x.arrow")
    saved: Any = pickle.loads(pickle.dumps((list_parts([str(tmp_path / "x.arrow")], SourceOptions()), SourceOptions())))
    assert len(list(read_part(saved[0][0], saved[1]))) == 5
