"""What an image may ask for, and how one is refused: the words that all modules of images share."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.pairs import Reason

Pixels = NDArray[np.uint8]
"""uint8 [height, width, 3], RGB, C-contiguous."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused from its size or its header alone.

    max_bytes: of the encoded image. max_pixels: width x height; Pillow takes at most 178,956,970 whatever is set here.
    max_aspect: long side / short side. min_side: pixels of the short side; less is a spacer or a tracking pixel.
    max_memory: bytes that decoding may take at its peak, the encoded image apart, by an estimate from the header. With
    the default a worker, its libraries and tagger included, stays below 1 GiB.
    """

    max_bytes: int = 64 << 20
    max_pixels: int = 64_000_000
    max_aspect: float = 10.0
    min_side: int = 16
    max_memory: int = 256 << 20


class ImageError(Exception):
    """An image that becomes no sample: a typed reason, and for a person what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image: pixels, the sniffed format, and the upright original's width and height in pixels.

    The pixels may be fewer than the original's: a half, a quarter or an eighth of its sides, rounded up.
    """

    pixels: Pixels
    format: str
    width: int
    height: int


def check_size(width: int, height: int, bytes_per_pixel: float, limits: ImageLimits) -> None:
    """Raise ImageError unless an image of this size, and of this cost of decoding, is within the limits."""
    size = f"{width:,} x {height:,} pixels"
    short, long = sorted((width, height))
    if width * height > limits.max_pixels:
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{size}; at most {limits.max_pixels:,} in all are decoded")
    if (memory := round(width * height * bytes_per_pixel)) > limits.max_memory:
        wanted = f"decoding takes up to {memory >> 20:,} MiB of {limits.max_memory >> 20:,}"
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{size}; {wanted}")
    if long > short * limits.max_aspect:
        raise ImageError(Reason.IMAGE_ASPECT, f"{size}; the long side may be {limits.max_aspect:g} times the short one")
    if short < limits.min_side:
        raise ImageError(Reason.IMAGE_TOO_SMALL, f"{size}; the short side needs {limits.min_side}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library ran out of memory. TurboJPEG, torch and Pillow's codecs (-9) say so in words, if at all."""
    if isinstance(error, MemoryError):
        return True
    words = r"(insufficient|out of|not enough|allocate) memory|memory allocation|decoder error -9\b"
    return re.search(words, str(error), re.IGNORECASE) is not None
