"""The patterns behind the demo's objects, as masks between two colours (uint8, 0: the first, 255: the second).

A family is a function of a size (width, height, in pixels) and a source of chance. Training scenes use `TRAINING`, the
zero-shot sets `UNSEEN`: a model is never tested on a kind of background that it has learnt from.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Size = tuple[int, int]
Family = Callable[[Size, Random], Image.Image]
_Mask = NDArray[np.float64]

_GRID_CELLS = 40


def grid(size: Size, angle: float) -> tuple[_Mask, _Mask]:
    """Coordinates of a coarse grid, in units of the longer side, turned by `angle` radians, 0 in the middle."""
    longer = max(size)
    columns, rows = (max(2, round(_GRID_CELLS * side / longer)) for side in size)
    x = (np.arange(columns) - (columns - 1) / 2) / _GRID_CELLS
    y = (np.arange(rows)[:, None] - (rows - 1) / 2) / _GRID_CELLS
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def smooth(coarse: _Mask, size: Size) -> Image.Image:
    """A coarse mask of floats in 0..1, enlarged to `size`."""
    mask = Image.fromarray((np.clip(coarse, 0, 1) * 255).astype(np.uint8))
    return mask.resize(size, Image.Resampling.BICUBIC)


def _turned(size: Size, angle: float, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
    """A mask drawn upright by `draw` on a square canvas that still covers `size` when turned by `angle` degrees."""
    side = math.ceil(math.hypot(*size))
    canvas = Image.new("L", (side, side), 0)
    draw(ImageDraw.Draw(canvas), side)
    if angle:
        canvas = canvas.rotate(angle, Image.Resampling.BILINEAR)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    return canvas.crop((left, top, left + size[0], top + size[1]))


def _plain(size: Size, rng: Random) -> Image.Image:
    return Image.new("L", size, 0)


def _gradient(size: Size, rng: Random) -> Image.Image:
    along, _ = grid(size, rng.uniform(0, 2 * math.pi))
    return smooth(0.5 + along, size)


def _glow(size: Size, rng: Random) -> Image.Image:
    x, y = grid(size, 0)
    distance = np.hypot(x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25))
    return smooth(1 - distance / rng.uniform(0.4, 0.7), size)


def _cloudy(size: Size, rng: Random) -> Image.Image:
    num_columns = rng.randint(3, 9)
    num_rows = max(2, round(num_columns * size[1] / size[0]))
    values = bytes(rng.randrange(256) for _ in range(num_columns * num_rows))
    return Image.frombytes("L", (num_columns, num_rows), values).resize(size, Image.Resampling.BICUBIC)


def _striped(size: Size, rng: Random) -> Image.Image:
    period = min(size) * rng.uniform(0.08, 0.3)
    width = period * rng.uniform(0.3, 0.6)

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        for i in range(math.ceil(side / period)):
            canvas.rectangle((i * period, 0, i * period + width, side), fill=255)

    return _turned(size, rng.choice((0, 90, 45, rng.uniform(0, 180))), draw)


def _dotted(size: Size, rng: Random) -> Image.Image:
    period = min(size) * rng.uniform(0.1, 0.25)
    radius = period * rng.uniform(0.18, 0.38)

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        for row in range(math.ceil(side / period) + 1):
            for column in range(math.ceil(side / period) + 1):
                x, y = (column + row % 2 / 2) * period, row * period
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)

    return _turned(size, rng.uniform(0, 90), draw)


def _checkered(size: Size, rng: Random) -> Image.Image:
    period = min(size) * rng.uniform(0.1, 0.28)

    def draw(canvas: ImageDraw.ImageDraw, side: int) -> None:
        num = math.ceil(side / period)
        for row in range(num):
            for column in range(row % 2, num, 2):
                x, y = column * period, row * period
                canvas.rectangle((x, y, x + period - 1, y + period - 1), fill=255)

    return _turned(size, rng.choice((0, 45, rng.uniform(0, 90))), draw)


def _two_tone(size: Size, rng: Random) -> Image.Image:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((0, size[1] * rng.uniform(0.5, 0.75), *size), fill=255)
    return mask


def _fine(size: Size, background: int, draw: Callable[[ImageDraw.ImageDraw, Size], None]) -> Image.Image:
    """A mask drawn by `draw` at twice the size, so that its edges are smooth; `draw` is given the canvas's size."""
    double = (2 * size[0], 2 * size[1])
    canvas = Image.new("L", double, background)
    draw(ImageDraw.Draw(canvas), double)
    return canvas.reduce(2)


