"""The files of one shard, written batch by batch side by side; each gets its final name whole, and then its record."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from prep.captions import Caption
from prep.columns import ColumnPlan
from prep.manifest import ColumnRecord, FileRecord
from prep.places import Folder
from prep.row_hash import hash_rows
from prep.schemas import schema_of, shard_file
from prep.spool import Spool
from prep.text_columns import Annotated
from prep.views import StoredImage, View, count_enlarged


@dataclass(frozen=True, slots=True)
class Sample:
    """A prepared pair, token ids and priorities apart: those are made for a whole batch at once.

    captions: {caption source: clean captions}. num_dropped: {caption source: captions that were none, and left out}.
    copies: {folder of a view: stored copy}.
    """

    key: str
    source: str
    original_format: str
    original_width: int
    original_height: int
    captions: dict[str, tuple[Caption, ...]]
    num_dropped: dict[str, int]
    copies: dict[str, StoredImage]


TextOf = Callable[[str, str, str | None], Annotated]
"""The batch's captions of a source, flat, by a tokenizer and a tagger (None: priorities do not matter)."""


class _HashingSink:
    """A file to write to that knows the size and the hash of what went through."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.num_bytes, self._started = file, xxhash.xxh3_64(), 0, 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._hash.update(data)
        self.num_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.num_bytes

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        self._file.flush()

    def start_writing_back(self) -> None:
        """Have the disk begin with what it was not yet asked to write, so that the fsync at the end waits less."""
        with suppress(AttributeError, OSError):  # not a local file, or not Linux
            self._file.flush()
            # Linux answers so to this advice, and drops no page that is not on the disk yet.
            os.posix_fadvise(self._file.fileno(), self._started, self.num_bytes - self._started, os.POSIX_FADV_DONTNEED)
        self._started = self.num_bytes

    def record(self, path: str) -> FileRecord:
        return FileRecord(path, self.num_bytes, self._hash.hexdigest())


def write_whole(folder: Folder, path: str, data: bytes) -> FileRecord:
    """Write a small file of a store and give its record."""
    with folder.written(path) as file:
        sink = _HashingSink(file)
        sink.write(data)
    return sink.record(path)


class ColumnFile:
    """One column's file of one shard. As a context manager: on leaving well, it gets its name; else it is removed.

    max_held_bytes: of copies that wait in memory for their record batch.
    """

    def __init__(self, folder: Folder, shard: int, plan: ColumnPlan, max_held_bytes: int) -> None:
        self.plan, self.num_rows, self._shard = plan, 0, shard
        self._schema = schema_of(plan.kind, plan.settings)
        self._path = shard_file(plan.folder, shard)
        self._stack = ExitStack()
        self._counts = Counter[str]()
        self._sink = _HashingSink(self._stack.enter_context(folder.written(self._path)))
        self._writer = self._stack.enter_context(pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), self._schema))
        self._view = View.of(plan.folder, plan.settings) if plan.kind == "view" else None
        if self._view:
            self._spool = Spool(max_held_bytes)
            self._stack.callback(self._spool.give_back)

    def __enter__(self) -> "ColumnFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def hold(self, sample: Sample) -> None:
        """Take a sample's copy over, until it is written."""
        if self._view is not None:
            copy = sample.copies[self.plan.folder]
            self._spool.put(copy.encoded)
            sample.copies[self.plan.folder] = replace(copy, encoded=b"")

    def write(self, samples: Sequence[Sample], text: TextOf) -> None:
        """Append a record batch of samples that were held. text: annotates their captions, one row a caption."""
        keys = [sample.key for sample in samples]
        columns = self._columns(samples, keys, text)
        batch = pa.record_batch([*columns, pa.array(keys, pa.string())], names=self._schema.names[:-1])
        hashes = pa.array(hash_rows(batch))
        self._writer.write_batch(pa.record_batch([*batch.columns, hashes], schema=self._schema))
        self._sink.start_writing_back()
        self.num_rows += len(samples)

    def _columns(self, samples: Sequence[Sample], keys: list[str], text: TextOf) -> list[pa.Array]:
        settings = self.plan.settings
        if self.plan.kind == "view":
            return self._view_columns(keys, [sample.copies[self.plan.folder] for sample in samples])
        if self.plan.kind == "rows":
            values = ((s.source, s.original_format, s.original_width, s.original_height) for s in samples)
            types = [field.type for field in self._schema][:4]
            return [pa.array(column, kind) for column, kind in zip(zip(*values, strict=True), types, strict=True)]
        captions = [sample.captions.get(settings["source"], ()) for sample in samples]
        if self.plan.kind == "captions":
            flat = [caption for own in captions for caption in own]
            self._counts["num_captions"] += len(flat)
            self._counts["num_dropped"] += sum(sample.num_dropped.get(settings["source"], 0) for sample in samples)
            self._counts["num_cut"] += sum(caption.cut for caption in flat)
            return [
                _lists(captions, pa.array([caption.text for caption in flat], pa.string()), self._schema.field(0)),
                _lists(captions, pa.array([caption.cut for caption in flat], pa.bool_()), self._schema.field(1)),
            ]
        if self.plan.kind == "tokens":
            found = text(settings["source"], settings["name"], None)
            self._counts["num_truncated"] += int(found.truncated.sum())
            return [
                _lists(captions, _fixed_lists(found.tokens), self._schema.field(0)),
                _lists(captions, pa.array(found.num_tokens), self._schema.field(1)),
            ]
        found = text(settings["source"], settings["tokenizer_name"], settings["name"])
        return [_lists(captions, _fixed_lists(found.priorities), self._schema.field(0))]

    def _view_columns(self, keys: list[str], copies: list[StoredImage]) -> list[pa.Array]:
        assert self._view is not None
        self._counts["num_enlarged_crops"] += count_enlarged(self._view, keys, copies)
        if self._view.margin is not None:
            self._counts["num_small"] += sum(min(c.width, c.height) < self._view.needed_side for c in copies)
            self._counts["num_kept"] += sum(c.kept for c in copies)
        columns = [
            self._spool.take(),
            pa.array([c.width for c in copies], pa.uint16()),
            pa.array([c.height for c in copies], pa.uint16()),
        ]
        if self._view.crop is not None:
            columns.append(_fixed_lists(np.array([c.box for c in copies], np.uint32).reshape(-1, 4)))
        return columns

    def record(self, num_read: int = 0, rejects: dict[str, int] | None = None, *more: FileRecord) -> ColumnRecord:
        """Its account, once it has been left."""
        file = self._sink.record(self._path)
        counts = dict(sorted(self._counts.items()))
        return ColumnRecord(
            self.plan.folder, self._shard, self.num_rows, counts, (file, *more), num_read, rejects or {}
        )


def _fixed_lists(rows: NDArray[np.generic]) -> pa.FixedSizeListArray:
    item = pa.field("item", pa.from_numpy_dtype(rows.dtype), nullable=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=pa.list_(item, rows.shape[1]))


def _lists(captions: Sequence[Sequence[Caption]], items: pa.Array, field: pa.Field) -> pa.ListArray:
    """The items, one a caption, as one list a sample."""
    offsets = np.cumsum([0, *(len(own) for own in captions)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=field.type)
