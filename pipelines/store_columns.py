"""Random access to the rows of one column folder: mapped files, each record batch and row checked on first touch.

What is kept of a record batch is the addresses of its buffers: so a batch of rows is found, checked and gathered by
numpy, whatever the number of record batches that it touches, and a billion rows need some hundred megabytes.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from pipelines.damage import DamagedError
from pipelines.mapped import Addresses, allow_files, gather, views
from prep.batch_buffers import has_room
from prep.errors import UserError
from prep.schemas import schema_of
from prep.store import ROWS_PER_BATCH, Store

_UNCOMPRESSED = "Write the file without compression, or delete it and run the same prep.build command again."
Buffer: TypeAlias = bytes | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Found:
    """Where rows are: batches int64 [B] counts all record batches of the store, within int64 [B] the rows in one."""

    rows: NDArray[np.int64]
    batches: NDArray[np.int64]
    within: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """Where the items of each row lie: starts are addresses, counts the numbers of items, int64 [B] each."""

    starts: Addresses
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Buffers:
    """A field's buffers in every record batch of the store, int64 [num_batches] each; zero where it was not opened.

    offsets: of lists and binaries, offset_width bytes each. values: item_width bytes each. num_values: items held.
    """

    offset_width: int
    item_width: int
    offsets: Addresses
    values: Addresses
    num_values: NDArray[np.int64]


@dataclass
class ColumnReader:
    """The rows of one column folder of a store on the local disk. Threads may share it."""

    store: Store
    folder: str
    _shard_starts: NDArray[np.int64] = field(init=False)
    _shard_batches: NDArray[np.int64] = field(init=False)
    _fields: dict[str, _Buffers] = field(init=False)
    _is_open: NDArray[np.bool_] = field(init=False)
    _seen: NDArray[np.uint8] = field(init=False)
    _readers: dict[int, pa.ipc.RecordBatchFileReader] = field(init=False, default_factory=dict)
    _schema: pa.Schema = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        manifest = self.store.manifest
        counts = np.array([shard.num_samples for shard in manifest.shards], np.int64)
        self._shard_starts = np.concatenate([[0], np.cumsum(counts)])
        self._shard_batches = np.concatenate([[0], np.cumsum(-(-counts // ROWS_PER_BATCH))])
        num_batches = int(self._shard_batches[-1])
        # Zeros that were never touched take no memory.
        self._is_open = np.zeros(num_batches, np.bool_)
        self._seen = np.zeros((num_batches, ROWS_PER_BATCH // 8), np.uint8)
        self._fields = {}
        allow_files(len(manifest.shards))
        column = manifest.columns[self.folder]
        self._schema = schema_of(column.kind, column.settings, manifest.format_version)

    def find(self, rows: NDArray[np.int64]) -> Found:
        """Locate rows, int64 [B], opening and checking what is touched for the first time. Raises `DamagedError`."""
        shards = np.searchsorted(self._shard_starts, rows, side="right") - 1
        in_shard, within = np.divmod(rows - self._shard_starts[shards], ROWS_PER_BATCH)
        found = Found(rows, self._shard_batches[shards] + in_shard, within)
        if not self._is_open[found.batches].all():
            with self._lock:
                new = np.unique(found.batches[~self._is_open[found.batches]])
                for batch, shard in zip(new.tolist(), self._shards_of(new).tolist(), strict=True):
                    self._open(batch, shard)
        if "hash" in self._fields:
            self._check(found)
        return found

    def values(self, name: str, found: Found) -> NDArray[Any]:
        """A field of fixed width: uint8 [B, width], for the caller to view as what it is."""
        buffers = self._fields[name]
        return gather(buffers.values[found.batches] + found.within * buffers.item_width, buffers.item_width)

    def lists(self, name: str, found: Found) -> Lists:
        """A list or binary field; of format version 1's fields without lists, one item a row. Raises `DamagedError`."""
        buffers = self._fields[name]
        values = buffers.values[found.batches]
        if not buffers.offset_width:
            return Lists(values + found.within * buffers.item_width, np.ones(len(found.rows), np.int64))
        starts, ends = self._offsets(buffers, found)
        bad = (starts < 0) | (ends < starts) | (ends > buffers.num_values[found.batches])
        if bad.any():
            raise self._damaged(found, bad, "an offset points outside of the file")
        return Lists(values + starts * buffers.item_width, ends - starts)

    def items(self, name: str, found: Found, places: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """One item, of `width` bytes, of each row's list: uint8 [B, width]. Raises `DamagedError` where there is none.

        places: int64 [B], counted from the beginning of each list.
        """
        lists = self.lists(name, found)
        missing = places >= lists.counts
        if missing.any():
            raise self._damaged(found, missing, f"its {name} have no item {places[missing][0]}")
        return gather(lists.starts + places * width, width)

    def _offsets(self, buffers: _Buffers, found: Found) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at = buffers.offsets[found.batches] + found.within * buffers.offset_width
        kind = np.int64 if buffers.offset_width == 8 else np.int32
        both = gather(at, 2 * buffers.offset_width).view(kind).astype(np.int64)
        return both[:, 0], both[:, 1]

    def damage(self, rows: NDArray[np.int64], problem: str) -> DamagedError:
        """What to raise for rows whose content turned out to be damaged."""
        return self._damaged(self.find(rows), np.ones(len(rows), np.bool_), problem)

    def _damaged(self, found: Found, bad: NDArray[np.bool_], problem: str) -> DamagedError:
        first = int(np.flatnonzero(bad)[0])
        place = f"{self._place(int(found.batches[first]))}, row {found.within[first]} of the batch"
        return DamagedError(place, f"wanted the bytes that were written, but {problem}", np.unique(found.rows[bad]))

    def _place(self, batch: int) -> str:
        shard = int(self._shards_of(np.array([batch]))[0])
        path = self.store.manifest.columns[self.folder].files[shard].path
        return f"{self.store.folder.url}/{path}, batch {batch - self._shard_batches[shard]}"

    def _shards_of(self, batches: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._shard_batches, batches, side="right") - 1

    def _read(self, batch: int, shard: int) -> pa.RecordBatch:
        reader = self._readers.get(shard)
        if reader is None:
            reader = self._readers[shard] = self.store.open_file(self.folder, shard)
        return reader.get_batch(batch)

    def _open(self, batch: int, shard: int) -> None:
        """Check what no row's hash covers, and note where the buffers are; the reader keeps them mapped."""
        manifest = self.store.manifest
        in_shard = batch - int(self._shard_batches[shard])
        start = in_shard * ROWS_PER_BATCH
        num_rows = min(ROWS_PER_BATCH, manifest.shards[shard].num_samples - start)
        try:
            read = self._read(in_shard, shard)
            # Damage outside of the rows, which their hashes do not see, would send readers beyond the buffers.
            if not read.schema.equals(self._schema):
                raise ValueError("its schema is another one")
            if len(read) != num_rows or not has_room(read):
                raise ValueError(f"its buffers do not hold {num_rows:,} rows")
        except (pa.ArrowException, OSError, ValueError, SystemError) as error:
            first = int(self._shard_starts[shard]) + start
            rows = np.arange(first, first + num_rows)
            raise DamagedError(self._place(batch), f"wanted a record batch, but {error}", rows) from error
        if any(buffer is not None and buffer.is_mutable for column in read.columns for buffer in column.buffers()):
            # Arrow has unpacked it into memory of its own, which would be gone when `read` is.
            problem = (
                "wanted uncompressed Arrow IPC, which is read where it lies, found record batches that are compressed"
            )
            raise UserError(self._place(batch), problem, _UNCOMPRESSED)
        for name, array in zip(read.schema.names, read.columns, strict=True):
            self._note(name, array, batch)
        self._is_open[batch] = True

    def _note(self, name: str, array: pa.Array, batch: int) -> None:
        kind, offset_width = array.type, 0
        offsets, items = 0, array
        if pa.types.is_list(kind):
            offset_width, offsets, items = 4, array.buffers()[1].address, array.values
        elif pa.types.is_large_binary(kind) or pa.types.is_string(kind):
            offset_width = 8 if pa.types.is_large_binary(kind) else 4
            offsets = array.buffers()[1].address
        values = items.buffers()[-1]
        width = _width(items.type)
        if name not in self._fields:
            new = (np.zeros(len(self._is_open), np.int64) for _ in range(3))
            self._fields[name] = _Buffers(offset_width, width, *new)
        found = self._fields[name]
        found.offsets[batch] = offsets
        found.values[batch] = 0 if values is None else values.address
        found.num_values[batch] = (values.size if values else 0) if items is array else len(items)

    def _check(self, found: Found) -> None:
        """Hold rows that are touched for the first time against their hashes."""
        bits = np.uint8(1) << (found.within & 7).astype(np.uint8)
        new = np.flatnonzero(self._seen[found.batches, found.within >> 3] & bits == 0)
        if not len(new):
            return
        touched = Found(found.rows[new], found.batches[new], found.within[new])
        parts = [part for name in self._fields if name != "hash" for part in self._parts(name, touched)]
        digest = xxhash.xxh3_64_intdigest
        hashes = np.fromiter((digest(b"".join(own)) for own in zip(*parts, strict=True)), np.uint64, len(new))
        bad = hashes != self.values("hash", touched).view("<u8")[:, 0]
        if bad.any():
            raise self._damaged(touched, bad, "found others: the hash does not fit")
        with self._lock:
            np.bitwise_or.at(self._seen, (found.batches[new], found.within[new] >> 3), bits[new])

    def _parts(self, name: str, found: Found) -> list[Sequence[Buffer]]:
        """What each row's field adds to its hash, as `prep.row_hash` defines it."""
        buffers = self._fields[name]
        if not buffers.offset_width:
            return [_rows_of(self.values(name, found))]
        lists = self.lists(name, found)
        counts = _rows_of(lists.counts.astype("<u8").view(np.uint8).reshape(-1, 8))
        return [counts, views(lists.starts, lists.counts * buffers.item_width, self)]


def _rows_of(block: NDArray[np.uint8]) -> list[Buffer]:
    data, width = block.tobytes(), block.shape[1]
    return [data[start : start + width] for start in range(0, len(data), width)]


def _width(kind: pa.DataType) -> int:
    """Bytes of an item."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if pa.types.is_large_binary(kind) or pa.types.is_string(kind):
        return 1
    return int(kind.bit_width // 8)
