"""From a stored copy to a square of pixels: decode, cut a box, resize antialiased. Other loaders must match it."""

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate


def decode(encoded: NDArray[np.uint8], height: int, width: int, is_raw: bool) -> NDArray[np.uint8]:
    """Stored bytes, JPEG or raw, to RGB pixels, uint8 [height, width, 3]. Raises ValueError when they are damaged."""
    if is_raw:
        return encoded.reshape(height, width, 3).copy()  # torch wants memory that it may write to
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(encoded, colorspace="RGB", strict=True)
    return pixels


def cut(pixels: NDArray[np.uint8], box: NDArray[np.int64], res: int) -> torch.Tensor:
    """The box (top, left, height, width) of an image, resized to uint8 [3, res, res] (bicubic, antialiased).

    Bicubic is what CLIPA's PyTorch recipes use (torchvision's RandomResizedCrop with interpolation="bicubic").
    """
    top, left, height, width = box.tolist()
    # The batch axis comes before the permutation: torch then sees channels last, its fast path, not a strided plane.
    part = torch.from_numpy(pixels[top : top + height, left : left + width])[None].permute(0, 3, 1, 2)
    return interpolate(part, (res, res), mode="bicubic", antialias=True)[0]


def central_boxes(widths: NDArray[np.int64], heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest central squares, int64 [B, 4]: evaluation's short-side resize and centre crop in one step."""
    side = np.minimum(widths, heights)
    return np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1)
