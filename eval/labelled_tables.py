"""A labelled set in a folder of Hugging Face `datasets`, saved or downloaded: Arrow or parquet, image and label.

A ClassLabel brings its class names along. Labels that are names need none; labels that are bare numbers need a class
list. How a list is matched with a ClassLabel's names is told in `eval.labelled_classes.labels_by_number`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from eval.class_names import ClassList
from eval.labelled_classes import Labels, labels_by_name, labels_by_number
from eval.labelled_set import Job, LabelledSet, NoImage, Pixels, Unreadable, decoded, digest, stamp, stamp_if_there
from prep.errors import UserError
from prep.labelled_files import labelled_files
from prep.labelled_tables import LabelledTable, list_labels, named_files, read_images


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
    # What a row names a file by stands in the table; the file itself may change, come and go.
    stamps += [stamp_if_there(file) for table in tables for file in named_files(table)]
    faults = tuple(Unreadable(table.url, table.fault) for table in tables if table.fault)
    fingerprint = digest([*found.class_names, found.labels, *stamps])
    return LabelledSet(path, found.class_names, found.labels, fingerprint, _Rows(tables, rows), faults, found.unmatched)


def _labels(
    path: Path, labels: Sequence[int | str | None], names: tuple[str, ...], classes: ClassList | None
) -> Labels:
    texts = [label for label in labels if not isinstance(label, int)]
    if len(texts) == len(labels):
        return labels_by_name(path, texts, classes)
    if not names and classes is None:
        problem = "its labels are numbers, and the table does not say what they stand for (it has no ClassLabel)"
        raise UserError(str(path), problem, "Give --classes a list of class names, in the order of the numbers.")
    return labels_by_number(path, labels, names, classes)
