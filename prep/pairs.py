"""What comes in: a `Pair` from any source, or a `Reject` with a typed reason. Nothing is dropped without one."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a pair was dropped. The values are part of the store's format: they are counted in the manifest."""

    SOURCE_CUT = "source_cut"
    ROW_DAMAGED = "row_damaged"
    UNSAFE_NAME = "unsafe_name"
    NOT_A_FILE = "not_a_file"
    DUPLICATE_KEY = "duplicate_key"
    KEY_MISSING = "key_missing"
    IMAGE_MISSING = "image_missing"
    IMAGE_FORMAT = "image_format"
    IMAGE_DAMAGED = "image_damaged"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_ASPECT = "image_aspect"
    IMAGE_TOO_SMALL = "image_too_small"
    CAPTION_MISSING = "caption_missing"
    CAPTION_EMPTY = "caption_empty"
    CAPTION_NOT_UTF8 = "caption_not_utf8"
    CAPTION_TOO_LONG = "caption_too_long"
    WORKER_CRASHED = "worker_crashed"
    WORKER_HUNG = "worker_hung"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Pair:
    """One raw image and its captions, as bytes, exactly as the source holds them.

    captions: by the name of their source ("original", "synthetic"), at least one in all. source: where the pair came
    from, for a person (a tar's name).
    """

    key: str
    image: bytes
    captions: dict[str, tuple[bytes, ...]]
    source: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A pair that became no sample: its key, a typed reason and a detail for a person."""

    key: str
    reason: Reason
    detail: str
    source: str
