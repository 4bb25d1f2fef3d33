"""Tables that pyarrow reads: parquet files, and Arrow files or streams such as Hugging Face `datasets` writes.

Parquet is read a page at a time (a writer puts up to about a thousand rows on one), in batches of about 8 MiB; an Arrow
file's batches are mapped on the local disk, and read one by one from elsewhere. Nothing is taken on trust: offsets are
checked before they are followed, and a stream must end with its end mark, or it has been cut.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from prep.errors import UserError
from prep.sources.rows import CutTableError, Oversized, Role, Row, Span

_BATCH_BYTES = 8 << 20
_MAX_BATCH_ROWS = 1024
_ABSURD_BYTES = 1 << 40
_END_MARK = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ArrowTable:
    """What parquet and Arrow files have in common. notes: what their writers left beside the schema."""

    surrogates = "surrogateescape"

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.columns: list[str] = schema.names
        self.notes: dict[bytes, bytes] = schema.metadata or {}

    def misfit(self, column: str, role: Role) -> str | None:
        """The column's type, when it cannot serve. Of columns that share a name none can."""
        with _checked():
            return self._misfit(column, role)

    def _misfit(self, column: str, role: Role) -> str | None:
        if self.columns.count(column) > 1:
            return "several columns of that name"
        kind = _plain(self._schema.field(column).type)
        fits = _is_string(kind) or (_is_binary(kind) and role != "caption")
        if role == "key":
            fits = fits or pt.is_integer(kind)
        elif role == "image" and pt.is_struct(kind):
            fits = any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
        elif role == "caption" and (pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)):
            fits = _is_string(_plain(kind.value_type))
        return None if fits else str(kind)


class ParquetTable(ArrowTable):
    """A parquet file."""

    def __init__(self, file: BinaryIO) -> None:
        with _checked():
            # Without these a column of a whole row group would be read at once.
            self._file = pq.ParquetFile(pa.PythonFile(file, mode="r"), buffer_size=1 << 20, pre_buffer=False)
            self._groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
            super().__init__(self._file.schema_arrow)

    def spans(self, rows_per_shard: int) -> Iterator[Span]:
        """The table cut into parts: whole row groups, as many as go in, and pieces of those that are larger.

        To reach a piece, its row group is read from the start.
        """
        first, num_rows, num_bytes = 0, 0, 0
        for group in self._groups:
            if num_rows and num_rows + group.num_rows > rows_per_shard:
                yield Span(first, first + num_rows, num_bytes)
                first, num_rows, num_bytes = first + num_rows, 0, 0
            rows_left = group.num_rows
            while rows_left > rows_per_shard:
                yield Span(first, first + rows_per_shard, group.total_byte_size * rows_per_shard // group.num_rows)
                first, rows_left = first + rows_per_shard, rows_left - rows_per_shard
            num_rows += rows_left
            num_bytes += group.total_byte_size * rows_left // max(group.num_rows, 1)
        if num_rows:
            yield Span(first, first + num_rows, num_bytes)

    def rows(self, span: Span, limits: Mapping[str, int]) -> Iterator[Row]:
        """The rows of a part."""
        start = 0
        for place, group in enumerate(self._groups):
            end = start + group.num_rows
            if end > span.first and (span.last is None or start < span.last):
                size = max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)))
                batches = self._file.iter_batches(size, row_groups=[place], columns=list(limits))
                yield from _rows(_guarded(batches), start, span, limits)
            start = end


