"""Random access to the rows of one column folder: memory-mapped record batches, opened and checked on first touch."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prep.batch_buffers import has_room
from prep.errors import UserError
from prep.row_hash import RowHasher
from prep.schemas import schema_of
from prep.store import ROWS_PER_BATCH, Store


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list column: the items of row i are values[offsets[i] : offsets[i + 1]]."""

    offsets: NDArray[np.int64]
    values: NDArray[np.generic]


class TouchedBatch:
    """Zero-copy numpy views of one record batch, each made when first asked for."""

    def __init__(self, batch: pa.RecordBatch, place: str) -> None:
        self._batch, self._place = batch, place
        self._made: dict[str, NDArray[np.generic] | Ragged] = {}
        self._checked = np.zeros(len(batch), np.bool_)
        self._has_hashes = "hash" in batch.schema.names  # not in format version 1

    @cached_property
    def _hasher(self) -> RowHasher:
        return RowHasher(self._batch)

    def check(self, rows: NDArray[np.int64]) -> None:
        """Hold rows that are touched for the first time against their hashes. Raises `UserError` naming the row."""
        if not self._has_hashes:
            return
        new = rows[~self._checked[rows]]
        if not len(new):
            return
        stored = self.array("hash")
        for row in new.tolist():
            if self._hasher(row) != int(stored[row]):
                raise UserError(
                    f"{self._place}, row {row} of the batch",
                    "wanted the bytes that were written, found others: the hash does not fit",
                    "The file was damaged after it was built. Delete it and run the same prep.build command again.",
                )
        self._checked[new] = True

    def array(self, name: str) -> NDArray[np.generic]:
        """A column of numbers, [N] or, for fixed-size lists, [N, size]."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = _numbers(self._batch.column(name))
        assert isinstance(found, np.ndarray)
        return found

    def ragged(self, name: str) -> Ragged:
        """A list or binary column; of format version 1's columns without lists, one item a row."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = _ragged(self._batch.column(name))
        assert isinstance(found, Ragged)
        return found


def _numbers(column: pa.Array) -> NDArray[np.generic]:
    if pa.types.is_fixed_size_list(column.type):
        values: NDArray[np.generic] = column.values.to_numpy(zero_copy_only=True)
        return values.reshape(-1, column.type.list_size)
    array: NDArray[np.generic] = column.to_numpy(zero_copy_only=True)
    return array


def _ragged(column: pa.Array) -> Ragged:
    if pa.types.is_large_binary(column.type):
        _, offsets, data = column.buffers()
        return Ragged(np.frombuffer(offsets, np.int64)[: len(column) + 1], np.frombuffer(data, np.uint8))
    if pa.types.is_list(column.type):
        offsets = np.frombuffer(column.buffers()[1], np.int32)[: len(column) + 1]
        return Ragged(offsets.astype(np.int64), _numbers(column.values))
    return Ragged(np.arange(len(column) + 1), _numbers(column))


@dataclass
class ColumnReader:
    """The rows of one column folder. Nothing here grows with the store but one offset a shard and what was touched."""

    store: Store
    folder: str
    _shard_starts: NDArray[np.int64] = field(init=False)
    _readers: dict[int, pa.ipc.RecordBatchFileReader] = field(init=False, default_factory=dict)
    _batches: dict[tuple[int, int], TouchedBatch] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        shards = self.store.manifest.shards
        self._shard_starts = np.cumsum([0, *(shard.num_samples for shard in shards)], dtype=np.int64)

    def _open(self, shard: int, batch: int) -> TouchedBatch:
        found = self._batches.get((shard, batch))
        if found is None:
            column, record = self.store.manifest.columns[self.folder], self.store.manifest.shards[shard]
            place = f"{self.store.folder.url}/{column.files[shard].path}, batch {batch}"
            num_rows = min(ROWS_PER_BATCH, record.num_samples - batch * ROWS_PER_BATCH)
            try:
                if shard not in self._readers:
                    self._readers[shard] = self.store.open_shard(self.folder, record.shard)
                read = self._readers[shard].get_batch(batch)
                # Damage outside of the rows, which their hashes do not see, would send readers beyond the buffers.
                if self.store.manifest.format_version > 1 and read.schema != schema_of(column.kind, column.settings):
                    raise ValueError("its schema is another one")
                if len(read) != num_rows or not has_room(read):
                    raise ValueError(f"its buffers do not hold {num_rows:,} rows")
            except (pa.ArrowException, OSError, ValueError, SystemError) as error:
                raise UserError(
                    place,
                    f"wanted a record batch, but {error}",
                    "The file was damaged after it was built. Delete it and run the same prep.build command again.",
                ) from error
            found = self._batches[shard, batch] = TouchedBatch(read, place)
        return found

    def groups(self, rows: NDArray[np.int64]) -> list[tuple[TouchedBatch, NDArray[np.int64], NDArray[np.int64]]]:
        """(batch, rows inside it, places in `rows`) for each record batch that `rows` touches, checked."""
        if not len(rows):
            return []
        shards = np.searchsorted(self._shard_starts, rows, side="right") - 1
        batches, within = np.divmod(rows - self._shard_starts[shards], ROWS_PER_BATCH)
        where = np.lexsort((batches, shards))
        edges = np.flatnonzero(np.diff(shards[where]) | np.diff(batches[where])) + 1
        found = []
        for places in np.split(where, edges):
            touched = self._open(int(shards[places[0]]), int(batches[places[0]]))
            touched.check(within[places])
            found.append((touched, within[places], places))
        return found