def _rings(size: Size, rng: Random) -> Image.Image:
    def draw(canvas: ImageDraw.ImageDraw, size: Size) -> None:
        x, y = size[0] * rng.uniform(0.2, 0.8), size[1] * rng.uniform(0.2, 0.8)
        step = min(size) * rng.uniform(0.06, 0.12)
        for i in range(math.ceil(math.hypot(*size) / step), 0, -1):
            canvas.ellipse((x - i * step, y - i * step, x + i * step, y + i * step), fill=255 * (i % 2))

    return _fine(size, 0, draw)


def _rays(size: Size, rng: Random) -> Image.Image:
    def draw(canvas: ImageDraw.ImageDraw, size: Size) -> None:
        reach = 1.5 * max(size)
        x, y = size[0] * rng.uniform(0.3, 0.7), size[1] * rng.uniform(0.3, 0.7)
        num_rays, start = rng.randint(7, 14), rng.uniform(0, 360)
        for i in range(num_rays):
            turn = start + 360 * i / num_rays
            canvas.pieslice((x - reach, y - reach, x + reach, y + reach), turn, turn + 180 / num_rays, fill=255)

    return _fine(size, 0, draw)


def _brick(size: Size, rng: Random) -> Image.Image:
    def draw(canvas: ImageDraw.ImageDraw, size: Size) -> None:
        height = min(size) * rng.uniform(0.09, 0.16)
        width, gap = height * rng.uniform(1.8, 2.6), max(1, height * 0.1)
        for row in range(math.ceil(size[1] / height)):
            for column in range(-1, math.ceil(size[0] / width)):
                x, y = (column + row % 2 / 2) * width, row * height
                canvas.rectangle((x, y, x + width - gap, y + height - gap), fill=rng.randint(0, 60))

    return _fine(size, 255, draw)


def _plaid(size: Size, rng: Random) -> Image.Image:
    period = min(size) * rng.uniform(0.18, 0.32)
    mask = np.zeros(size[::-1], np.uint8)
    for axis, side in enumerate(size[::-1]):
        phase = (np.arange(side) / period) % 1
        bands = (96 * (phase < 0.45) + 31 * ((phase > 0.65) & (phase < 0.75))).astype(np.uint8)
        mask += bands[:, None] if axis == 0 else bands
    return Image.fromarray(mask)


def _mosaic(size: Size, rng: Random) -> Image.Image:
    def draw(canvas: ImageDraw.ImageDraw, size: Size) -> None:
        num_columns = rng.randint(4, 7)
        step = size[0] / num_columns
        num_rows = math.ceil(size[1] / step)
        corners = [
            [
                ((column + rng.uniform(-0.3, 0.3)) * step, (row + rng.uniform(-0.3, 0.3)) * step)
                for column in range(-1, num_columns + 2)
            ]
            for row in range(-1, num_rows + 2)
        ]
        for upper, lower in pairwise(corners):
            for i in range(len(upper) - 1):
                canvas.polygon([upper[i], upper[i + 1], lower[i]], fill=rng.randrange(256))
                canvas.polygon([upper[i + 1], lower[i + 1], lower[i]], fill=rng.randrange(256))

    return _fine(size, 0, draw)


TRAINING: dict[str, Family] = {
    "plain": _plain,
    "gradient": _gradient,
    "glowing": _glow,
    "cloudy": _cloudy,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "two-tone": _two_tone,
}
UNSEEN: dict[str, Family] = {"ringed": _rings, "sunburst": _rays, "brick": _brick, "plaid": _plaid, "mosaic": _mosaic}
