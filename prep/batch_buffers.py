"""Whether the buffers of a record batch hold what its lengths and offsets say, before anything else looks at them.

Arrow reads a damaged batch without complaint, and its own `validate` names no row.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def has_room(batch: pa.RecordBatch) -> bool:
    """Whether nothing is null and the buffers are as long as the lengths say. Offsets aside, the batch is then safe."""
    try:
        return all(map(_has_room, batch.columns))
    except SystemError:  # Python's, of a length below zero
        return False


def _has_room(column: pa.Array) -> bool:
    kind, buffers, count = column.type, column.buffers(), len(column)
    if buffers[0] is not None:  # which values are null
        return False
    if pa.types.is_fixed_size_list(kind):
        return len(column.values) >= count * kind.list_size and _has_room(column.values)
    if pa.types.is_list(kind):
        return _holds(buffers[1], 32, count + 1) and _has_room(column.values)
    if pa.types.is_string(kind) or pa.types.is_large_binary(kind):
        return count == 0 or _holds(buffers[1], 8 * _width(kind), count + 1)
    return _holds(buffers[1], kind.bit_width, count)


def _holds(buffer: pa.Buffer | None, num_bits: int, count: int) -> bool:
    num_held = 0 if buffer is None else buffer.size * 8
    return num_held >= num_bits * count and num_held % num_bits == 0


def rows_outside(column: pa.Array) -> set[int]:
    """The rows of a column with room whose list or string does not lie within what its offsets point into."""
    kind, count = column.type, len(column)
    if pa.types.is_list(kind):
        offsets = _offsets(column)
        return set(_outside(offsets, len(column.values))) | {
            int(np.searchsorted(offsets, item, side="right")) - 1 for item in rows_outside(column.values)
        }
    if count and (pa.types.is_string(kind) or pa.types.is_large_binary(kind)):
        data = column.buffers()[2]
        return set(_outside(_offsets(column), 0 if data is None else data.size))
    return set()


def _outside(offsets: NDArray[np.int64], bound: int) -> Iterator[int]:
    starts, ends = offsets[:-1], offsets[1:]
    yield from np.flatnonzero((starts < 0) | (ends < starts) | (ends > bound)).tolist()


def _offsets(column: pa.Array) -> NDArray[np.int64]:
    found = np.frombuffer(column.buffers()[1], f"<i{_width(column.type)}")
    return found[: len(column) + 1].astype(np.int64)


def _width(kind: pa.DataType) -> int:
    """Bytes of an offset."""
    return 8 if pa.types.is_large_binary(kind) else 4
