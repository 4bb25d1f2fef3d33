"""Captions from a table of their own, matched to pairs by key: how captions made later, by a model, join a store.

    --captions synthetic=table:synthetic.parquet#caption

A parquet, CSV, TSV or JSON lines file with a column `key` and a column of captions, a string or a list of strings; the
rows of one key are its captions, in their order, and keys that no pair has are passed over. The table is held in
memory, with twelve bytes a row beside it: ten million captions fit a worker's gigabyte if they are short.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import xxhash
from numpy.typing import NDArray

from prep.captions import Caption, CaptionError, decode
from prep.errors import UserError
from prep.places import open_input
from prep.sources.fields import encoded

PREFIX = "table:"
KEY = "key"


@dataclass(frozen=True, slots=True)
class TablePlace:
    """A table and its column of captions. url: a local path or an fsspec URL."""

    url: str
    column: str

    @staticmethod
    def parse(field: str) -> "TablePlace | None":
        """From `table:URL#COLUMN` (default column "caption"); None for another kind of field."""
        if not field.startswith(PREFIX):
            return None
        url, _, column = field.removeprefix(PREFIX).partition("#")
        return TablePlace(url, column or "caption")

    @property
    def field(self) -> str:
        """What a plan records: the table by its name alone, so that a moved table is the same one."""
        return f"{PREFIX}{self.url.rstrip('/').rpartition('/')[2]}#{self.column}"


class CaptionTable:
    """A table's captions by key. Raises `UserError` when it cannot be read or lacks a column."""

    def __init__(self, place: TablePlace) -> None:
        table = _read(place)
        self._keys, self._captions = table.column(KEY), table.column(place.column)
        hashes = np.array([_hash(key) for key in self._keys.to_pylist()], np.uint64)
        self._order: NDArray[np.int64] = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def of(self, key: str) -> tuple[tuple[Caption, ...], int]:
        """(The clean captions of a key, how many more were there that are none.)"""
        first, last = (int(np.searchsorted(self._hashes, np.uint64(_hash(key)), side)) for side in ("left", "right"))
        good: list[Caption] = []
        num_bad = 0
        for row in self._order[first:last].tolist():
            if self._keys[row].as_py() != key:
                continue
            for raw in encoded(self._captions[row].as_py()):
                try:
                    good.append(decode(raw))
                except CaptionError:
                    num_bad += 1
        return tuple(good), num_bad


def _hash(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))


def _read(place: TablePlace) -> pa.Table:
    columns: Sequence[str] = (KEY, place.column)
    ending = place.url.rpartition(".")[2].lower()
    try:
        with open_input(place.url) as file:
            if ending == "parquet":
                table = pa.parquet.read_table(file)
            elif ending in ("csv", "tsv"):
                types = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
                parse = pa.csv.ParseOptions(delimiter="\t" if ending == "tsv" else ",", newlines_in_values=True)
                table = pa.csv.read_csv(file, parse_options=parse, convert_options=types)
            elif ending in ("jsonl", "ndjson", "json"):
                table = pa.json.read_json(file)
            else:
                raise UserError(place.url, "wanted a table: .parquet, .csv, .tsv or .jsonl", "Convert it.")
    except pa.ArrowException as error:
        raise UserError(place.url, f"cannot be read as {ending}: {error}", "Mend or convert it.") from error
    for name in columns:
        if name not in table.column_names:
            there = ", ".join(table.column_names)
            raise UserError(
                place.url, f"wanted a column {name}; there are {there}", "--captions NAME=table:FILE#COLUMN"
            )
    if not pa.types.is_string(table.schema.field(KEY).type):
        table = table.set_column(table.column_names.index(KEY), KEY, table.column(KEY).cast(pa.string()))
    return table.select(list(columns))
