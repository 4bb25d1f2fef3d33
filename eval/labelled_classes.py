"""Which class an image is of, from what its set says of it: a text (a folder's name, a caption) or a number.

A class list is asked by what stands for its classes, its keys, and then by their names: as they are written first, and
then as `spelling` has them. What could be two classes is neither, and is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.class_names import ClassList
from prep.errors import UserError

NO_LABEL = "no label"
# With fewer classes a set may well have as many classes as images.
_FEW = 100
_NUM_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Labels:
    """class_names: as prompts use them. labels: int64 [N], places in them, or -1.

    unmatched: what the images with -1 are labelled, and how many are.
    """

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    unmatched: Mapping[str, int]


def spelling(name: str) -> str:
    """What two spellings of one class have in common: `_` is a space, capitals and runs of spaces do not matter."""
    return " ".join(name.replace("_", " ").split()).casefold()


def labels_by_name(
    place: Path, texts: Sequence[str | None], classes: ClassList | None, own: Sequence[str] = ()
) -> Labels:
    """Labels from a text for each image; None, or an empty one, is no label. own: the texts that are classes, where
    that is known without `classes`.

    With a class list an image's class is the one whose key its text is, or else whose name; see the module. Without,
    the distinct texts are the classes, in their order. Raises `UserError` when these are too many to be class names,
    two would be one, or one has no name.
    """
    shown = [text or NO_LABEL for text in texts]
    if classes is not None:
        known = _Known.of(classes)
        return _labels(classes.names, [known.place(text) for text in texts], shown)
    given = tuple(own) or tuple(sorted({text for text in texts if text}))
    if len(given) > _FEW and 2 * len(given) > len(texts):
        problem = f"wanted class names, but its {len(texts):,} images have {len(given):,} different ones"
        raise UserError(str(place), problem, "Its captions seem to be free text: give --classes a list of classes.")
    names = tuple(" ".join(text.replace("_", " ").split()) for text in given)
    _check_named(place, names, given)
    twins = sorted(name for name, num in Counter(names).items() if num > 1)
    if twins:
        raise UserError(
            str(place), f"two of its labels stand for the class {twins[0]!r}", "Rename one; `_` is a space."
        )
    places = {text: label for label, text in enumerate(given)}
    return _labels(names, [places.get(text or "", -1) for text in texts], shown)


def labels_by_number(
    place: Path, numbers: Sequence[int | str | None], own: Sequence[str], classes: ClassList | None
) -> Labels:
    """Labels from a whole number for each image; None is no label, and a text no class's.

    own: the names that the set itself gives its numbers; empty where it gives none, which needs `classes`. A class list
    is matched by these names where each of them is one of its classes, each of its classes one of them, or one of them
    a key of its classes that is not the class's name. Else numbers stand for its classes: as its keys where all of
    these are numbers, or by its order where it is as long as the set's own, or that has none. No name may contradict
    that: of WordNet's names for ImageNet's classes, say, 426 are the list's and the others are not. Raises `UserError`
    when neither way is sure.
    """
    shown = [NO_LABEL if n is None else f"class {n}" if isinstance(n, int) else n or NO_LABEL for n in numbers]
    if classes is None:
        _check_named(place, own, own)
        return _labels(tuple(own), [_at(range(len(own)), number) for number in numbers], shown)
    of_number = _places_of_numbers(place, classes, own)
    shown = [
        own[n] if isinstance(n, int) and 0 <= n < len(own) else text for n, text in zip(numbers, shown, strict=True)
    ]
    return _labels(classes.names, [_at(of_number, number) for number in numbers], shown)


def _places_of_numbers(place: Path, classes: ClassList, own: Sequence[str]) -> Mapping[int, int]:
    """The place in the class list that each number stands for."""
    known = _Known.of(classes)
    matched = [known.place(name) for name in own]
    num = Counter(matched)
    by_name = {number: found for number, found in enumerate(matched) if found >= 0 and num[found] == 1}
    by_number = _numbers_of_keys(classes)
    speaks = by_number is None and any(_is_key(own[number], classes, found) for number, found in by_name.items())
    if own and (speaks or len(by_name) in (len(own), len(classes))):
        return by_name
    if by_number is None and len(own) in (0, len(classes)):
        by_number = {number: number for number in range(len(classes))}
    if by_number is None:
        missing = next(number for number in range(len(own)) if number not in by_name)
        lacking = next(found for found in range(len(classes)) if found not in by_name.values())
        told = f"its {len(own):,} class names are not those of the list of {len(classes):,}: {len(by_name):,} match"
        raise _unsure(place, f"{told}, its {own[missing]!r} and the list's {classes.names[lacking]!r} do not")
    for number, found in by_name.items():
        if by_number.get(number, -1) != found:
            told = f"{len(by_name):,} of its {len(own):,} class names are names of the list of {len(classes):,}"
            at = by_number.get(number)
            there = "no class" if at is None else repr(classes.names[at])
            raise _unsure(
                place, f"{told}, but not by its order: number {number} is {own[number]!r} here, {there} there"
            )
    return by_number


def _is_key(text: str, classes: ClassList, place: int) -> bool:
    """Whether this is a class's key and not its name: then the list was written for such data."""
    return spelling(text) == spelling(classes.keys[place]) != spelling(classes.names[place])


