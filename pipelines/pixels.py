"""From a stored copy to a square of pixels: decode, cut a box, resize antialiased. Other loaders must match it."""

from collections.abc import Sequence

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

Pixels = NDArray[np.uint8]


class DamagedPixelsError(ValueError):
    """A stored copy that does not decode. place: in the batch."""

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(problem)
        self.place = place


def decode(encoded: Pixels, height: int, width: int, is_raw: bool, out: Pixels | None = None) -> Pixels:
    """Stored bytes, JPEG or raw, to RGB pixels, uint8 [height, width, 3], in `out` or in new memory.

    Raises ValueError when they are damaged, or are of another size.
    """
    if is_raw:
        raw = encoded.reshape(height, width, 3)
        if out is None:
            return raw.copy()  # torch wants memory that it may write to
        out[:] = raw
        return out
    pixels: Pixels = simplejpeg.decode_jpeg(encoded, colorspace="RGB", strict=True, buffer=out)
    if pixels.shape != (height, width, 3):
        raise ValueError(f"wanted {width} x {height} pixels, found {pixels.shape[1]} x {pixels.shape[0]}")
    return pixels


def cut(pixels: Pixels, box: Sequence[int], res: int) -> torch.Tensor:
    """The box (top, left, height, width) of an image, resized to uint8 [3, res, res] (bicubic, antialiased).

    Bicubic is what CLIPA's PyTorch recipes use (torchvision's RandomResizedCrop with interpolation="bicubic").
    """
    top, left, height, width = box
    # The batch axis comes before the permutation: torch then sees channels last, its fast path, not a strided plane.
    part = torch.from_numpy(pixels[top : top + height, left : left + width])[None].permute(0, 3, 1, 2)
    return interpolate(part, (res, res), mode="bicubic", antialias=True)[0]


def fill(
    out: Pixels,
    encoded: Sequence[Pixels],
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]],
    is_raw: NDArray[np.bool_],
    boxes: NDArray[np.int64],
) -> None:
    """Write each image's box into `out`, uint8 [B, R, R, 3]. sizes: (widths, heights) of the stored copies.

    Raises `DamagedPixelsError`. A copy that is its own box and has the right size is decoded in place.
    """
    res = out.shape[1]
    is_own = (boxes == (0, 0, res, res)).all(axis=1) & (sizes[0] == res) & (sizes[1] == res)
    flat, place = out.reshape(len(out), -1), 0
    try:
        for place in np.flatnonzero(is_own & is_raw).tolist():
            flat[place] = encoded[place]
        for place in np.flatnonzero(is_own & ~is_raw).tolist():
            decode(encoded[place], res, res, False, out[place])
        for place in np.flatnonzero(~is_own).tolist():
            pixels = decode(encoded[place], int(sizes[1][place]), int(sizes[0][place]), bool(is_raw[place]))
            out[place] = cut(pixels, boxes[place].tolist(), res).permute(1, 2, 0).numpy()
    except ValueError as error:
        raise DamagedPixelsError(place, str(error)) from error


def central_boxes(widths: NDArray[np.int64], heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest central squares, int64 [B, 4]: evaluation's short-side resize and centre crop in one step."""
    side = np.minimum(widths, heights)
    return np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1)
