"""The files of a labelled set in tars or tables: one file, a pattern, or a folder of them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from prep.errors import UserError
from prep.labelled_tables import is_labelled_table
from prep.places import Folder, expand
from prep.sources.inputs import files_of_folder
from prep.sources.names import IMAGE_EXTENSIONS, readable
from prep.sources.tars import TAR_SUFFIXES

__all__ = ["LABELLED_TABLE_SUFFIXES", "kind_of_files", "labelled_files", "readable"]

LABELLED_TABLE_SUFFIXES = (".arrow", ".parquet")
# What people and programs put beside tars and tables.
_NOTES = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".yaml", ".yml", ".idx", ".log", ".md5", ".sha256", ".py")
_NAMES_OF_NOTES = ("license", "readme", "_success")


@dataclass(frozen=True, slots=True)
class _Inside:
    """What lies in a folder. tars, tables: its own. packed: folders of nothing but tars or of tables, and the kind.

    pictures: folders with images in them.
    """

    files: tuple[str, ...]
    tars: tuple[str, ...]
    tables: tuple[str, ...]
    packed: dict[str, str]
    pictures: tuple[str, ...]

    @classmethod
    def of(cls, path: str) -> "_Inside":
        entries = {name: size for name, size in Folder.of(path).sizes().items() if not name.startswith(".")}
        files = tuple(name for name, size in entries.items() if size is not None)
        listed = {name: _visible(os.path.join(path, name)) for name, size in entries.items() if size is None}
        packed = {folder: kind for folder, names in sorted(listed.items()) if (kind := _kind_of_packed(names))}
        pictures = tuple(folder for folder, names in sorted(listed.items()) if any(map(_is_image, names)))
        return cls(files, _ending(files, TAR_SUFFIXES), _ending(files, LABELLED_TABLE_SUFFIXES), packed, pictures)

    def kind(self, path: str) -> str:
        """As `kind_of_files`. Raises `UserError` for a table of labelled images beside folders of images."""
        if {"manifest.json", "plan.json"} & set(self.files):
            return "store"
        if {"dataset_dict.json", "state.json"} & set(self.files):
            return "tables"
        if len(self.pictures) > 1:
            labelled = next((name for name in self.tables if is_labelled_table(os.path.join(path, name))), None)
            if labelled is not None and not self.tars:
                folders = ", ".join(map(readable, self.pictures[:3]))
                problem = f"it holds {readable(labelled)}, a table of labelled images, and folders of images: {folders}"
                raise UserError(
                    path, problem, f"Name the table directly, {path}/{readable(labelled)}, or move it away."
                )
            return "folder"
        own = "tars" if self.tars else "tables" if self.tables else ""
        return own or next(iter(self.packed.values()), "folder")


def _visible(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if not name.startswith(".")]


def _ending(names: Iterable[str], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name.lower().endswith(suffixes))


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def _kind_of_packed(names: list[str]) -> str:
    """The kind of a folder that holds nothing but tars or tables, and notes on them; "" for all others."""
    tars, tables = _ending(names, TAR_SUFFIXES), _ending(names, LABELLED_TABLE_SUFFIXES)
    if not (tars or tables):
        return ""
    notes = [name for name in names if name.lower().endswith(_NOTES) or name.lower() in _NAMES_OF_NOTES]
    if len({*tars, *tables, *notes}) < len(names):
        return ""
    return "tars" if tars else "tables"


def kind_of_files(path: str) -> str:
    """What lies at a path or matches a pattern: "tars", "tables", "store", or "folder" for all else.

    A folder with folders of images in it is one of these, whatever else lies there. Raises `UserError` where that is
    not sure.
    """
    if os.path.isdir(path):
        return _Inside.of(path).kind(path)
    if _ending([path], TAR_SUFFIXES):
        return "tars"
    return "tables" if _ending([path], LABELLED_TABLE_SUFFIXES) else "folder"


def labelled_files(path: str) -> list[str]:
    """The tars or tables at a path, in natural order; those of a folder's only subfolder of them where it has none.

    Raises `UserError` when there are none, or they are of several splits.
    """
    if not os.path.isdir(path):
        return [url for url, _ in expand([path])]
    found = _of_folder(path)
    inside = _Inside.of(path)
    if not found and len(inside.tables) == 1:
        # Images lie beside it, those that it names.
        found = [os.path.join(path, inside.tables[0])]
    if not found and inside.tables:
        names = ", ".join(map(readable, inside.tables[:3]))
        problem = f"it holds several tables beside images: {names}"
        raise UserError(path, problem, f"Name one directly, such as {path}/{readable(inside.tables[0])}")
    if not found:
        packed = [os.path.join(path, name) for name in inside.packed]
        if len(packed) > 1:
            names, kinds = ", ".join(map(readable, inside.packed)), " and ".join(sorted(set(inside.packed.values())))
            raise UserError(path, f"it holds {kinds} in several folders: {names}", f"Name one, such as {packed[0]}")
        found = _of_folder(packed[0]) if packed else []
    if not found:
        raise UserError(path, "wanted tars or tables, but there are none in it", "Name a folder that has them.")
    return found


def _of_folder(path: str) -> list[str]:
    return [url for url, _ in files_of_folder(path) if _ending([url], (*TAR_SUFFIXES, *LABELLED_TABLE_SUFFIXES))]
