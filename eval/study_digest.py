"""What the data of a result is, told so that equal data made anew, moved or renamed is equal, and other data is not.

Of a store only what a recipe reads counts: another resolution or tagger beside it changes nothing.
"""

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from eval.captioned import CaptionedSource, open_captioned
from pipelines.mask_columns import mask_columns
from pipelines.store_view import ImageView
from prep.labelled_files import kind_of_files
from prep.manifest import Column, parse_manifest
from prep.store import Store, open_store
from prep.text_masks import WORD_MASKS
from train.recipe import Recipe, Stage

_BY_CLASS = ("syntax", *WORD_MASKS)
"""The text masks that ask for a token's word class."""
_CLASS_NAMES = "classnames.txt"


def digest_of(values: Any) -> str:
    """SHA-256 of values that JSON can write, 16 hex digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def what_is_read(path: Path, recipe: Recipe, run: Path | None = None) -> dict[str, Any]:
    """Of a store: which pairs, and the settings of every column that a training of the recipe reads, stage by stage.

    run: of the store as it was when this run was begun, which keeps its manifest. Raises `UserError` when the store is
    damaged or lacks one of the columns.
    """
    store = _opened(path, (path / "manifest.json").read_bytes())
    if run is not None:
        store = replace(store, manifest=parse_manifest(run / "manifest.json"))
    return {
        "pairs": store.manifest.fingerprint,
        "stages": [[column.settings for column in _columns(store, recipe, stage)] for stage in recipe.stages],
    }


@cache
def _opened(path: Path, _manifest: bytes) -> Store:
    """The store, once for each state of its manifest: there may be thousands of files to look at."""
    return open_store(path)


def _columns(store: Store, recipe: Recipe, stage: Stage) -> list[Column]:
    manifest, mask = store.manifest, stage.budget.text_mask
    read = [manifest.columns[folder] for folder in ImageView(store, stage.budget.res, stage.crops == "bank").folders]
    for source in manifest.caption_sources:
        columns = mask_columns(store, source, mask, recipe.model.text.tokenizer)
        read += [manifest.columns[f"captions/{source}"], columns.tokens]
        read += [columns.priorities] if mask in _BY_CLASS else []
    return read


@cache
def images_of(path: Path) -> str:
    """Of a labelled set, once a process: its files' names below the path and their sizes, as a digest; not the path's
    own name, nor when a file was written. Of a store: which pairs, and the settings of its views and captions.
    """
    kind = kind_of_files(str(path))
    if kind == "store":
        manifest = parse_manifest(path / "manifest.json")
        columns = [*manifest.of_kind("view"), *manifest.of_kind("captions")]
        return digest_of([manifest.fingerprint, [column.settings for column in columns]])
    if kind == "folder":
        files = [file for folder in _visible(path) if folder.is_dir() for file in _visible(folder)]
        return digest_of(sorted([f"{file.parent.name}/{file.name}", _size(file)] for file in files if file.is_file()))
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.rglob("*") if _is_shown(file, folder)] if path.is_dir() else []
    named = [[str(file.relative_to(folder)), _size(file)] for file in files if file.is_file()]
    beside = [file for file in (folder / _CLASS_NAMES, folder.parent / _CLASS_NAMES) if file.is_file()]
    return digest_of([sorted(named), [_size(file) for file in beside[:1]], 0 if path.is_dir() else _size(path)])


@cache
def captions_of(path: Path) -> str:
    """Of a retrieval set, once a process: its captions, and its files' names and sizes; of a store their hashes."""
    return open_captioned(CaptionedSource(path)).content


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _is_shown(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _size(file: Path) -> int:
    return file.stat().st_size
