"""A labelled set in a folder of Hugging Face `datasets`, saved or downloaded: Arrow or parquet, image and label.

A ClassLabel brings its class names along. Labels that are names need none; labels that are bare numbers need a class
list. A list beside a ClassLabel is matched by its keys and names; where none of them is a ClassLabel's name and both
are equally many, by their order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from eval.class_names import ClassList
from eval.labelled_set import (
    Job,
    LabelledSet,
    Labels,
    NoImage,
    Pixels,
    Unreadable,
    decoded,
    digest,
    labels_by_name,
    labels_by_number,
    stamp,
)
from prep.errors import UserError
from prep.labelled_files import labelled_files
from prep.labelled_tables import LabelledTable, list_labels, read_images


@dataclass(frozen=True, slots=True)
class _Rows:
    """rows: (place of the table, row) each, table by table."""

    tables: tuple[LabelledTable, ...]
    rows: tuple[tuple[int, int], ...]

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        chosen = (self.rows[place] for place in places)
        for table, group in groupby(chosen, key=lambda entry: entry[0]):
            for data in read_images(self.tables[table], [row for _, row in group]):
                yield partial(_decoded, data)

    def named(self, place: int) -> str:
        table, row = self.rows[place]
        return f"{self.tables[table].url}: row {row}"


def _decoded(data: bytes | str) -> Pixels:
    if isinstance(data, str):
        raise NoImage(data)
    return decoded(data)


def open_labelled_tables(path: Path, classes: ClassList | None = None) -> LabelledSet:
    """List the rows of a table, of a pattern's or of a folder's, and their labels.

    Raises `UserError` when there are none, columns are missing, or nothing says what the labels stand for.
    """
    tables = tuple(list_labels(url) for url in labelled_files(str(path)))
    rows = tuple((place, row) for place, table in enumerate(tables) for row in range(len(table.labels)))
    if not rows:
        raise UserError(str(path), "wanted rows with images and labels, but there are none in it", "Restore it.")
    other = next((table for table in tables if table.names != tables[0].names), None)
    if other is not None:
        problem = f"its class names are not those of {Path(tables[0].url).name}"
        raise UserError(other.url, problem, "Evaluate the tables one by one.")
    found = _labels(path, [label for table in tables for label in table.labels], tables[0].names, classes)
    stamps = [part for table in tables for part in (Path(table.url).name, stamp(Path(table.url)), table.image)]
    faults = tuple(Unreadable(table.url, table.fault) for table in tables if table.fault)
    fingerprint = digest([*found.class_names, found.labels, *stamps])
    return LabelledSet(path, found.class_names, found.labels, fingerprint, _Rows(tables, rows), faults, found.unmatched)


def _labels(
    path: Path, labels: Sequence[int | str | None], names: tuple[str, ...], classes: ClassList | None
) -> Labels:
    if all(isinstance(label, str) or label is None for label in labels):
        return labels_by_name(path, [label if isinstance(label, str) else "no label" for label in labels], classes)
    if not names and classes is None:
        problem = "its labels are numbers, and the table does not say what they stand for (it has no ClassLabel)"
        raise UserError(str(path), problem, "Give --classes a list of class names, in the order of the numbers.")
    numbers = ["no label" if label is None else label for label in labels]
    if classes is None:
        return labels_by_number(numbers, names)
    inside = [isinstance(number, int) and 0 <= number < len(names) for number in numbers]
    texts = [names[int(number)] if known else f"class {number}" for number, known in zip(numbers, inside, strict=True)]
    found = labels_by_name(path, texts, classes)
    by_order = len(names) in (0, len(classes.names)) and not (found.labels >= 0).any()
    return labels_by_number(numbers, classes.names) if by_order else found
