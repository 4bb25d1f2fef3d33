"""What a store is meant to become, written down before work begins: a build can only be resumed as it was meant.

`plan.json` holds the inputs (names and sizes), every option that decides which pairs are kept, the versions of the
libraries that do, and each column with its settings. A later command may add columns; one that gives another input,
option or setting is refused, and the first differing field is named.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from prep.columns import ColumnPlan
from prep.errors import UserError
from prep.files import is_empty, read_json, write_json
from prep.images import ImageLimits
from prep.places import Folder
from prep.schemas import CONTEXT_LENGTH, FORMAT_VERSION
from prep.sources import Part

# Raised whenever the same inputs, options and libraries give other rows or other bytes.
_CODE_VERSION = 2
# Settings that a later command cannot know. It takes what is planned already.
_SET_ONCE = ("decoded_short_side", "kept_by_captions")
# What decides which pairs are kept.
_DECIDING_LIBRARIES = ("ftfy", "pillow", "pyarrow", "simplejpeg")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What decides the rows: the parts of the input, a shard each, and the limits on images and captions."""

    parts: tuple[Part, ...]
    limits: ImageLimits
    max_caption_bytes: int

    def to_json(self) -> dict[str, Any]:
        """What `plan.json` holds. Inputs are named without their folder, so that moved data is the same data."""
        return {
            "code_version": _CODE_VERSION,
            "context_length": CONTEXT_LENGTH,
            "inputs": [
                {"name": p.name, "num_bytes": p.num_bytes, "first": p.first, "last": p.last} for p in self.parts
            ],
            "libraries": {name: version(name) for name in _DECIDING_LIBRARIES},
            "limits": {**asdict(self.limits), "max_caption_bytes": self.max_caption_bytes},
        }


def fingerprint(plan: dict[str, Any]) -> str:
    """xxh3-64, 16 hex digits, of what decides the rows; columns, which may be added, are left out."""
    rows = {key: value for key, value in plan.items() if key != "columns"}
    return xxhash.xxh3_64(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def read_plan(folder: Folder) -> dict[str, Any] | None:
    """The plan that lies in a folder, or None. Raises `UserError` for a plan of another format version."""
    if folder.size("plan.json") is None:
        return None
    plan = folder.read_json("plan.json")
    if plan.get("format_version") != FORMAT_VERSION:
        raise UserError(
            folder.url,
            f"wanted a store of format version {FORMAT_VERSION} to work on, found version {plan.get('format_version')}",
            "It can be read and trained on as it is; to change it, build a new one into another --out.",
        )
    return plan


def adopt(folder: Folder, inputs: Inputs | None, columns: Sequence[ColumnPlan]) -> dict[str, Any]:
    """Write `plan.json` into a new folder, or check it against the one that lies there and add the new columns to it.

    inputs: None when only what needs no input is added. Returns the plan with all its columns. Raises `UserError`
    naming the first differing field, or when the folder holds something else.
    """
    was = read_plan(folder)
    if was is None:
        if folder.names(""):
            raise UserError(folder.url, "wanted a new or empty folder, found something else", "Choose another --out.")
        if inputs is None:
            raise UserError(folder.url, "wanted a store to add to, but there is none", "Give --input to build one.")
        was = {"format_version": FORMAT_VERSION, **inputs.to_json(), "columns": {}}
    now = {**was, **(json.loads(json.dumps(inputs.to_json())) if inputs else {})}
    now["columns"] = dict(was["columns"])
    for column in columns:
        now["columns"][column.folder] = _as_planned(was["columns"].get(column.folder), column)
    _refuse_difference(folder.url, was, {**now, "columns": {key: now["columns"][key] for key in was["columns"]}})
    if now != was or folder.size("plan.json") is None:
        folder.write_json("plan.json", now)
    return now


def adopt_settings(folder: Path, settings: dict[str, Any]) -> None:
    """The same for a folder that is made in one go and is no store, such as the demo's data; a `plan.json`, too."""
    path = folder / "plan.json"
    if path.exists():
        _refuse_difference(str(folder), read_json(path), settings)
    elif folder.exists() and not is_empty(folder):
        raise UserError(str(folder), "wanted a new or empty folder, found something else", "Choose another --out.")
    else:
        write_json(path, settings)


def _refuse_difference(place: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    if difference := _first_difference(was, now, ""):
        field, before, given = difference
        raise UserError(
            place,
            f"this folder was begun with another plan: {field} was {before}, is now {given}",
            "Give the same options and inputs to go on, or choose another --out.",
        )


def _as_planned(was: dict[str, Any] | None, column: ColumnPlan) -> dict[str, Any]:
    now: dict[str, Any] = json.loads(json.dumps(column.to_json()))
    if was is not None:
        now["settings"] |= {name: was["settings"][name] for name in _SET_ONCE if name in was["settings"]}
    return now


def _first_difference(was: object, now: object, place: str) -> tuple[str, str, str] | None:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            found = _first_difference(was.get(key), now.get(key), f"{place}.{key}" if place else str(key))
            if found:
                return found
        return None
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for i, (a, b) in enumerate(zip(was, now, strict=True)):
            found = _first_difference(a, b, f"{place}[{i}]")
            if found:
                return found
        return None
    return None if was == now else (place, _short(was), _short(now))


def _short(value: object) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"a list of {len(value)}"
    return json.dumps(value)