def _unsure(place: Path, problem: str) -> UserError:
    remedy = "Give --classes a file with a class a line: what the set calls it, a tab, its name in prompts."
    return UserError(str(place), problem, remedy)


def _numbers_of_keys(classes: ClassList) -> dict[int, int] | None:
    """The place of each class by the number that is its key; None for a list without such keys.

    Raises `UserError` for two keys that are one number.
    """
    if classes.keys == classes.names or not all(key.isascii() and key.isdigit() for key in classes.keys):
        return None
    found: dict[int, int] = {}
    for place, key in enumerate(classes.keys):
        if (twin := found.setdefault(int(key), place)) != place:
            problem = f"its keys {classes.keys[twin]!r} and {key!r} are one number"
            raise UserError("--classes", problem, "Take one of the two out.")
    return found


def _at(places: Mapping[int, int] | Sequence[int], number: int | str | None) -> int:
    if not isinstance(number, int):
        return -1
    if isinstance(places, Mapping):
        return places.get(number, -1)
    return number if number in places else -1


def _check_named(place: Path, names: Sequence[str], texts: Sequence[str]) -> None:
    for name, text in zip(names, texts, strict=True):
        if not spelling(name):
            problem = f"the label {text!r} leaves no class name, for `_` is a space"
            raise UserError(str(place), problem, "Rename it, or give --classes a list of what labels stand for.")


def _labels(names: tuple[str, ...], labels: list[int], texts: Sequence[str]) -> Labels:
    unmatched = Counter(text for text, label in zip(texts, labels, strict=True) if label < 0)
    return Labels(names, np.array(labels, np.int64), dict(unmatched))


@dataclass(frozen=True, slots=True)
class _Known:
    """What says which class: keys and names as written, and spelled freely. -1 for what is said of two."""

    keys: dict[str, int]
    names: dict[str, int]
    spelled_keys: dict[str, int]
    spelled_names: dict[str, int]

    @classmethod
    def of(cls, classes: ClassList) -> "_Known":
        written = classes.keys, classes.names
        return cls(*map(_once, written), *(_once([spelling(text) for text in texts]) for texts in written))

    def place(self, text: str | None) -> int:
        if not text:
            return -1
        freely = spelling(text)
        ways = ((self.keys, text), (self.spelled_keys, freely), (self.names, text), (self.spelled_names, freely))
        return next((known[way] for known, way in ways if way in known), -1)


def _once(texts: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, text in enumerate(texts):
        found[text] = -1 if text in found else place
    return found
