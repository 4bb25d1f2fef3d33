"""A small store to damage: a shard of two record batches and one of a few rows, every kind of column, two rejects.

The map from a byte of its files to its rows is made here from Arrow's own buffers, apart from what the checks use.
"""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from prep import build_options
from prep.build import build
from prep.errors import UserError
from prep.files import hash_file, write_json
from prep.places import Folder
from prep.row_hash import hash_rows
from prep.schemas import ROWS_PER_BATCH
from prep.verify import verify
from prep.verify_file import Problem

from .conftest import once
from .tar_files import tar_of

NUM_ROWS = (ROWS_PER_BATCH + 3, 5)
"""Of the two shards."""

WORDS = ("red", "square", "running", "happily", "dog", "under", "7", "trees")
Rows = frozenset[int]


def small_store(factory: pytest.TempPathFactory) -> Path:
    """The store, made once for all workers of a test run, to be left as it is."""
    return once(factory, "small_store", make_small_store)[0]


def make_small_store(out: Path) -> str:
    """At 16 px, with a crop bank of two; every third image has two original captions, every fifth has no synthetic one.

    Everything is built in this process: starting others would take most of the time.
    """
    tars = out.with_name(f"{out.name}-tars")
    shutil.rmtree(tars, ignore_errors=True)
    tars.mkdir(parents=True)
    for number, count in enumerate(NUM_ROWS):
        members = [("bad.jpg", b"no image"), ("bad.json", b'{"original": "no"}')]
        for row in range(count):
            key = f"{number}-{row:04d}"
            caption = " ".join(WORDS[(row + number + step) % len(WORDS)] for step in range(2 + row % 6))
            facts: dict[str, object] = {"original": [caption, "another"] if row % 3 == 0 else caption}
            facts |= {} if row % 5 == 0 else {"synthetic": f"a {WORDS[row % 8]}"}
            members += [(f"{key}.png", picture(row, number)), (f"{key}.json", json.dumps(facts).encode())]
        (tars / f"{number}.tar").write_bytes(tar_of(members))
    captions = ["--captions", "original=json:original", "synthetic=json:synthetic"]
    common = ["--input", str(tars / "*.tar"), "--out", str(out), *captions, "--res", "16"]
    for options in ([], ["--crops", "2", "--encoding", "raw"]):
        asked = build_options.parse([*common, *options], "")
        engine = replace(asked.engine, limits=replace(asked.engine.limits, supervise=False))
        build(replace(asked, engine=engine))
    return "built"


def picture(row: int, number: int) -> bytes:
    pixels = np.full((20, 24, 3), (row % 256, 40 * number, 200), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def found(store: Path, **how: bool) -> list[Problem]:
    """What prep.verify finds, a manifest that cannot be read included."""
    try:
        return list(verify(Folder.of(store), **how).problems)
    except UserError as error:
        return [Problem(Path(error.place).relative_to(store).as_posix(), error.problem)]


def told(store: Path) -> list[str]:
    return [str(problem) for problem in found(store)]


def rewrite(store: Path, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write an Arrow file anew with other values, its rows' hashes and all accounts agreeing with them."""
    table = change(pa.ipc.open_file(path.read_bytes()).read_all()).combine_chunks()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        for batch in table.to_batches(max_chunksize=1024):
            copied = pa.record_batch([pa.concat_arrays([column]) for column in batch.columns], schema=table.schema)
            columns = [*copied.columns[:-1], pa.array(hash_rows(copied))]
            writer.write_batch(pa.record_batch(columns, schema=table.schema))
    name = path.relative_to(store).as_posix()
    for account in [store / "manifest.json", *(store / "records").rglob("*.json")]:
        value = json.loads(account.read_text())
        for files in [value.get("files", []), *(column["files"] for column in value.get("columns", {}).values())]:
            for file in files:
                if file["path"] == name:
                    file |= {"num_bytes": path.stat().st_size, "xxh3": hash_file(path)}
        write_json(account, value)


def flip(path: Path, offset: int, mask: int) -> bytes:
    """Change a byte of a file in place; returns the file as it was."""
    was = path.read_bytes()
    path.write_bytes(was[:offset] + bytes([was[offset] ^ mask]) + was[offset + 1 :])
    return was


def rows_at(path: Path, offset: int, mask: int) -> tuple[int, Rows] | None:
    """The record batch, and its rows, that bits of a byte of an Arrow file belong to; None when outside of all rows."""
    data = pa.py_buffer(path.read_bytes())
    reader = pa.ipc.open_file(pa.BufferReader(data))
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        for column in batch.columns:
            found = _rows_in(column, data.address + offset, mask, lambda row: row)
            if found:
                return number, frozenset(found)
    return None


def _rows_in(column: pa.Array, address: int, mask: int, row_of: Callable[[int], int]) -> Iterator[int] | set[int]:
    """Rows with a part at an address. row_of: the row of each item of the column."""
    kind, buffers, count = column.type, column.buffers(), len(column)
    if pa.types.is_fixed_size_list(kind):
        return _rows_in(column.values, address, mask, lambda item: row_of(item // kind.list_size))
    if pa.types.is_boolean(kind):
        items = [8 * (address - buffers[1].address) + bit for bit in range(8) if mask >> bit & 1]
        return {row_of(item) for item in items if 0 <= item < count}
    if pa.types.is_integer(kind):
        item = (address - buffers[1].address) * 8 // kind.bit_width
        return {row_of(item)} if 0 <= item < count else set()
    width = 8 if pa.types.is_large_binary(kind) else 4
    offsets = np.frombuffer(buffers[1], f"<i{width}")[: count + 1] if count else np.zeros(1, np.int64)
    if count and 0 <= (place := (address - buffers[1].address) // width) <= count:
        return {row_of(item) for item in (place - 1, place) if 0 <= item < count}
    owner = np.repeat(np.arange(count), np.diff(offsets))
    if pa.types.is_list(kind):
        return _rows_in(column.values, address, mask, lambda item: row_of(int(owner[item])))
    place = address - buffers[2].address if buffers[2] is not None else -1
    return {row_of(int(owner[place]))} if 0 <= place < len(owner) else set()


def first_byte_of(path: Path, number: int, row: int) -> int:
    """Where in an Arrow file the first value of a row's first column begins: an image, a caption's token ids."""
    data = pa.py_buffer(path.read_bytes())
    column = pa.ipc.open_file(pa.BufferReader(data)).get_batch(number).column(0)
    if pa.types.is_list(column.type):
        item = column.type.value_type
        place = column.offsets[row].as_py() * item.list_size * item.value_type.bit_width // 8
    else:
        place = int(np.frombuffer(column.buffers()[1], np.int64)[row])
    return int(column.buffers()[-1].address - data.address + place)
