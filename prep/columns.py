"""Which columns a store has or is to have, and the settings that decide their bytes. Each is built and added alone.

A column's bytes are a function of the rows, its settings, and the versions of the libraries that it goes through. Text
columns stand on each other: priorities on tokens, tokens on captions; views stand on the source's images.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from prep.caption_tables import TablePlace
from prep.crops import Augmentation
from prep.images import Encoding
from prep.schemas import ROWS_FOLDER
from prep.views import View

_LIBRARIES = {
    "rows": ("ftfy", "pillow", "pyarrow", "simplejpeg"),
    "captions": ("ftfy", "pyarrow"),
    "tokens": ("ftfy", "pyarrow", "regex"),
    "priorities": ("numpy", "pyarrow"),
    "view": ("numpy", "pillow", "pyarrow", "simplejpeg", "torch"),
}
"""What turns bytes into other bytes, by kind; another version of one of them may write another column."""


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column as it is meant to become: its folder, its kind (one of KINDS), its settings as JSON values."""

    folder: str
    kind: str
    settings: dict[str, Any]

    @property
    def is_from_input(self) -> bool:
        """Whether building it needs the input: its images, or its captions."""
        return self.kind == "view" or (self.kind == "captions" and TablePlace.parse(self.settings["field"]) is None)

    def to_json(self) -> dict[str, Any]:
        """What `plan.json` holds of it."""
        libraries = {name: version(name) for name in _LIBRARIES[self.kind]}
        return {"kind": self.kind, "settings": self.settings, "libraries": libraries}


def folder_name(name: str) -> str:
    """A name from the command line as a part of a path: lower case letters, digits, `-`, `_` and `.`, none hidden."""
    return re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).lstrip(".-") or "unnamed"


def rows_column(sources: Iterable[str]) -> ColumnPlan:
    """Which pairs there are: those with a good image and a good caption from one of these sources."""
    return ColumnPlan(ROWS_FOLDER, "rows", {"kept_by_captions": sorted(sources)})


def captions_column(source: str, field: str) -> ColumnPlan:
    """One caption source; field: where the input holds it, empty for the input's usual place, or a table."""
    table = TablePlace.parse(field)
    field = table.field if table else field
    return ColumnPlan(f"captions/{folder_name(source)}", "captions", {"source": source, "field": field})


def tokens_column(source: str, name: str, identity: dict[str, str]) -> ColumnPlan:
    """The token ids of a caption source by the tokenizer of that name."""
    folder = f"tokens/{folder_name(source)}/{folder_name(name)}"
    return ColumnPlan(folder, "tokens", {"source": source, "name": name, "tokenizer": identity})


def priorities_column(source: str, tokenizer: str, name: str, identity: dict[str, str]) -> ColumnPlan:
    """The priorities of these ids by the tagger of that name."""
    folder = f"priorities/{folder_name(source)}/{folder_name(tokenizer)}/{folder_name(name)}"
    settings = {"source": source, "tokenizer_name": tokenizer, "name": name, "tagger": identity}
    return ColumnPlan(folder, "priorities", settings)


def view_columns(
    resolutions: Iterable[int], encoding: Encoding, margin: float, num_crops: int, crop_seed: int
) -> list[ColumnPlan]:
    """Margin copies at each resolution (num_crops = 0), or a crop bank of so many crops at each."""
    sides = sorted(set(resolutions))
    ending = "-raw" if encoding.kind == "raw" else ""
    encoded: dict[str, Any] = {"encoding": "raw"} if encoding.kind == "raw" else _jpeg(encoding)
    plans = []
    for res in sides:
        if not num_crops:
            settings = {"res": res, **encoded, "margin": margin}
            plans.append(ColumnPlan(f"{res}{ending}", "view", settings))
        for crop in range(num_crops):
            ranges = {name: list(values) for name, values in asdict(Augmentation()).items()}
            settings = {"res": res, **encoded, "crop": crop, "crop_seed": crop_seed, **ranges}
            plans.append(ColumnPlan(f"{res}{ending}-crop{crop}", "view", settings))
    need = max((View.of(plan.folder, plan.settings).needed_side for plan in plans), default=0)
    for plan in plans:
        plan.settings["decoded_short_side"] = need
    return plans


def _jpeg(encoding: Encoding) -> dict[str, Any]:
    return {"encoding": "jpeg", "quality": encoding.quality, "subsampling": encoding.subsampling}