class StreamTable(ArrowTable):
    """An Arrow file or stream. path: its local one, or None; file: it, opened."""

    def __init__(self, file: BinaryIO, path: str | None) -> None:
        self._size = file.seek(0, io.SEEK_END)
        with _checked():
            self._is_local = path is not None and self._size > 0
            self._source = pa.memory_map(path) if self._is_local else pa.PythonFile(file, mode="r")
            super().__init__(self._open().schema)

    def _open(self) -> Any:
        self._source.seek(0)
        is_file = self._source.read(6) == b"ARROW1"
        self._source.seek(0)
        return pa.ipc.open_file(self._source) if is_file else pa.ipc.open_stream(self._source)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with _checked():
            reader = self._open()
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            yield from _guarded(reader.get_batch(place) for place in range(reader.num_record_batches))
            return
        yield from _guarded(iter(reader))
        end = self._source.tell()
        self._source.seek(max(end - len(_END_MARK), 0))
        if self._source.read(len(_END_MARK)) != _END_MARK:
            raise CutTableError("the stream ends without its end mark: it was cut")

    def spans(self, rows_per_shard: int) -> Iterator[Span]:
        """The table cut into parts; one that is not on the local disk would have to be read for that, and stays whole.

        Where it breaks, the last part ends.
        """
        num_rows = 0
        if self._is_local:
            try:
                for batch in self._batches():
                    num_rows += batch.num_rows
            except CutTableError:
                num_rows += 1  # whoever reads it will say so
        num_parts = max(1, -(-num_rows // rows_per_shard))
        for part in range(num_parts):
            last = None if part == num_parts - 1 else (part + 1) * rows_per_shard
            yield Span(part * rows_per_shard, last, self._size // num_parts)

    def rows(self, span: Span, limits: Mapping[str, int]) -> Iterator[Row]:
        """The rows of a part."""
        return _rows(self._batches(), 0, span, limits)


def _rows(batches: Iterator[pa.RecordBatch], start: int, span: Span, limits: Mapping[str, int]) -> Iterator[Row]:
    """The rows of a span out of batches, the first of which begins with row `start`."""
    for batch in batches:
        first, last = start, start + batch.num_rows
        start = last
        if last <= span.first:
            continue
        batch = batch.select(list(limits))
        with _checked():
            for column in batch.columns:
                _validate(column)
        for number in range(max(first, span.first), last if span.last is None else min(last, span.last)):
            with _checked():
                values = {name: _value(batch.column(name)[number - first], limit) for name, limit in limits.items()}
            yield Row(number, values)
        if span.last is not None and last >= span.last:
            return  # what comes after may be broken, which is another part's to say


def _validate(column: pa.Array) -> None:
    """Raise ArrowInvalid where an offset leads out of its buffer. Strings need not be UTF-8: see `prep.captions`."""
    # Where a type has no such view, UTF-8 is asked of it as well.
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column = column.view(_bare(column.type))
    column.validate(full=True)


def _bare(kind: pa.DataType) -> pa.DataType:
    """A type with binaries for its strings."""
    if pt.is_string(kind):
        return pa.binary()
    if pt.is_large_string(kind):
        return pa.large_binary()
    if pt.is_list(kind):
        return pa.list_(kind.value_field.with_type(_bare(kind.value_type)))
    if pt.is_struct(kind):
        return pa.struct([field.with_type(_bare(field.type)) for field in kind])
    return kind


def _value(scalar: pa.Scalar, limit: int) -> object:
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if pt.is_dictionary(kind):
        return _value(scalar.value, limit)
    if _is_string(kind) or _is_binary(kind):
        data = scalar.as_buffer()
        if data.size > limit:
            return Oversized(data.size)
        return data.to_pybytes() if _is_binary(kind) else data.to_pybytes().decode("utf-8", "surrogateescape")
    if pt.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return {name: _value(scalar[name], limit) for name in ("bytes", "path") if name in names}
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return [_value(item, limit) for item in scalar.values]
    return scalar.as_py()


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pt.is_dictionary(kind) else kind


def _is_string(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _guarded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while True:
        with _checked():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError) as error:
        # A damaged length asks for more than any machine has.
        asked = re.search(r"of size ([0-9]+) failed", str(error))
        if isinstance(error, UserError) or asked is None or int(asked[1]) < _ABSURD_BYTES:
            raise  # the network's trouble, or this process's
        raise CutTableError(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble, not the table's
        # Damage is told by ArrowException, UnicodeDecodeError, OSError without a number and more.
        raise CutTableError(f"{type(error).__name__}: {error}") from error
