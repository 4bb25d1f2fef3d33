"""Tables of text: CSV and TSV with a first line of names, and JSON lines. Read as a stream, whatever they hold.

In CSV a quoted field may go on over several lines, as RFC 4180 has it. A quote that is never closed would swallow the
rows behind it: then, and wherever quotes stand where they must not, the line is taken as it is. In TSV a row is a line.
Blank lines are no rows. A row with another number of fields, a line that is no JSON object and a line of more than
8 MiB are rows that are damaged.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import BinaryIO

from prep.sources.rows import CutTableError, Role, Row, Span

_MAX_LINE_BYTES = 8 << 20
# How far a quoted field may go on over lines.
_MAX_RECORD_BYTES = 64 << 10
_NUM_PEEKED = 1000

_Record = list[str] | dict[str, object] | str
"""Fields, an object, or why the row is damaged."""


class _Lines:
    """The lines of a file, with the place where the next one begins."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = 0

    def seek(self, offset: int) -> None:
        self._file.seek(offset)
        self.offset = offset

    def next(self) -> bytes | None:
        """The next line with its end, b"" when it is too long, None at the end of the file."""
        line = self._file.readline(_MAX_LINE_BYTES)
        self.offset += len(line)
        if len(line) < _MAX_LINE_BYTES or line.endswith(b"\n"):
            return line or None
        while chunk := self._file.readline(1 << 16):
            self.offset += len(chunk)
            if chunk.endswith(b"\n"):
                break
        return b""


class TextTable:
    """A table of text; kind: "csv", "tsv" or "jsonl"."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self._lines, self._kind = _Lines(file), kind
        self.surrogates = "surrogatepass" if kind == "jsonl" else "surrogateescape"
        byte_order_mark = file.read(3)
        self._start = 3 if byte_order_mark == b"\xef\xbb\xbf" else 0
        self._lines.seek(self._start)
        if kind == "jsonl":
            peeked = islice(self._records(), _NUM_PEEKED)
            self.columns = list(dict.fromkeys(key for record in peeked if isinstance(record, dict) for key in record))
            if not self.columns:
                raise CutTableError("its first lines hold no JSON object")
            return
        names = next(self._records(), "the table is empty: not even names of columns")
        if not isinstance(names, list):
            raise CutTableError(str(names))
        self.columns, self._start = names, self._lines.offset

    def misfit(self, column: str, role: Role) -> str | None:
        """Values tell what they are only when they are read."""
        return None

    def spans(self, rows_per_shard: int) -> Iterator[Span]:
        """The table cut into parts; it is read for that."""
        self._lines.seek(self._start)
        records, num_rows = self._records(is_parsed=self._kind != "jsonl"), 0
        while True:
            first, offset = num_rows, self._lines.offset
            num_rows += sum(1 for _ in islice(records, rows_per_shard))
            if num_rows == first:
                return
            yield Span(first, num_rows, self._lines.offset - offset, offset)

    def rows(self, span: Span, limits: Mapping[str, int]) -> Iterator[Row]:
        """The rows of a part, from its offset on."""
        places = {column: self.columns.index(column) for column in limits} if self._kind != "jsonl" else {}
        self._lines.seek(span.offset or self._start)
        number = span.first
        for record in self._records():
            if number == span.last:
                return
            if isinstance(record, str):
                yield Row(number, {}, record)
            elif isinstance(record, dict):
                yield Row(number, {column: record.get(column) for column in limits})
            elif len(record) != len(self.columns):
                yield Row(number, {}, f"wanted {len(self.columns)} fields, found {len(record)}")
            else:
                yield Row(number, {column: record[place] for column, place in places.items()})
            number += 1

    def _records(self, is_parsed: bool = True) -> Iterator[_Record]:
        while (line := self._lines.next()) is not None:
            if line and not line.strip(b"\r\n"):
                continue
            if not line:
                yield f"a line of more than {_MAX_LINE_BYTES:,} bytes"
            elif self._kind == "jsonl":
                yield _object(line) if is_parsed else ""
            else:
                yield self._fields(line)

    def _fields(self, line: bytes) -> list[str]:
        """The fields of the record that begins with a line; its further lines are read."""
        delimiter = "," if self._kind == "csv" else "\t"
        text = _decoded(line).rstrip("\r\n")
        if '"' not in text:
            return text.split(delimiter)
        after = self._lines.offset
        try:
            return next(csv.reader(self._record_lines(line), delimiter=delimiter, strict=True))
        except csv.Error:
            self._lines.seek(after)
            return text.split(delimiter)

    def _record_lines(self, line: bytes | None) -> Iterator[str]:
        end = self._lines.offset + _MAX_RECORD_BYTES
        while line:
            yield _decoded(line)
            line = self._lines.next() if self._kind == "csv" and self._lines.offset < end else None


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _object(line: bytes) -> _Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"
    return value if isinstance(value, dict) else f"wanted a JSON object, found a {type(value).__name__}"
