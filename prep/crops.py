"""Random-resized-crop boxes, drawn for a whole batch at once from (seed, epoch, row)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms

NUM_TRIES = 10

# A row's draws by number: the areas of all tries, their aspects, top and left.
_AT_ONCE = np.array([0, NUM_TRIES, 2 * NUM_TRIES, 2 * NUM_TRIES + 1], np.uint64)
_FURTHER = np.array([np.arange(1, NUM_TRIES), NUM_TRIES + np.arange(1, NUM_TRIES)], np.uint64)


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
    draws = uniforms(keys, _AT_ONCE[:, None])
    width, height, fits = _sides(draws[0], draws[1], widths, heights, augmentation)
    # Most rows fit at once. The others make all further tries together: for few rows a call costs more than a try.
    again = np.flatnonzero(~fits)
    if len(again):
        further = uniforms(keys[again], _FURTHER[:, :, None])
        sides = widths[again], heights[again]
        tried_w, tried_h, fit = _sides(further[0], further[1], *sides, augmentation)
        row, first = np.arange(len(again)), np.argmax(fit, axis=0)
        any_fit = fit[first, row]
        central_w, central_h = _largest_within(*sides, augmentation.crop_aspect)
        width[again] = np.where(any_fit, tried_w[first, row], central_w)
        height[again] = np.where(any_fit, tried_h[first, row], central_h)
        again = again[~any_fit]
    free = np.stack([heights - height, widths - width])
    place = np.floor(draws[2:] * (free + 1)).astype(np.int64)
    place[:, again] = free[:, again] // 2
    return np.stack([*place, height, width], axis=1)


def _sides(
    area_draws: NDArray[np.float64],
    aspect_draws: NDArray[np.float64],
    widths: NDArray[np.int64],
    heights: NDArray[np.int64],
    augmentation: Augmentation,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Width and height of the crops drawn, [..., B], and whether they lie within the images."""
    low, high = augmentation.crop_area
    area = widths * heights * (low + (high - low) * area_draws)
    log_low, log_high = np.log(augmentation.crop_aspect)
    aspect = np.exp(log_low + (log_high - log_low) * aspect_draws)
    width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    return width, height, (width > 0) & (width <= widths) & (height > 0) & (height <= heights)


def _largest_within(
    widths: NDArray[np.int64], heights: NDArray[np.int64], aspect: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    width = np.minimum(widths, np.maximum(1, np.rint(heights * aspect[1]).astype(np.int64)))
    height = np.minimum(heights, np.maximum(1, np.rint(widths / aspect[0]).astype(np.int64)))
    return width, height
