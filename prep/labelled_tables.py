"""Images and their labels in Arrow and parquet tables, such as Hugging Face `datasets` writes them.

The label's class names are where `datasets` keeps a ClassLabel's: in the notes beside a table's schema, or in
`dataset_info.json` beside the table.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prep.errors import UserError
from prep.image_limits import ImageLimits
from prep.sources.arrow_tables import ArrowTable
from prep.sources.names import has_control, readable
from prep.sources.roots import Refused, Root
from prep.sources.rows import CutTableError, Oversized, Span
from prep.sources.table_columns import USUAL_IMAGES
from prep.sources.tables import open_table

USUAL_LABELS = ("label", "labels", "class", "cls", "target", "class_name", "fine_label")
_MAX_LABEL_BYTES = 4096
_MAX_IMAGE_BYTES = ImageLimits().max_bytes


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """A table's labels. image: the column of images. names: of the label's classes, where the table knows them.

    labels: a whole number or a text a row, None where there is none. fault: how the table breaks, where it does.
    """

    url: str
    image: str
    names: tuple[str, ...]
    labels: tuple[int | str | None, ...]
    fault: str


def list_labels(url: str) -> LabelledTable:
    """Read the labels of a table, and no image.

    Raises `UserError` when a column is missing or of a type that cannot serve, or the table cannot be read at all.
    """
    labels: list[int | str | None] = []
    fault = ""
    image, names = "", tuple[str, ...]()
    try:
        with open_table(url) as table:
            assert isinstance(table, ArrowTable)
            classes = _class_labels(url, table)
            image = _column(url, table, "image", USUAL_IMAGES)
            label = _column(url, table, "label", (*USUAL_LABELS, *classes) if len(classes) == 1 else USUAL_LABELS)
            names = classes.get(label, ())
            for row in table.rows(Span(0, None, 0), {label: _MAX_LABEL_BYTES}):
                labels.append(_label(row.values.get(label)))
    except CutTableError as cut:
        if not image:
            raise UserError(
                url, f"wanted a table, but it is damaged: {readable(str(cut))[:300]}", "Restore it."
            ) from cut
        fault = f"the table breaks after {len(labels):,} rows: {readable(str(cut))[:300]}"
    return LabelledTable(url, image, names, tuple(labels), fault)


def _label(value: object) -> int | str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        return readable(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _column(url: str, table: ArrowTable, role: str, usual: Sequence[str]) -> str:
    found = next((name for name in usual if name in table.columns), None)
    if found is None:
        columns = ", ".join(readable(column)[:60] for column in table.columns[:40])
        problem = f"wanted a column for the {role} ({', '.join(usual[:4])}, ...), found {columns}"
        raise UserError(url, problem, f"Rename the column to {role}.")
    misfit = table.misfit(found, "image" if role == "image" else "key")
    if misfit:
        wanted = "images, or their paths" if role == "image" else "whole numbers or names"
        raise UserError(url, f"wanted {wanted} in the column {found!r}, found {misfit}", f"Name another {role}.")
    return found


def _class_labels(url: str, table: ArrowTable) -> dict[str, tuple[str, ...]]:
    """The class names of each ClassLabel column."""
    notes: list[Any] = []
    for text in (table.notes.get(b"huggingface", b""), _info_beside(url)):
        try:
            notes.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    found: dict[str, tuple[str, ...]] = {}
    for note in notes:
        features = _inside(_inside(note, "info") or note, "features")
        for column, feature in features.items():
            names = feature.get("names") if isinstance(feature, dict) else None
            if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
                found.setdefault(column, tuple(readable(name) for name in names))
    return found


def _inside(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _info_beside(url: str) -> bytes:
    path = Path(url).with_name("dataset_info.json")
    return path.read_bytes() if path.is_file() else b""


def is_labelled_table(url: str) -> bool:
    """Whether a table has a column of images and one of labels, by their names."""
    try:
        with open_table(url) as table:
            return not (set(table.columns).isdisjoint(USUAL_IMAGES) or set(table.columns).isdisjoint(USUAL_LABELS))
    except CutTableError:
        return False


def named_files(table: LabelledTable) -> Iterator[Path]:
    """The files that a table's rows name as their images, in its folder, there or not; none outside it.

    No image is read for that. Where a table breaks, the names end.
    """
    root = os.path.realpath(Path(table.url).parent)
    try:
        for name in _paths_of_parquet(table) if table.url.lower().endswith(".parquet") else _paths(table):
            # As `Root` finds them.
            path = os.path.realpath(os.path.join(root, name)) if name and not has_control(name) else root
            if path != root and os.path.commonpath([path, root]) == root:
                yield Path(path)
    except (CutTableError, pa.ArrowException, ValueError):
        return


def _paths(table: LabelledTable) -> Iterator[str | None]:
    """Of rows without an image's bytes. What is longer than any path is not looked at."""
    with open_table(table.url) as opened:
        for row in opened.rows(Span(0, None, 0), {table.image: _MAX_LABEL_BYTES}):
            value = row.values.get(table.image)
            if isinstance(value, dict):
                value = value.get("path") if value.get("bytes") is None else None
            yield value if isinstance(value, str) else None


def _paths_of_parquet(table: LabelledTable) -> Iterator[str | None]:
    """The same out of the column of paths alone, for reading a row's struct would read its image."""
    with pq.ParquetFile(table.url, buffer_size=1 << 20, pre_buffer=False) as file:
        kind = file.schema_arrow.field(table.image).type
        if not pa.types.is_struct(kind):
            yield from () if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else _paths(table)
            return
        leaves = {file.schema.column(place).path: place for place in range(len(file.schema.names))}
        data, path = leaves.get(f"{table.image}.bytes"), f"{table.image}.path"
        for group in range(file.num_row_groups if path in leaves else 0):
            facts = file.metadata.row_group(group).column(data).statistics if data is not None else None
            if facts is None or not facts.has_null_count or facts.null_count:
                for batch in file.iter_batches(row_groups=[group], columns=[path]):
                    for name in batch.column(0).field("path").cast(pa.binary()).to_pylist():
                        yield None if name is None else name.decode("utf-8", "surrogateescape")


def read_images(table: LabelledTable, rows: Sequence[int]) -> Iterator[bytes | str]:
    """The image files of these rows, which are ascending; for one that cannot be had, why not."""
    wanted = iter(rows)
    number = next(wanted, None)
    root = Root(str(Path(table.url).parent))
    fault = "the table ends before it"
    try:
        with open_table(table.url) as opened:
            for row in opened.rows(Span(rows[0], rows[-1] + 1, 0) if rows else Span(0, 0, 0), _limits(table)):
                if row.number != number:
                    continue
                yield _image(row.values.get(table.image), root)
                number = next(wanted, None)
    except CutTableError as cut:
        fault = f"the table is damaged: {readable(str(cut))[:300]}"
    while number is not None:
        yield fault
        number = next(wanted, None)


def _limits(table: LabelledTable) -> dict[str, int]:
    return {table.image: _MAX_IMAGE_BYTES}


def _image(value: object, root: Root) -> bytes | str:
    if isinstance(value, dict):  # Hugging Face's struct
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str) and value:
        read = root.read(value, _MAX_IMAGE_BYTES)
        return f"{read.reason}: {read.detail}" if isinstance(read, Refused) else read
    if isinstance(value, Oversized):
        return f"the image has {value.num_bytes:,} bytes; at most {_MAX_IMAGE_BYTES:,} are read"
    return value if isinstance(value, bytes) else "there is no image in this row"
