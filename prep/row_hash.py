"""A hash for each row of a record batch: what tells a flipped byte's row, to `prep.verify` and to a loader.

xxh3-64 over the row's columns in the order of the schema, `hash` itself left out: fixed-width values as their
little-endian bytes, fixed-size lists as those of their items, strings and binaries as their length (uint64,
little-endian) and their bytes, lists as the number of their items (the same) and the items, each by these rules.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

Parts = Sequence[bytes | memoryview]
"""One piece of each row's bytes."""


def hash_rows(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """uint64 [N] for a record batch of N rows without nulls, whether or not it has its `hash` column already."""
    columns = [column_parts(batch.column(name)) for name in batch.schema.names if name != "hash"]
    return np.array([xxhash.xxh3_64_intdigest(b"".join(row)) for row in zip(*columns, strict=True)], np.uint64)


def column_parts(column: pa.Array) -> Parts:
    """The bytes that each row of a column adds to its hash. Raises TypeError for a type that no store holds."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size * (kind.value_type.bit_width // 8)
        return _slices(column.flatten(), width, len(column))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _slices(column, kind.bit_width // 8, len(column))
    if pa.types.is_boolean(kind):
        return [bytes([value]) for value in column.to_pylist()]
    if pa.types.is_list(kind):
        return _list_parts(column)
    if pa.types.is_large_binary(kind) or pa.types.is_string(kind):
        offsets, data = _variable(column)
        view = memoryview(data)
        ends = offsets.tolist()
        return [_length(end - start) + view[start:end] for start, end in zip(ends, ends[1:], strict=False)]
    raise TypeError(f"no hash is defined for {kind}")


def _length(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _slices(values: pa.Array, width: int, num_rows: int) -> Parts:
    raw = np.ascontiguousarray(values.to_numpy(zero_copy_only=True)).tobytes()
    return [raw[i * width : (i + 1) * width] for i in range(num_rows)]


def _list_parts(column: pa.Array) -> Parts:
    ends = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist()
    items = column_parts(column.flatten())
    return [_length(end - start) + b"".join(items[start:end]) for start, end in zip(ends, ends[1:], strict=False)]


def _variable(column: pa.Array) -> tuple[NDArray[np.int64], pa.Buffer]:
    """The offsets [N + 1] of a string or binary column, and the buffer that they point into."""
    wide = pa.types.is_large_binary(column.type)
    _, offsets, data = column.buffers()
    found = np.frombuffer(offsets, np.int64 if wide else np.int32)[column.offset : column.offset + len(column) + 1]
    return found.astype(np.int64), data if data is not None else pa.py_buffer(b"")
