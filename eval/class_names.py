"""The classes of a labelled set: what prompts call them, and what stands for each in the data.

    imagenet          ImageNet's 1,000 under the names of CLIP's protocol; a folder bears a class's WordNet id
    imagenet-v2       the same classes; a folder bears its class's number, 0 to 999
    imagenet-sketch   as imagenet
    imagenet-a, -r    the 200 of the 1,000 that ImageNet-A, or -R, has pictures of; only these are possible answers
    objectnet         the 113 of ObjectNet that ImageNet has too, by ObjectNet's own names (eval.objectnet)
    objectnet-imagenet  the same, each by the names of its classes in ImageNet
    FILE              a text file with a class a line: its name, or what stands for it in the data, a tab, its name

Where the data has numbers for labels, a file's keys are these numbers if all of them are whole numbers; else its lines
are counted from 0 (`eval.labelled_classes.labels_by_number`). Keys that differ in capitals alone are two.

So does CLIP_benchmark ask. Folders of no class, as most of ObjectNet's are, are counted and not judged.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from eval import objectnet
from prep.errors import UserError

IMAGENET_SETS = ("imagenet", "imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch")
CLASS_LISTS = (*IMAGENET_SETS, "objectnet", "objectnet-imagenet")
_MAX_BYTES = 1 << 24
_REMEDY = "A list has one class a line: its name, or what stands for it in the data, a tab, and its name."


@dataclass(frozen=True, slots=True)
class ClassList:
    """names: as prompts use them; the same name may stand for two classes, as in ImageNet. keys: what stands for each
    class in the data (a folder's name, a WordNet id), all different; the names where there is nothing else. asked: the
    names that prompts use for each class, of which the best counts; empty where that is its name alone.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    asked: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@cache
def _synsets(of: str) -> tuple[str, ...]:
    """The WordNet ids of ImageNet's classes, or of those that ImageNet-A or -R has, in ImageNet's order."""
    return tuple(resources.files("timm.data").joinpath("_info", f"{of}_synsets.txt").read_text().split())


@cache
def _imagenet_names() -> tuple[str, ...]:
    try:
        from open_clip import IMAGENET_CLASSNAMES
    except ImportError as error:
        problem = "wanted ImageNet's class names, which the package open_clip_torch brings; it is not installed"
        raise UserError("--classes", problem, "pip install open_clip_torch") from error
    return tuple(IMAGENET_CLASSNAMES)


def _imagenet(name: str) -> ClassList:
    synsets, names = _synsets("imagenet"), _imagenet_names()
    if name in ("imagenet-a", "imagenet-r"):
        there = set(_synsets(name.replace("-", "_")))
        kept = [place for place, synset in enumerate(synsets) if synset in there]
        return ClassList(tuple(names[place] for place in kept), tuple(synsets[place] for place in kept))
    return ClassList(names, tuple(map(str, range(len(names)))) if name == "imagenet-v2" else synsets)


def _objectnet(name: str) -> ClassList:
    names, keys = objectnet.NAMES, tuple(objectnet.CLASSES)
    if name == "objectnet":
        return ClassList(names, keys)
    of_synset = dict(zip(_synsets("imagenet"), _imagenet_names(), strict=True))
    return ClassList(names, keys, tuple(tuple(map(of_synset.__getitem__, ids)) for ids in objectnet.CLASSES.values()))


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise UserError(str(path), f"wanted a list of classes, found more than {_MAX_BYTES >> 20} MiB", _REMEDY)
    try:
        return data.decode("utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}", "wanted text in UTF-8, found other bytes", _REMEDY) from error


def _read(path: Path) -> ClassList:
    met: dict[str, tuple[int, str]] = {}
    lines = _lines(path)
    keyed = "\t" in lines[0]
    for number, line in enumerate(lines, start=1):
        parts = [part.strip() for part in line.split("\t")]
        wanted = "a key, a tab and a name, as in line 1" if keyed else "a name and no tab, as in line 1"
        if len(parts) != 1 + keyed or not all(parts):
            # An empty line could be a class whose number the others count on.
            found = repr(line[:80]) if line.strip() else "an empty line"
            raise UserError(f"{path}, line {number}", f"wanted {wanted}, found {found}", _REMEDY)
        if parts[0] in met:
            problem = f"{parts[0]!r} stands in line {met[parts[0]][0]} already"
            raise UserError(f"{path}, line {number}", problem, "Take one of the two out.")
        met[parts[0]] = number, parts[-1]
    if len(met) < 2:
        raise UserError(str(path), f"wanted at least two classes, found {len(met)}", _REMEDY)
    return ClassList(tuple(name for _, name in met.values()), tuple(met))


def find_classes(name_or_path: str) -> ClassList:
    """One of CLASS_LISTS, or a file's. Raises `UserError` for neither, naming the line of the file where it can."""
    if name_or_path in IMAGENET_SETS:
        return _imagenet(name_or_path)
    if name_or_path in CLASS_LISTS:
        return _objectnet(name_or_path)
    if not Path(name_or_path).is_file():
        problem = "there is no such list of classes, nor a file of that name"
        remedy = f"Choose one of {', '.join(CLASS_LISTS)}, or give a text file with a class a line."
        raise UserError(f"--classes {name_or_path}", problem, remedy)
    return _read(Path(name_or_path))
