"""A hash for each row of a record batch: what tells a flipped byte's row, to `prep.verify` and to a loader.

xxh3-64 over the row's columns in the order of the schema, `hash` itself left out: fixed-width values as their
little-endian bytes, fixed-size lists as those of their items, booleans as one byte, strings and binaries as their
length (uint64, little-endian) and their bytes, lists as the number of their items (the same) and the items, each by
these rules.

Only the buffers are read, and a slice outside of them is short: offsets that were damaged give another hash, no crash.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

PartOf = Callable[[int], bytes]
"""The bytes that a row of a column adds to its hash."""


class RowHasher:
    """Hashes single rows of a record batch that has no nulls. Raises TypeError for a type that no store holds."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        names = [name for name in batch.schema.names if name != "hash"]
        self._parts = [_part_of(batch.column(name)) for name in names]

    def __call__(self, row: int) -> int:
        """The hash of one row."""
        return xxhash.xxh3_64_intdigest(b"".join([part(row) for part in self._parts]))


def hash_rows(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """uint64 [N] for a record batch of N rows, whether or not it has its `hash` column already."""
    hasher = RowHasher(batch)
    return np.array([hasher(row) for row in range(len(batch))], np.uint64)


def damaged_rows(batch: pa.RecordBatch, rows: Iterable[int]) -> list[int]:
    """Those of `rows` whose `hash` is not that of their other columns."""
    hasher = RowHasher(batch)
    stored = np.frombuffer(batch.column("hash").buffers()[1], np.uint64)
    return [row for row in rows if hasher(row) != int(stored[row])]


def _part_of(column: pa.Array) -> PartOf:
    kind = column.type
    if pa.types.is_list(kind):
        return _list_part(column)
    if pa.types.is_large_binary(kind) or pa.types.is_string(kind):
        offsets, data = _offsets(column, 8 if pa.types.is_large_binary(kind) else 4), _bytes(column.buffers()[2])
        # The length that the offsets tell, which may reach beyond what is there.
        return lambda row: _count(offsets[row + 1] - offsets[row]) + bytes(data[offsets[row] : offsets[row + 1]])
    width = _width(kind)
    if width is None:
        if not pa.types.is_boolean(kind):
            raise TypeError(f"no hash is defined for {kind}")
        return lambda row: bytes([column[row].as_py()])
    raw, start = _values(column)
    return lambda row: bytes(raw[(start + row) * width : (start + row + 1) * width])


def _list_part(column: pa.Array) -> PartOf:
    offsets, items, width = _offsets(column, 4), column.values, _width(column.type.value_type)
    if width is not None:
        raw, _ = _values(items)
        return lambda row: (
            _count(offsets[row + 1] - offsets[row]) + bytes(raw[offsets[row] * width : offsets[row + 1] * width])
        )
    part, num_items = _part_of(items), len(items)

    def joined(row: int) -> bytes:
        start, end = offsets[row], offsets[row + 1]
        within = range(max(start, 0), min(end, num_items))
        return _count(end - start) + b"".join([part(item) for item in within])

    return joined


def _width(kind: pa.DataType) -> int | None:
    """Bytes of a fixed-width value; None when it has no such width, or is smaller than a byte."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * int(kind.value_type.bit_width // 8)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return int(kind.bit_width // 8)
    return None


def _values(column: pa.Array) -> tuple[memoryview, int]:
    """The bytes of a fixed-width column's values, and the place of its first."""
    return _bytes(column.buffers()[-1]), column.offset


def _bytes(buffer: pa.Buffer | None) -> memoryview:
    return memoryview(buffer if buffer is not None else b"")


def _offsets(column: pa.Array, width: int) -> list[int]:
    found: list[int] = np.frombuffer(column.buffers()[1], f"<i{width}")[column.offset :].tolist()
    return found[: len(column) + 1] if found else [0]


def _count(number: int) -> bytes:
    return (number % 2**64).to_bytes(8, "little")
