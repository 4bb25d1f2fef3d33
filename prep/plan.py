"""What a store is meant to become, written down before work begins: a build can only be resumed as it was meant.

`plan.json` holds the inputs (names and sizes), every option that decides a byte, and the versions of the libraries
that do. Its hash is the store's fingerprint. A second build into the same folder with another plan is refused, and
the first differing field is named.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from prep.errors import UserError
from prep.files import is_empty, read_json, write_json
from prep.images import ImageLimits
from prep.store import CONTEXT_LENGTH, FORMAT_VERSION

# Raised whenever the same inputs, options and libraries give other bytes.
_CODE_VERSION = 1
# What turns bytes into other bytes here; another version of one of them may write another store.
_DECIDING_LIBRARIES = ("pillow", "pyarrow", "simplejpeg", "torch", "spacy", "ftfy", "regex", "numpy")


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose and what decides the store's bytes.

    resolutions: pixels. margin: the stored short side is ceil(res x margin). quality: JPEG, 1-100, always 4:4:4.
    """

    resolutions: tuple[int, ...]
    margin: float
    quality: int
    limits: ImageLimits
    tokenizer: dict[str, str]
    tagger: dict[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The inputs in their order, the options, and the fingerprint over both."""

    inputs: tuple[Path, ...]
    options: Options

    def to_json(self) -> dict[str, Any]:
        """What `plan.json` holds. Inputs are named without their folder, so that moved data is the same data."""
        return {
            "format_version": FORMAT_VERSION,
            "code_version": _CODE_VERSION,
            "context_length": CONTEXT_LENGTH,
            "inputs": [{"name": path.name, "num_bytes": path.stat().st_size} for path in self.inputs],
            "options": json.loads(json.dumps(asdict(self.options))),
            "libraries": {name: version(name) for name in _DECIDING_LIBRARIES},
        }

    @property
    def fingerprint(self) -> str:
        """xxh3-64 of the canonical JSON, 16 hex digits."""
        return xxhash.xxh3_64(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def adopt(folder: Path, plan: dict[str, Any]) -> None:
    """Write `plan.json` into a new folder, or check that the one that lies there is the same.

    Raises `UserError` naming the first differing field, or when the folder holds something else.
    """
    path = folder / "plan.json"
    if path.exists():
        difference = _first_difference(read_json(path), plan, "")
        if difference:
            place, was, now = difference
            raise UserError(
                str(folder),
                f"this folder was begun with another plan: {place} was {was}, is now {now}",
                "Give the same options and inputs to go on, or choose another --out.",
            )
    elif folder.exists() and not is_empty(folder):
        raise UserError(str(folder), "wanted a new or empty folder, found something else", "Choose another --out.")
    else:
        write_json(path, plan)


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
