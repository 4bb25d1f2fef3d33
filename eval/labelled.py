"""Opening a labelled set of any kind, by what lies at its path:

a folder per class      animals/cat/1.jpg                       eval.labelled_folder
webdataset tars         0001.jpg + 0001.cls, classnames.txt     eval.labelled_tars
a Hugging Face folder   .arrow or .parquet, image and label     eval.labelled_tables
a store of prep.build   class names for captions                eval.labelled_store
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from eval.class_names import ClassList
from eval.labelled_folder import open_class_folder
from eval.labelled_set import LabelledBatch, LabelledSet, Unreadable
from eval.labelled_store import open_labelled_store
from eval.labelled_tables import open_labelled_tables
from eval.labelled_tars import open_labelled_tars
from prep.errors import UserError
from prep.labelled_files import kind_of_files

__all__ = ["LabelledBatch", "LabelledSet", "Unreadable", "open_labelled"]

_OPENERS: dict[str, Callable[[Path, ClassList | None], LabelledSet]] = {
    "folder": open_class_folder,
    "tars": open_labelled_tars,
    "tables": open_labelled_tables,
    "store": open_labelled_store,
}
_NUM_NAMED = 5


def open_labelled(path: Path | str, classes: ClassList | None = None) -> LabelledSet:
    """List the images and their labels; nothing is decoded yet.

    path: on the local disk; of tars and tables a pattern too. classes: which classes there are and what stands for
    each, in place of what the set itself says. Raises `UserError` when the path is none of the four, has fewer than two
    classes, or none of its images has one.
    """
    found = _OPENERS[kind_of_files(str(path))](Path(path), classes)
    if classes is not None:
        found = replace(found, asked=classes.asked)
    if len(found.class_names) < 2:
        problem = f"wanted at least two classes, found {', '.join(found.class_names) or 'none'}"
        raise UserError(str(path), problem, "Evaluate on images of more than one class.")
    if not found.num_judged:
        labels = ", ".join(list(found.unmatched)[:_NUM_NAMED])
        begin = ", ".join(found.class_names[:_NUM_NAMED])
        problem = f"none of its {len(found.labels):,} images is of a class of the list; its labels are {labels} ..."
        raise UserError(str(path), problem, f"Give --classes the list that fits: this one begins {begin} ...")
    return found
