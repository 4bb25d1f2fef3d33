"""The list of what is to be fetched: a parquet, CSV, TSV or JSONL file with a column of URLs and one of captions.

CSV, TSV and JSONL may be compressed (.gz). Whatever their names in the list, the columns come out as `url`, `caption`,
any further ones under their own names, and `row`: the number of the line, counted over all files from 0. Files are read
in the order given, a piece at a time.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from prep.errors import UserError
from prep.files import hash_file, read_json, write_json

PLAN = "fetch.json"
URL_NAMES = ("url", "image_url", "img_url", "imageurl", "link", "uri", "src")
CAPTION_NAMES = ("caption", "text", "txt", "alt", "alt_text", "title", "description")
# img2dataset gives its own meaning to these; `row` is ours.
_TAKEN = frozenset({"row", "key", "status", "error_message", "caption", "url", "exif", "md5", "sha256", "sha512"})
_TAKEN_SIZES = frozenset({"width", "height", "original_width", "original_height"})
_KIND = re.compile(r"\.(?:(parquet)|(csv|tsv|jsonl)(?:\.gz)?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Columns:
    """The names in the list of: the URLs, the captions, and what else is kept beside each image."""

    url: str
    caption: str
    others: tuple[str, ...] = ()

    @property
    def as_read(self) -> list[str]:
        """In the list."""
        return [self.url, self.caption, *self.others]

    @property
    def as_kept(self) -> list[str]:
        """In what is fetched: url last, as img2dataset has it."""
        return ["row", "caption", *self.others, "url"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides which line is in which shard, and what is kept of it: a folder can only go on as it was begun."""

    files: tuple[Path, ...]
    columns: Columns
    rows_per_shard: int
    size: int | None

    def to_json(self) -> dict[str, object]:
        """What fetch.json holds; lists are named without their folder."""
        inputs = [{"name": p.name, "num_bytes": p.stat().st_size, "xxh3": hash_file(p)} for p in self.files]
        columns = {**asdict(self.columns), "others": list(self.columns.others)}
        return {"inputs": inputs, "columns": columns, "rows_per_shard": self.rows_per_shard, "size": self.size}


def find_columns(files: Sequence[Path], url: str | None, caption: str | None, others: Sequence[str]) -> Columns:
    """The columns of a list, found by their usual names where none is given. Raises `UserError` naming those there."""
    first = _names(files[0])
    columns = Columns(
        _find(files[0], first, url, URL_NAMES, "URLs", "--url-column"),
        _find(files[0], first, caption, CAPTION_NAMES, "captions", "--caption-column"),
        tuple(others),
    )
    if unfit := sorted((_TAKEN | _TAKEN_SIZES | {columns.url, columns.caption}) & set(others)):
        raise UserError("--columns", f"{unfit[0]!r} is a name that the output has for itself", "Rename it in the list.")
    for path in files:
        there = _names(path)
        for name in columns.as_read:
            if there.count(name) != 1:
                raise UserError(
                    str(path),
                    f"wanted a column {name!r}, found {', '.join(map(repr, there)) or 'none'}",
                    "Give lists with the same columns, each once.",
                )
    return columns


def _find(path: Path, there: list[str], given: str | None, usual: Sequence[str], what: str, option: str) -> str:
    for wanted in (given,) if given else usual:
        for name in there:
            if name == given or (not given and name.lower() == wanted):
                return name
    looked_for = repr(given) if given else f"one of {', '.join(usual)}"
    raise UserError(
        str(path),
        f"wanted a column of {what} ({looked_for}), found {', '.join(map(repr, there)) or 'none'}",
        f"Name it: {option} NAME. A CSV or TSV file must begin with a line of names.",
    )


def tables(files: Sequence[Path], columns: Columns) -> Iterator[pa.Table]:
    """The list in pieces as they come, columns as `Columns.as_kept`.

    Raises `UserError` for a file that is damaged, or a column of a type that does not fit.
    """
    start = 0
    for path in files:
        for table in _read(path, columns):
            rows = pa.array(np.arange(start, start + table.num_rows))
            yield table.append_column("row", rows).select(columns.as_kept)
            start += table.num_rows


