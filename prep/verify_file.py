"""One file of a store, held against what was recorded of it: size, hash, schema, record batches, rows, values.

A file is gone through twice: for the hash of the whole, and batch by batch for the hash of each row, which tells where
a damaged byte lies. Nothing of a batch is looked at before its buffers are known to be as long as they must be, and its
values only when all its hashes fit: damaged offsets would lead a reader astray. An Arrow file is mapped into memory
(in a store elsewhere: fetched whole); besides, one batch is held at a time.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from prep.batch_buffers import has_room, rows_outside
from prep.places import Folder
from prep.row_hash import damaged_rows
from prep.schemas import REJECT_SCHEMA, ROWS_PER_BATCH, schema_of
from prep.verify_values import BatchDigest, counts_of, digest_of, odd_images, odd_values

MAX_ROWS_NAMED = 20
"""Of one file; how many more there are is told in one line."""

_CHUNK = 16 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written. path: of a file in the store. batch, row: of an Arrow file."""

    path: str
    what: str
    batch: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        batch = "" if self.batch is None else f", batch {self.batch}"
        row = "" if self.row is None else f", row {self.row} of the batch"
        return f"{self.path}{batch}{row}: {self.what}"


@dataclass(frozen=True, slots=True)
class FileTask:
    """One file to check. url: of the store. num_bytes, xxh3: as the manifest and the record say; they should agree.

    columns: {kind: settings} of the columns in it: one, or in format version 1 several; none for rejects. counts: what
    was counted in it, of rejects by reason; None when nobody says so. decode: decode every image, too.
    """

    url: str
    path: str
    num_bytes: frozenset[int]
    xxh3: frozenset[str]
    num_rows: int
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] | None = None
    has_row_hashes: bool = True
    decode: bool = False

    @property
    def can_name_rows(self) -> bool:
        """Whether its rows have hashes of their own: a damaged file is worth reading on."""
        return self.has_row_hashes and self.path.endswith(".arrow")


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in one file. xxh3: of the whole, for the caller to judge; empty when it was not read.

    batches: by which columns are compared; None for one whose values cannot be trusted.
    """

    path: str
    problems: tuple[Problem, ...]
    num_bytes: int = 0
    num_rows: int = 0
    xxh3: str = ""
    batches: tuple[BatchDigest | None, ...] = ()


def check_file(task: FileTask) -> FileReport:
    """Read one file whole and tell everything in it that is not as recorded, but for the hash of the whole."""
    folder = Folder.of(task.url)
    size = folder.size(task.path)
    if size is None:
        return FileReport(task.path, (Problem(task.path, "it is missing"),))
    if size not in task.num_bytes:
        wanted = " or ".join(f"{number:,}" for number in sorted(task.num_bytes))
        return FileReport(task.path, (Problem(task.path, f"wanted {wanted} bytes, found {size:,}"),))
    data = read_file(folder, task.path)
    xxh3 = _hash(data)
    check = _RejectsCheck(task) if task.path.endswith(".parquet") else _ArrowCheck(task)
    if xxh3 in task.xxh3 or task.can_name_rows:
        check.read(data)
    return FileReport(task.path, tuple(check.problems), size, check.num_rows, xxh3, tuple(check.batches))


def read_file(folder: Folder, path: str) -> pa.Buffer:
    """A file of a store, mapped into memory or, from elsewhere, fetched."""
    if folder.is_local:
        return pa.memory_map(str(folder.path / path)).read_buffer()
    return pa.py_buffer(folder.read_bytes(path))


def _hash(data: pa.Buffer) -> str:
    whole, found = memoryview(data), xxhash.xxh3_64()
    for start in range(0, len(whole), _CHUNK):
        found.update(whole[start : start + _CHUNK])
    return found.hexdigest()


class _Check:
    """What is found while a file is read."""

    def __init__(self, task: FileTask) -> None:
        self.task, self.num_rows = task, 0
        self.problems: list[Problem] = []
        self.batches: list[BatchDigest | None] = []
        self.counts = Counter[str]()

    def found(self, what: str, batch: int | None = None, row: int | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(self.task.path, what, batch, row))

    def compare_totals(self) -> None:
        """Hold the number of rows and what was counted against the account; only of a file that was read whole."""
        if self.num_rows != self.task.num_rows:
            self.found(f"wanted {self.task.num_rows:,} rows, found {self.num_rows:,}")
        for name, count in self.counts.items():
            wanted = (self.task.counts or {}).get(name, 0)
            if self.task.counts is not None and count != wanted:
                self.found(f"wanted {name} {wanted:,}, found {count:,}")


class _RejectsCheck(_Check):
    def read(self, data: pa.Buffer) -> None:
        """Count the rejects by reason."""
        self.counts.update(dict.fromkeys(self.task.counts or (), 0))
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            if not file.schema_arrow.equals(REJECT_SCHEMA):
                self.found(f"wanted the columns of rejects, found {_named(file.schema_arrow)}")
            for batch in file.iter_batches():
                self.num_rows += len(batch)
                self.counts.update(batch.column("reason").to_pylist())
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            self.found(f"wanted a parquet file of rejects, but {_short(error)}")
        self.compare_totals()


class _ArrowCheck(_Check):
    def read(self, data: pa.Buffer) -> None:
        """Go through the record batches."""
        try:
            reader = pa.ipc.open_file(pa.BufferReader(data))
            schema, num_batches = reader.schema, reader.num_record_batches
        except (pa.ArrowException, OSError, ValueError) as error:
            self.found(f"wanted an Arrow file, but {_short(error)}")
            return
        if self.task.has_row_hashes:
            [(kind, settings)] = self.task.columns.items()
            if not schema.equals(schema_of(kind, settings), check_metadata=True):
                self.found(f"wanted the columns of {kind}, found {_named(schema)}")
                return
        for number in range(num_batches):
            try:
                batch = reader.get_batch(number)
            except (pa.ArrowException, OSError, ValueError) as error:
                self.found(f"wanted a record batch, but {_short(error)}", number)
                self.batches.append(None)
                continue
            if not has_room(batch):
                self.found("its metadata is damaged: its buffers cannot hold its rows, or some are null", number)
                self.batches.append(None)
                continue
            self._check_batch(batch, number, is_last=number == num_batches - 1)
        if None not in self.batches:
            self.compare_totals()

    def _check_batch(self, batch: pa.RecordBatch, number: int, is_last: bool) -> None:
        self.num_rows += len(batch)
        if not (len(batch) == ROWS_PER_BATCH or (is_last and 0 < len(batch) < ROWS_PER_BATCH)):
            self.found(f"wanted {ROWS_PER_BATCH:,} rows (the last batch may have fewer), found {len(batch):,}", number)
        damaged = {row for column in batch.columns for row in rows_outside(column)}
        if self.task.has_row_hashes:
            damaged.update(damaged_rows(batch, range(len(batch))))
        if damaged:
            text = "its hash does not fit: a byte of it was changed"
            self._name_rows([(row, text) for row in sorted(damaged)], batch, number)
            self.batches.append(None)
            return
        try:
            batch.validate(full=True)
        except (pa.ArrowException, ValueError) as error:
            self.found(_short(error), number)
            self.batches.append(None)
            return
        odd = odd_values(batch, self.task.columns)
        if self.task.decode and not odd:
            odd = odd_images(batch, self.task.columns)
        self._name_rows(odd, batch, number)
        self.counts.update(counts_of(batch, self.task.columns))
        self.batches.append(digest_of(batch))

    def _name_rows(self, odd: list[tuple[int, str]], batch: pa.RecordBatch, number: int) -> None:
        left = MAX_ROWS_NAMED - sum(problem.row is not None for problem in self.problems)
        for row, what in odd[: max(left, 0)]:
            self.found(what, number, row)
        if len(odd) > left:
            self.found(f"{len(odd):,} of its {len(batch):,} rows are not as they were written", number)


def _named(schema: pa.Schema) -> str:
    try:
        return _cut(", ".join(f"{field.name}: {field.type}" for field in schema))
    except UnicodeDecodeError:
        return "names that are no text"


def _short(error: BaseException) -> str:
    return _cut(next(iter(str(error).splitlines()), type(error).__name__))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
