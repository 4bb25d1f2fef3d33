"""Copies of an image: smaller ones, crops, and the bytes that a store keeps of them.

`resize` never enlarges; `cut` may. Both are antialiased bicubic in 8 bits, down the columns first: torch's kernel for
that direction is three times as fast as the other, which then has fewer rows to do, at the same quality.

`encode` writes baseline JPEG, by default without chroma subsampling: at 112 px chroma, not quality, is what is lost.
`keep` spares an image that is small already the loss of being encoded again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

import numpy as np
import simplejpeg
import torch

from prep.image_jpeg import plain_jpeg
from prep.image_limits import Decoded, ImageError, Pixels, is_out_of_memory
from prep.pairs import Reason

_P = ParamSpec("_P")
_T = TypeVar("_T")

MAX_KEPT_RATIO = 1.125
"""An original is kept in place of a copy whose short side it does not exceed by more than this."""

# A kept original may not be larger than half its pixels: what is, is padded, or noise at quality 100.
_MAX_KEPT_BYTES_PER_PIXEL = 1.5


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a copy is stored: baseline JPEG of a quality (1-100) and chroma subsampling, or raw uint8 [h, w, 3]."""

    kind: Literal["jpeg", "raw"] = "jpeg"
    quality: int = 95
    subsampling: Literal["444", "422", "420"] = "444"


def _memory_typed(function: Callable[_P, _T]) -> Callable[_P, _T]:
    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except (MemoryError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise ImageError(Reason.OUT_OF_MEMORY, f"no memory to {function.__name__} it") from error
            raise

    return call


@_memory_typed
def resize(pixels: Pixels, short_side: int, original_size: tuple[int, int] | None = None) -> Pixels:
    """Scale to a short side of `short_side` pixels, the long side rounded to nearest: [H, W, 3] -> [h, w, 3].

    original_size: (width, height) of the original, where `decode` was free to give a fraction of it. The last row and
    column of those pixels may stand for a part of a pixel, which is then allowed for; else they count as whole.
    An image whose short side is no longer is returned as it is. Raises ImageError (OUT_OF_MEMORY).
    """
    high, wide = pixels.shape[:2]
    width, height = original_size or (wide, high)
    scale = short_side / min(width, height)
    if scale >= 1:
        return pixels
    divisor = round(max(width, height) / max(wide, high))
    return _interpolated(pixels, (round(height * scale), round(width * scale)), (height / divisor, width / divisor))


@_memory_typed
def cut(pixels: Pixels, box: tuple[int, int, int, int], res: int) -> Pixels:
    """The box (left, top, width, height) of [H, W, 3], stretched or shrunk to [res, res, 3].

    The box is in pixels of `pixels`, at least 1 x 1 and inside. Raises ImageError (OUT_OF_MEMORY).
    """
    left, top, width, height = box
    assert 0 <= left < left + width <= pixels.shape[1], f"{box} in {pixels.shape}"
    assert 0 <= top < top + height <= pixels.shape[0], f"{box} in {pixels.shape}"
    return _interpolated(pixels[top : top + height, left : left + width], (res, res), (height, width))


def _interpolated(pixels: Pixels, size: tuple[int, int], extent: tuple[float, float]) -> Pixels:
    """The first `extent` rows and columns of [H, W, 3], less than one pixel short of all, as [*size, 3]."""
    # The batch axis comes before the permute: added after it, torch takes the strides for planar and is half as fast.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    for axis in (0, 1):
        # torch rounds the product of scale and size down: the millionth of a pixel keeps it from falling short.
        scale = (size[axis] + 1e-6) / extent[axis]
        if (batch.shape[2 + axis], extent[axis]) != (size[axis], size[axis]):
            scales = (scale, 1.0) if axis == 0 else (1.0, scale)
            batch = torch.nn.functional.interpolate(batch, scale_factor=scales, mode="bicubic", antialias=True)
    assert batch.shape[2:] == size, f"{tuple(batch.shape)} for {size}"
    return np.ascontiguousarray(batch[0].permute(1, 2, 0).numpy())


@_memory_typed
def encode(pixels: Pixels, encoding: Encoding) -> bytes:
    """[h, w, 3] -> bytes. Sides of a JPEG may have up to 65,500 pixels (libjpeg's JPEG_MAX_DIMENSION)."""
    if encoding.kind == "raw":
        return pixels.tobytes()
    encoded: bytes = simplejpeg.encode_jpeg(pixels, encoding.quality, "RGB", encoding.subsampling)
    return encoded


@_memory_typed
def keep(data: bytes, decoded: Decoded, short_side: int, encoding: Encoding) -> bytes | None:
    """The original's own bytes, less its metadata, where they may stand for its copy of `short_side`; else None.

    data: the encoded original, which `decode` took and made `decoded` of. So may an upright baseline JPEG in YCbCr
    whose short side is at most MAX_KEPT_RATIO times the copy's, also if it is smaller: no generation is lost, and
    nothing is spent. What is kept decodes to the original's pixels, of its width and height.
    """
    if encoding.kind != "jpeg" or decoded.format != "jpeg":
        return None
    if min(decoded.width, decoded.height) > MAX_KEPT_RATIO * short_side:
        return None
    return plain_jpeg(data, int(_MAX_KEPT_BYTES_PER_PIXEL * decoded.width * decoded.height) + 1024)
