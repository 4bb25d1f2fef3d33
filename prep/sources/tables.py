"""Tables of pairs: CSV, TSV, JSON lines, parquet, and the Arrow files of a Hugging Face `datasets` folder.

    key,image,caption                       the image: a path in the table's folder (or in `SourceOptions.image_root`),
    0001,cats/one.jpg,a cat on a sofa       or, where columns have types, the bytes of an image file, or Hugging Face's
                                            struct of both
A row is a pair or a reject. Its key is in the key column, or else it is the table's name and the row's number. A
caption column holds a string or a list of them. Two rows of one key in a part: the second is a DUPLICATE_KEY. A table
that breaks off gives the rows before and one SOURCE_CUT.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prep.errors import UserError
from prep.pairs import Pair, Reason, Reject
from prep.places import open_input
from prep.remote import is_url
from prep.sources.arrow_tables import ParquetTable, StreamTable
from prep.sources.fields import encoded, what_is_told
from prep.sources.names import readable
from prep.sources.parts import Kind, Part, SourceOptions
from prep.sources.roots import Refused, Root
from prep.sources.rows import CutTableError, Oversized, Row, Span, Table
from prep.sources.table_columns import Columns, choose_columns
from prep.sources.text_tables import TextTable

_KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".arrow": "arrow"}
TABLE_SUFFIXES = tuple(_KINDS)


@contextmanager
def open_table(url: str) -> Iterator[Table]:
    """Open a table of any kind. Raises `CutTableError` when it is damaged, `UserError` when it is not there."""
    kind = _KINDS[_suffix(url)]
    with open_input(url) as file:
        if kind == "parquet":
            yield ParquetTable(file)
        elif kind == "arrow":
            yield StreamTable(file, None if is_url(url) else url)
        else:
            yield TextTable(file, kind)


def list_table(url: str, num_bytes: int, options: SourceOptions) -> Iterator[Part]:
    """The parts of a table. Raises `UserError` for columns that are not there or hold URLs.

    A table that is damaged from the start is one part.
    """
    kind: Kind = "arrow" if _suffix(url) == ".arrow" else "table"
    name = url.rpartition("/")[2]
    try:
        with open_table(url) as table:
            columns = choose_columns(url, table, options)
            spans = list(table.spans(options.rows_per_shard))
            if spans and _holds_urls(table, columns, spans[0]):
                problem = f"the column {columns.image!r} holds URLs, not images"
                raise UserError(url, problem, "Download them first: python -m prep.fetch")
    except CutTableError:
        spans = [Span(0, None, num_bytes)]
    for span in spans:
        yield Part(kind, url, name, span.num_bytes, span.first, span.last, span.offset)


def _holds_urls(table: Table, columns: Columns, span: Span) -> bool:
    if table.misfit(columns.image, "caption"):
        return False  # not text
    first = next(table.rows(span, {columns.image: 1 << 20}), None)
    value = first.values.get(columns.image) if first else None
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def read_table(part: Part, options: SourceOptions) -> Iterator[Pair | Reject]:
    """Yield a pair or a reject for every row of a part.

    Raises `UserError` when a column is not there, or the table has changed since it was listed.
    """
    num_read = 0
    try:
        with open_table(part.url) as table:
            reader = _Reader(part, table, options)
            for row in table.rows(Span(part.first, part.last, part.num_bytes, part.offset), reader.limits):
                num_read += 1
                yield reader.read(row)
    except CutTableError as cut:
        yield Reject("", Reason.SOURCE_CUT, readable(str(cut))[:500], readable(part.name))
        return
    if part.last is not None and num_read < part.last - part.first:
        problem = f"wanted rows {part.first:,} to {part.last:,}, found {num_read:,} of them"
        raise UserError(part.url, problem, "It has changed since the work began: restore it, or build a new store.")


class _Reader:
    """Makes pairs of the rows of a part."""

    def __init__(self, part: Part, table: Table, options: SourceOptions) -> None:
        self._source, self._options, self._surrogates = readable(part.name), options, table.surrogates
        self._columns = choose_columns(part.url, table, options)
        self._root = Root(options.image_root or part.url.rpartition("/")[0] or "/")
        self._stem = readable(part.name.removesuffix(_suffix(part.name)))
        self._seen: set[str] = set()
        columns = self._columns
        self.limits = {name: options.max_caption_bytes for name in (*columns.told, *(c for _, c in columns.captions))}
        if columns.key is not None:
            self.limits[columns.key] = options.max_caption_bytes
        self.limits[columns.image] = options.max_image_bytes

    def read(self, row: Row) -> Pair | Reject:
        key = f"{self._stem}-{row.number:09d}"
        if row.damage:
            return self._reject(key, Reason.ROW_DAMAGED, row.damage)
        if self._columns.key is not None:
            value = row.values.get(self._columns.key)
            if not _is_key(value):
                return self._reject(key, Reason.KEY_MISSING, f"{self._columns.key!r} holds {value!r:.80}")
            key = readable(value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value))
        if key in self._seen:
            return self._reject(key, Reason.DUPLICATE_KEY, f"came before; this is row {row.number:,}")
        self._seen.add(key)
        value = row.values.get(self._columns.image)
        if isinstance(value, dict):  # Hugging Face's struct
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if value is None or value == "":
            told = what_is_told({name: row.values.get(name) for name in self._columns.told})
            return self._reject(key, Reason.IMAGE_MISSING, f"{self._columns.image!r} is empty{told}")
        captions = self._captions(row)
        if isinstance(captions, str):
            reason = Reason.CAPTION_TOO_LONG if captions else Reason.CAPTION_MISSING
            return self._reject(key, reason, captions or "the caption columns hold none")
        image = self._image(value)
        if isinstance(image, Refused):
            return self._reject(key, image.reason, image.detail)
        return Pair(key, image, captions, self._source)

    def _captions(self, row: Row) -> dict[str, tuple[bytes, ...]] | str:
        """The captions, or why there are none: "", or that they are too long."""
        found: dict[str, tuple[bytes, ...]] = {}
        limit, too_long = self._options.max_caption_bytes, ""
        for name, column in self._columns.captions:
            value = row.values.get(column)
            captions = encoded(value, self._surrogates)
            sizes = [len(caption) for caption in captions if len(caption) > limit]
            items = value if isinstance(value, list) else [value]
            if sizes := [*sizes, *(item.num_bytes for item in items if isinstance(item, Oversized))]:
                too_long = f"a caption in {column!r} has {max(sizes):,} bytes; at most {limit:,} are read"
            fitting = tuple(caption for caption in captions if len(caption) <= limit)
            if fitting:
                found[name] = found.get(name, ()) + fitting
        return found or too_long

    def _image(self, value: object) -> bytes | Refused:
        limit = self._options.max_image_bytes
        if isinstance(value, str):
            return self._root.read(value, limit)
        if isinstance(value, Oversized) or (isinstance(value, bytes) and len(value) > limit):
            size = value.num_bytes if isinstance(value, Oversized) else len(value)
            return Refused(Reason.IMAGE_TOO_LARGE, f"the image has {size:,} bytes; at most {limit:,} are read")
        if isinstance(value, bytes):
            return value
        return Refused(Reason.IMAGE_MISSING, f"wanted a path or an image, found {value!r:.80}")

    def _reject(self, key: str, reason: Reason, detail: str) -> Reject:
        return Reject(key, reason, readable(detail), self._source)


def _is_key(value: object) -> bool:
    return isinstance(value, str | bytes | int) and not isinstance(value, bool) and value not in ("", b"")


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower()
