"""Random access to a store's rows at one resolution, over memory-mapped Arrow, opened batch by batch on first touch."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prep.errors import UserError
from prep.store import ROWS_PER_BATCH, Store


@dataclass(frozen=True, slots=True)
class TextRows:
    """tokens uint16 [B, L], priorities uint8 [B, L], num_tokens uint8 [B]."""

    tokens: NDArray[np.uint16]
    priorities: NDArray[np.uint8]
    num_tokens: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ImageRows:
    """encoded: B views of JPEG bytes in the mapped file. widths, heights: int64 [B], of the stored copies."""

    encoded: list[NDArray[np.uint8]]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Zero-copy numpy views of one record batch. `owner` keeps the mapping alive."""

    owner: pa.RecordBatch
    image_offsets: NDArray[np.int64]
    image_bytes: NDArray[np.uint8]
    arrays: dict[str, NDArray[np.generic]]


def _columns(batch: pa.RecordBatch) -> _Columns:
    image = batch.column("image")
    _, offsets, data = image.buffers()
    arrays: dict[str, NDArray[np.generic]] = {
        name: batch.column(name).to_numpy(zero_copy_only=True) for name in ("width", "height", "num_tokens")
    }
    for name in ("tokens", "priorities"):
        column = batch.column(name)
        arrays[name] = column.values.to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)
    return _Columns(
        batch,
        np.frombuffer(offsets, np.int64)[: len(image) + 1],
        np.frombuffer(data, np.uint8),
        arrays,
    )


@dataclass
class StoreView:
    """The rows of one resolution. Nothing here grows with the store but one offset a shard and what was touched.

    Raises `UserError` when the store was not built at `res`.
    """

    store: Store
    res: int
    _shard_starts: NDArray[np.int64] = field(init=False)
    _readers: dict[int, pa.ipc.RecordBatchFileReader] = field(init=False, default_factory=dict)
    _batches: dict[tuple[int, int], _Columns] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        manifest = self.store.manifest
        if self.res not in manifest.resolutions:
            raise UserError(
                f"{self.store.path}",
                f"wanted images at {self.res} px, but the store holds {', '.join(map(str, manifest.resolutions))}",
                "Choose one of these, or add it to --res of prep.build.",
            )
        self._shard_starts = np.cumsum([0, *(shard.num_samples for shard in manifest.shards)], dtype=np.int64)

    def __len__(self) -> int:
        return self.store.manifest.num_samples

    def _open(self, shard: int, batch: int) -> _Columns:
        found = self._batches.get((shard, batch))
        if found is None:
            if shard not in self._readers:
                number = self.store.manifest.shards[shard].shard
                self._readers[shard] = self.store.open_shard(str(self.res), number)
            found = self._batches[shard, batch] = _columns(self._readers[shard].get_batch(batch))
        return found

    def _groups(self, rows: NDArray[np.int64]) -> list[tuple[_Columns, NDArray[np.int64], NDArray[np.int64]]]:
        """(columns, rows inside them, places in `rows`) for each record batch that `rows` touches."""
        shards = np.searchsorted(self._shard_starts, rows, side="right") - 1
        batches, within = np.divmod(rows - self._shard_starts[shards], ROWS_PER_BATCH)
        where = np.lexsort((batches, shards))
        edges = np.flatnonzero(np.diff(shards[where]) | np.diff(batches[where])) + 1
        return [
            (self._open(int(shards[places[0]]), int(batches[places[0]])), within[places], places)
            for places in np.split(where, edges)
        ]

    def text(self, rows: NDArray[np.int64]) -> TextRows:
        """Token ids and priorities of rows, in the order asked for."""
        length = self.store.manifest.context_length
        tokens = np.empty((len(rows), length), np.uint16)
        priorities = np.empty((len(rows), length), np.uint8)
        num_tokens = np.empty(len(rows), np.uint8)
        for columns, within, places in self._groups(rows):
            tokens[places] = columns.arrays["tokens"][within]
            priorities[places] = columns.arrays["priorities"][within]
            num_tokens[places] = columns.arrays["num_tokens"][within]
        return TextRows(tokens, priorities, num_tokens)

    def images(self, rows: NDArray[np.int64]) -> ImageRows:
        """Encoded images of rows and their sizes, in the order asked for."""
        encoded: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(rows)
        widths, heights = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        for columns, within, places in self._groups(rows):
            widths[places] = columns.arrays["width"][within]
            heights[places] = columns.arrays["height"][within]
            starts, ends = columns.image_offsets[within], columns.image_offsets[within + 1]
            for place, start, end in zip(places.tolist(), starts.tolist(), ends.tolist(), strict=True):
                encoded[place] = columns.image_bytes[start:end]
        return ImageRows(encoded, widths, heights)
