"""A part of the input, which becomes one shard, and what may be said about how inputs are read."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["tar", "folder", "table", "arrow"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the input: a tar, or the rows (a table's) or groups (a folder's) from `first` up to `last`.

    url: an absolute local path, or an fsspec URL. name: its last component, for people and for `plan.json`. num_bytes:
    of the part, as closely as it is known without reading it. last: None for the end. offset: the byte in a table of
    text where row `first` begins.
    """

    kind: Kind
    url: str
    name: str
    num_bytes: int
    first: int = 0
    last: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How inputs are read.

    captions: (name of the caption source, field) each; a name may come again, its captions are put in a row. A field is
    a column of a table, an extension of a tar's member or of a file beside an image ("txt", "caption.txt"), or
    "json:KEY": a string, or a list of strings, under a key of the .json. "" is the usual place: the .txt, else
    "caption" in the .json; of a table the first column with a usual name. (): the same as (("original", ""),).
    key, image: columns of a table; None: the first with a usual name. image_root: the folder, or its URL, that the
    paths in a table are relative to and must not leave; None: the table's own.
    """

    captions: tuple[tuple[str, str], ...] = ()
    key: str | None = None
    image: str | None = None
    rows_per_shard: int = 10_000
    max_image_bytes: int = 64 << 20
    max_caption_bytes: int = 1 << 20
    image_root: str | None = None
