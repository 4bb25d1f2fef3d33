"""The files of a labelled set in tars or tables: one file, a pattern, or a folder of them."""

import os

from prep.errors import UserError
from prep.places import Folder, expand
from prep.sources.inputs import files_of_folder
from prep.sources.names import readable
from prep.sources.tars import TAR_SUFFIXES

LABELLED_TABLE_SUFFIXES = (".arrow", ".parquet")


def kind_of_files(path: str) -> str:
    """What lies at a path or matches a pattern: "tars", "tables", "store", or "folder" for all else."""
    if not os.path.isdir(path):
        return _kind_of_names([path]) or "folder"
    inside = Folder.of(path).sizes()
    files = [name for name, size in inside.items() if size is not None]
    if {"manifest.json", "plan.json"} & set(files):
        return "store"
    if {"dataset_dict.json", "state.json"} & set(files):
        return "tables"
    folders = [name for name, size in inside.items() if size is None and not name.startswith(".")]
    found = [_kind_of_names(files), *(_kind_of_names(os.listdir(os.path.join(path, name))) for name in folders)]
    return next((kind for kind in found if kind), "folder")


def _kind_of_names(names: list[str]) -> str:
    if any(name.lower().endswith(TAR_SUFFIXES) for name in names):
        return "tars"
    return "tables" if any(name.lower().endswith(LABELLED_TABLE_SUFFIXES) for name in names) else ""


def labelled_files(path: str) -> list[str]:
    """The tars or tables at a path, in natural order; those of a folder's only subfolder with tars where it has none.

    Raises `UserError` when there are none, or they are of several splits.
    """
    if not os.path.isdir(path):
        return [url for url, _ in expand([path])]
    found = files_of_folder(path)
    if not found:
        inner = [os.path.join(path, name) for name, size in sorted(Folder.of(path).sizes().items()) if size is None]
        with_tars = [folder for folder in inner if _kind_of_names(os.listdir(folder)) == "tars"]
        if len(with_tars) > 1:
            names = ", ".join(readable(os.path.basename(folder)) for folder in with_tars)
            raise UserError(path, f"it holds tars in several folders: {names}", f"Name one, such as {with_tars[0]}")
        found = files_of_folder(with_tars[0]) if with_tars else []
    if not found:
        raise UserError(path, "wanted tars or tables, but there are none in it", "Name a folder that has them.")
    return [url for url, _ in found]
