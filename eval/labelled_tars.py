"""A labelled set in webdataset tars, as CLIP_benchmark's data sets come:

    flowers/classnames.txt           one name a line, in the order of the numbers
    flowers/test/0.tar               s0001.jpg  s0001.cls ("17")  s0002.webp  s0002.cls ...

A class list is matched by the names of classnames.txt, where that is there, and else by the numbers; see
`eval.labelled_classes.labels_by_number`. A .txt with the class's name may stand for the .cls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from eval.class_names import ClassList
from eval.labelled_classes import Labels, labels_by_name, labels_by_number
from eval.labelled_set import Job, LabelledSet, Unreadable, decoded, digest, stamp
from prep.errors import UserError
from prep.labelled_files import labelled_files, readable
from prep.labelled_tars import LabelledMember, list_tar, read_members

_NAMES = "classnames.txt"


@dataclass(frozen=True, slots=True)
class _Members:
    """members: (tar, member) each, tar by tar."""

    members: tuple[tuple[str, LabelledMember], ...]

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        chosen = (self.members[place] for place in places)
        for tar, group in groupby(chosen, key=lambda entry: entry[0]):
            for data in read_members(tar, [member.member for _, member in group]):
                yield partial(decoded, data)

    def named(self, place: int) -> str:
        tar, member = self.members[place]
        return f"{tar}: {member.key}"


def open_labelled_tars(path: Path, classes: ClassList | None = None) -> LabelledSet:
    """List the images of a tar, of a pattern's or of a folder's, and their labels.

    Raises `UserError` when there are none, or nothing says what their numbers stand for.
    """
    tars = labelled_files(str(path))
    members: list[tuple[str, LabelledMember]] = []
    faults: list[Unreadable] = []
    for tar in tars:
        images, wrong = list_tar(tar)
        members += [(tar, image) for image in images]
        faults += [Unreadable(f"{tar}: {key}" if key else tar, why) for key, why in wrong]
    if not members:
        told = f"; {faults[0].path}: {faults[0].problem}" if faults else ""
        more = f" and {len(tars) - 1:,} more" * (len(tars) > 1)
        problem = (
            f"wanted images with their labels in {readable(Path(tars[0]).name)}{more}, but there are none in it{told}"
        )
        remedy = (
            "Pack KEY.jpg beside KEY.cls, a whole number from 0. Move a tar that is not of the set out of its folder."
        )
        raise UserError(str(path), problem, remedy)
    found = _labels(path, tars, [member for _, member in members], classes)
    stamps = [part for tar in tars for part in (Path(tar).name, stamp(Path(tar)))]
    fingerprint = digest([*found.class_names, found.labels, *stamps])
    source = _Members(tuple(members))
    return LabelledSet(path, found.class_names, found.labels, fingerprint, source, tuple(faults), found.unmatched)


def _labels(path: Path, tars: list[str], members: list[LabelledMember], classes: ClassList | None) -> Labels:
    named = _class_names(tars)
    if not any("cls" in member.labels for member in members):
        return labels_by_name(path, [member.labels.get("txt") for member in members], classes, named)
    if not named and classes is None:
        problem = f"its labels are numbers, and there is no {_NAMES} beside the tars to say what they stand for"
        raise UserError(str(path), problem, f"Write {_NAMES}, one name a line, or give --classes.")
    return labels_by_number(path, [_number(member.labels.get("cls", "")) for member in members], named, classes)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _class_names(tars: list[str]) -> tuple[str, ...]:
    """The names of a list beside the tars, or one folder up; none where there is no list. Raises `UserError`."""
    folder = Path(tars[0]).parent
    file = next((file for file in (folder / _NAMES, folder.parent / _NAMES) if file.is_file()), None)
    if file is None:
        return ()
    try:
        names = tuple(" ".join(line.split()) for line in file.read_text("utf-8").rstrip().split("\n"))
    except UnicodeDecodeError as error:
        raise UserError(str(file), f"wanted class names in UTF-8, but {error}", "Save it again.") from error
    if "" in names:
        raise UserError(f"{file}, line {names.index('') + 1}", "wanted a class name, found none", "Fill or remove it.")
    return names
