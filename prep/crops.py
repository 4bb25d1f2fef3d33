"""Random-resized-crop boxes, drawn for a whole batch at once from (seed, epoch, row)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms

NUM_TRIES = 10


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random-resized crops: area and aspect ratio (width / height) are drawn from these ranges, as torchvision
    defines it.

    Defaults: CLIPA crops 40-100% of the area in every recipe (paper 2305.07017); the aspect range is torchvision's
    own.
    """

    crop_area: tuple[float, float] = (0.4, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)


def random_boxes(
    keys: U64, widths: NDArray[np.int64], heights: NDArray[np.int64], augmentation: Augmentation
) -> NDArray[np.int64]:
    """Boxes int64 [B, 4] as (top, left, height, width) in pixels of the stored copies.

    torchvision's RandomResizedCrop: area uniform, log aspect uniform, NUM_TRIES attempts, then the largest central crop
    whose aspect lies in the range. keys: uint64 [B], one a row.
    """
    counter = np.arange(2 * NUM_TRIES + 2, dtype=np.uint64)
    draws = uniforms(keys[:, None], counter[None, :])
    low, high = augmentation.crop_area
    area = (widths * heights)[:, None] * (low + (high - low) * draws[:, :NUM_TRIES])
    log_low, log_high = np.log(augmentation.crop_aspect)
    aspect = np.exp(log_low + (log_high - log_low) * draws[:, NUM_TRIES : 2 * NUM_TRIES])
    tried_w = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    tried_h = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (tried_w > 0) & (tried_w <= widths[:, None]) & (tried_h > 0) & (tried_h <= heights[:, None])
    first = np.argmax(fits, axis=1)
    row = np.arange(len(keys))
    any_fit = fits.any(axis=1)
    central_w, central_h = _largest_within(widths, heights, augmentation.crop_aspect)
    width = np.where(any_fit, tried_w[row, first], central_w)
    height = np.where(any_fit, tried_h[row, first], central_h)
    free_h, free_w = heights - height, widths - width
    top = np.where(any_fit, np.floor(draws[:, -2] * (free_h + 1)).astype(np.int64), free_h // 2)
    left = np.where(any_fit, np.floor(draws[:, -1] * (free_w + 1)).astype(np.int64), free_w // 2)
    return np.stack([top, left, height, width], axis=1)


def _largest_within(
    widths: NDArray[np.int64], heights: NDArray[np.int64], aspect: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    width = np.minimum(widths, np.maximum(1, np.rint(heights * aspect[1]).astype(np.int64)))
    height = np.minimum(heights, np.maximum(1, np.rint(widths / aspect[0]).astype(np.int64)))
    return width, height