def pieces(parts: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `num_rows`, the last one shorter."""
    waiting: list[pa.Table] = []
    for part in parts:
        try:
            joined = pa.concat_tables([*waiting, part], promote_options="permissive")
        except pa.ArrowException as error:
            raise UserError("the list", str(error), "Give lists whose columns are of the same types.") from error
        first = 0
        while joined.num_rows - first >= num_rows:
            yield joined.slice(first, num_rows)
            first += num_rows
        waiting = [joined.slice(first)] if first < joined.num_rows else []
    yield from waiting


def _kind(path: Path) -> str:
    if not path.is_file():
        raise UserError(str(path), "wanted a list of URLs, but there is no such file", "Check the path.")
    if not (match := _KIND.search(path.name)):
        raise UserError(
            str(path), "wanted a name that ends in .parquet, .csv, .tsv or .jsonl (or .gz after it)", "Rename it."
        )
    return (match[1] or match[2]).lower()


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, json.JSONDecodeError, csv.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's, not the file's
        message = " ".join(str(error).split())[:300]
        raise UserError(str(path), f"this list cannot be read: {message}", "Mend the file.") from error


def _names(path: Path) -> list[str]:
    kind = _kind(path)
    with _blamed(path):
        if kind == "parquet":
            return list(pq.read_schema(path).names)
        with io.TextIOWrapper(pa.input_stream(str(path), compression="detect"), "utf-8-sig", newline="") as file:
            if kind == "jsonl":
                value = json.loads(file.readline() or "{}")
                return list(value) if isinstance(value, dict) else []
            return next(csv.reader(file, delimiter="\t" if kind == "tsv" else ","), [])


def _read(path: Path, columns: Columns) -> Iterator[pa.Table]:
    kind = _kind(path)
    with _blamed(path):
        if kind == "parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=columns.as_read):
                    yield _typed(pa.Table.from_batches([batch]), columns, path)
            return
        with pa.input_stream(str(path), compression="detect") as stream:
            reader = _json_reader(stream, columns) if kind == "jsonl" else _csv_reader(stream, columns, kind)
            for batch in reader:
                yield _typed(pa.Table.from_batches([batch]), columns, path)


def _csv_reader(stream: pa.NativeFile, columns: Columns, kind: str) -> pa.csv.CSVStreamingReader:
    return pa.csv.open_csv(
        stream,
        parse_options=pa.csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            include_columns=columns.as_read, column_types=dict.fromkeys(columns.as_read, pa.string())
        ),
    )


def _json_reader(stream: pa.NativeFile, columns: Columns) -> pa.RecordBatchReader:
    texts = pa.schema([(columns.url, pa.string()), (columns.caption, pa.string())])
    options = pa.json.ParseOptions(explicit_schema=texts, unexpected_field_behavior="infer")
    return pa.json.open_json(stream, parse_options=options)


def _typed(table: pa.Table, columns: Columns, path: Path) -> pa.Table:
    found = [table.column(name) for name in columns.as_read]
    for name, column in zip(columns.others, found[2:], strict=True):
        if not _fits_json(column.type):
            raise UserError(
                str(path), f"column {name!r} is of type {column.type}", "Keep text, numbers, or lists of them."
            )
    texts = [column.cast(pa.string()) for column in found[:2]]
    return pa.Table.from_arrays([*texts, *found[2:]], ["url", "caption", *columns.others])


def _fits_json(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _fits_json(kind.value_type)
    simple = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer)
    return any(test(kind) for test in (*simple, pa.types.is_floating, pa.types.is_null))


def adopt(out: Path, plan: Plan) -> int | None:
    """Write the plan, or hold it against the one that lies there. Returns the number of lines, once that is known.

    Raises `UserError` naming what differs, or for a folder of something else.
    """
    path, now = out / PLAN, plan.to_json()
    if not path.exists():
        if any(not child.name.startswith(".") for child in out.iterdir()):
            raise UserError(str(out), "wanted a new or empty folder, found something else", "Choose another --out.")
        write_json(path, {**now, "num_rows": None})
        return None
    was = read_json(path)
    if not any(out.glob("*.tar")) and any(was.get(name) != now[name] for name in now):
        write_json(path, {**now, "num_rows": None})  # nothing was fetched by the other plan
        return None
    for name in now:
        if was.get(name) != now[name]:
            raise UserError(
                str(out),
                f"this folder was begun with another plan: {name} was {was.get(name)}, is now {now[name]}",
                "Give the same list and options to go on, or choose another --out.",
            )
    return None if was["num_rows"] is None else int(was["num_rows"])
