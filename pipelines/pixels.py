"""From a stored copy to a square of pixels: decode, cut a box, resize antialiased. Other loaders must match it."""

from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

Pixels = NDArray[np.uint8]

_resize: Callable[..., torch.Tensor] = torch._C._nn._upsample_bicubic2d_aa
"""What `interpolate` itself calls; but this takes memory to write to, and Python does less around it."""


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
    return interpolate(_channels_last(_box(pixels, box)), (res, res), mode="bicubic", antialias=True)[0]


def cut_into(out: Pixels, pixels: Pixels, box: Sequence[int]) -> None:
    """The same into `out`, uint8 [res, res, 3]."""
    _resize(_channels_last(_box(pixels, box)), out.shape[:2], False, None, out=_channels_last(out))


def _box(pixels: Pixels, box: Sequence[int]) -> Pixels:
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]


def _channels_last(pixels: Pixels) -> torch.Tensor:
    # The batch axis comes before the permutation: torch then sees channels last, its fast path, not a strided plane.
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


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
        # One piece of memory for all copies that are cut stays in the processor's caches.
        num_bytes = (3 * sizes[0] * sizes[1])[~is_own]
        scratch = np.empty(int(num_bytes.max(initial=0)), np.uint8)
        with torch.inference_mode():  # less to note for each call
            for place in np.flatnonzero(~is_own).tolist():
                size = int(sizes[1][place]), int(sizes[0][place])
                held = scratch[: 3 * size[0] * size[1]].reshape(*size, 3)
                _cut_stored(out[place], encoded[place], held, bool(is_raw[place]), boxes[place].tolist())
    except ValueError as error:
        raise DamagedPixelsError(place, str(error)) from error


def _cut_stored(out: Pixels, encoded: Pixels, held: Pixels, is_raw: bool, box: Sequence[int]) -> None:
    """Decode into `held`, and cut."""
    height, width = held.shape[:2]
    if not is_raw:
        cut_into(out, decode(encoded, height, width, False, held), box)
        return
    # Of raw pixels no more than the box is copied; torch wants memory that it may write to.
    part = _box(encoded.reshape(height, width, 3), box)
    own = held.reshape(-1)[: part.size].reshape(part.shape)
    own[:] = part
    cut_into(out, own, (0, 0, *part.shape[:2]))


def central_boxes(widths: NDArray[np.int64], heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest central squares, int64 [B, 4]: evaluation's short-side resize and centre crop in one step."""
    side = np.minimum(widths, heights)
    return np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1)
