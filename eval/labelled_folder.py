"""A labelled set as anyone can lay it out: one folder per class, the folder's name being the class's name.

    animals/
      cat/         1.jpg 2.png ...        class "cat"
      polar_bear/  a.webp ...             class "polar bear"

Classes are in the order of their folders' names, or a class list's, whose keys or names the folders bear. Every file in
a class's folder is tried, whatever its name ends in; what is no readable image is counted and named, not fatal. Hidden
files and folders, files beside the class folders and folders inside them are passed over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eval.class_names import ClassList
from eval.labelled_classes import labels_by_name
from eval.labelled_set import LIMITS, Job, LabelledSet, Pixels, decoded, digest, stamp
from prep.errors import UserError
from prep.labelled_files import readable

_REMEDY = "Point at a folder that has one folder of images per class, e.g. animals/cat/1.jpg and animals/dog/1.jpg."


@dataclass(frozen=True, slots=True)
class _Files:
    files: tuple[Path, ...]

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        return (partial(read_pixels, self.files[place]) for place in places)

    def named(self, place: int) -> Path:
        return Path(readable(str(self.files[place])))


def read_pixels(file: Path) -> Pixels:
    """An image file's pixels as uint8 [H, W, 3]. Raises `ImageError` or OSError when it cannot be read."""
    # One byte beyond the limit is refused, and a file of any size costs no more.
    with file.open("rb") as opened:
        return decoded(opened.read(LIMITS.max_bytes + 1))


def open_class_folder(path: Path, classes: ClassList | None = None) -> LabelledSet:
    """List the classes and their files.

    Raises `UserError` when the path is no folder, has no class folders or no files, or when two folders give the same
    class name.
    """
    if not path.is_dir():
        came = "this is a file" if path.exists() else "nothing is there"
        raise UserError(str(path), f"wanted a folder with one folder of images per class, but {came}", _REMEDY)
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2 and (classes is None or not folders):
        raise UserError(str(path), f"wanted at least two class folders, found {len(folders)}", _REMEDY)
    files, texts = [], []
    for folder in folders:
        inside = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        files += inside
        texts += [readable(folder.name)] * len(inside)
    found = labels_by_name(path, texts, classes, [readable(folder.name) for folder in folders])
    if not files:
        raise UserError(str(path), f"found {len(folders)} class folders, but no image in any of them", _REMEDY)
    parts = [part for file in files for part in (str(file.relative_to(path)), stamp(file))]
    fingerprint = digest([*found.class_names, found.labels, *parts])
    return LabelledSet(path, found.class_names, found.labels, fingerprint, _Files(tuple(files)), (), found.unmatched)
