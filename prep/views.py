"""Views: the copies of an image that a store keeps. A margin copy leaves room for crops while training; a crop bank
holds crops that were cut beforehand, at exactly the resolution, from the original.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from prep.crops import Augmentation, random_boxes
from prep.draws import stream
from prep.images import Decoded, Encoding, ImageLimits, cut, decode, encode, keep, resize

# CLIPA crops at least 40% of an image's area; the side of such a square crop is sqrt(0.4) of the whole.
DEFAULT_MARGIN = 1 / 0.4**0.5


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One copy of an image: its bytes, its size in pixels, and for a crop its box (left, top, width, height) in the
    upright original. kept: the bytes are the original's own.
    """

    encoded: bytes
    width: int
    height: int
    box: tuple[int, int, int, int] | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A view's settings. margin: the stored short side is ceil(res x margin); None for a crop.

    decoded_short_side: a large JPEG is decoded at 1/2, 1/4 or 1/8 if that leaves its short side enough for copies of so
    many pixels. It is the largest need among the views that were asked for together, whichever of them are missing.
    """

    folder: str
    res: int
    encoding: Encoding
    margin: float | None
    crop: int | None
    crop_seed: int
    augmentation: Augmentation
    decoded_short_side: int

    @staticmethod
    def of(folder: str, settings: dict[str, Any]) -> "View":
        """From the settings in a plan or a manifest."""
        augmentation = Augmentation()
        if "crop" in settings:
            augmentation = Augmentation(tuple(settings["crop_area"]), tuple(settings["crop_aspect"]))
        is_raw = settings["encoding"] == "raw"
        return View(
            folder,
            settings["res"],
            Encoding("raw") if is_raw else Encoding("jpeg", settings["quality"], settings["subsampling"]),
            settings.get("margin"),
            settings.get("crop"),
            settings.get("crop_seed", 0),
            augmentation,
            settings.get("decoded_short_side", 0),
        )

    @property
    def needed_side(self) -> int:
        """The short side in pixels that the pixels to cut or shrink from should have, if the original does."""
        return stored_side(self.res, self.margin or DEFAULT_MARGIN)


def stored_side(res: int, margin: float) -> int:
    """Short side in pixels of a margin copy: a square crop of 1 / margin^2 of its area still has res x res pixels."""
    return math.ceil(res * margin)


def make_copies(
    key: str, data: bytes, views: Sequence[View], limits: ImageLimits
) -> tuple[Decoded, dict[str, StoredImage]]:
    """Decode once and make every view's copy: {folder: copy}. Raises `prep.images.ImageError`."""
    decoded, copies = None, {}
    for need in sorted({view.decoded_short_side for view in views}) or [0]:
        decoded = decode(data, limits, need or None)
        for view in views:
            if view.decoded_short_side == need:
                copies[view.folder] = _copy(key, data, decoded, view)
    assert decoded is not None
    return decoded, copies


def _copy(key: str, data: bytes, decoded: Decoded, view: View) -> StoredImage:
    if view.crop is not None:
        return _crop(key, decoded, view)
    side = view.needed_side
    own = keep(data, decoded, side, view.encoding)
    if own is not None:
        return StoredImage(own, decoded.width, decoded.height, kept=True)
    pixels = resize(decoded.pixels, side, (decoded.width, decoded.height))
    height, width = pixels.shape[:2]
    return StoredImage(encode(pixels, view.encoding), width, height)


def _crop(key: str, decoded: Decoded, view: View) -> StoredImage:
    draw = xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"), seed=stream(view.crop_seed, 0, "crop bank"))
    keys = np.array([draw ^ stream(view.crop_seed, view.crop or 0, "crop")], np.uint64)
    sizes = np.array([[decoded.width], [decoded.height]], np.int64)
    top, left, height, width = random_boxes(keys, sizes[0], sizes[1], view.augmentation)[0].tolist()
    pixels_high, pixels_wide = decoded.pixels.shape[:2]
    x, y = pixels_wide / decoded.width, pixels_high / decoded.height
    right, bottom = round((left + width) * x), round((top + height) * y)
    scaled_left, scaled_top = min(round(left * x), right - 1), min(round(top * y), bottom - 1)
    box = (scaled_left, scaled_top, right - scaled_left, bottom - scaled_top)
    pixels = cut(decoded.pixels, box, view.res)
    return StoredImage(encode(pixels, view.encoding), view.res, view.res, (left, top, width, height))


def count_enlarged(view: View, keys: Sequence[str], copies: Sequence[StoredImage]) -> int:
    """How many of one seeded crop an image would be enlarged, on a side, by training on these copies.

    For margin copies the crops are drawn as a loader draws them (CLIPA's 40-100% of the area); for a crop bank the
    crops are its own.
    """
    if view.crop is not None:
        return sum(min(c.box[2:]) < view.res for c in copies if c.box is not None)
    draws = np.array([xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")) for key in keys], np.uint64)
    widths = np.array([copy.width for copy in copies], np.int64)
    heights = np.array([copy.height for copy in copies], np.int64)
    boxes: NDArray[np.int64] = random_boxes(draws, widths, heights, view.augmentation)
    return int((boxes[:, 2:].min(axis=1) < view.res).sum())
