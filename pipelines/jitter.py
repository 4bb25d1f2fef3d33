"""Colour jitter and grayscale for a batch on its device, each sample by its own draw; torchvision's definitions.

torchvision's ColorJitter does one image at a time: brightness, contrast and saturation blend it with black, with its
mean gray, and with its gray self; hue turns it in HSV; in an order drawn for it, clipped after each step. Here a step
is done to all samples of a batch that have it next. The steps are done in float32 and rounded once, at the end, where
torchvision rounds a uint8 image down at each of them: the two differ by that.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.contract import ColorJitter
from prep.draws import U64, uniforms

NUM_COLUMNS = 7
"""Factors of brightness, contrast and saturation, the turn of hue, the order, whether jittered, whether gray."""

_ORDERS = np.array(
    [[a, b, c, 6 - a - b - c] for a in range(4) for b in range(4) for c in range(4) if len({a, b, c}) == 3]
)
# ITU-R BT.601, as in torchvision's rgb_to_grayscale.
_LUMA = (0.2989, 0.587, 0.114)


def draw_jitter(keys: U64, jitter: ColorJitter) -> NDArray[np.float32]:
    """float32 [B, NUM_COLUMNS], a pure function of keys, uint64 [B]."""
    draws = uniforms(keys[:, None], np.arange(NUM_COLUMNS, dtype=np.uint64)[None, :])
    spread = np.array([jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue])
    drawn = draws.copy()
    # torchvision clips the lower factor at zero.
    low, high = np.array([1, 1, 1, 0]) - spread, np.array([1, 1, 1, 0]) + spread
    low[:3] = np.maximum(low[:3], 0)
    drawn[:, :4] = low + (high - low) * draws[:, :4]
    drawn[:, 4] = np.floor(draws[:, 4] * len(_ORDERS))
    drawn[:, 5] = draws[:, 5] < jitter.probability
    drawn[:, 6] = draws[:, 6] < jitter.gray_probability
    return drawn.astype(np.float32)


def apply(images: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
    """Jitter uint8 [B, 3, H, W] by float32 [B, NUM_COLUMNS] (on any device; the plan is made on the CPU): the same."""
    plan = jitter.cpu().numpy()
    pixels = images.float().div_(255)
    steps = _ORDERS[plan[:, 4].astype(np.int64)]
    for step in range(4):
        for operation, change in enumerate((_brightness, _contrast, _saturation, _hue)):
            mine = np.flatnonzero((steps[:, step] == operation) & (plan[:, 5] > 0))
            if len(mine):
                at = torch.from_numpy(mine).to(images.device, non_blocking=True)
                amount = torch.from_numpy(plan[mine, operation]).to(images.device, non_blocking=True)
                pixels[at] = change(pixels[at], amount[:, None, None, None])
    gray = np.flatnonzero(plan[:, 6] > 0)
    if len(gray):
        at = torch.from_numpy(gray).to(images.device, non_blocking=True)
        pixels[at] = _gray(pixels[at]).expand(-1, 3, -1, -1)
    return pixels.mul_(255).round_().to(torch.uint8)


def _gray(pixels: torch.Tensor) -> torch.Tensor:
    red, green, blue = pixels.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def _blend(pixels: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (factor * pixels + (1 - factor) * other).clamp_(0, 1)


def _brightness(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (pixels * factor).clamp_(0, 1)


def _contrast(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(pixels, _gray(pixels).mean(dim=(1, 2, 3), keepdim=True), factor)


def _saturation(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(pixels, _gray(pixels), factor)


def _hue(pixels: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Turn the colour circle by `turn`, a part of it, through HSV (Smith 1978)."""
    red, green, blue = pixels.unbind(1)
    value, low = pixels.amax(1), pixels.amin(1)
    chroma = value - low
    safe = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = torch.remainder(sector / 6 + turn[:, 0], 1.0)
    # Each channel is the value less the chroma, by a trapezoid of the hue that is shifted for it.
    shift = torch.tensor([5.0, 3.0, 1.0], device=pixels.device)[None, :, None, None]
    place = torch.remainder(shift + hue[:, None] * 6, 6)
    fall = torch.minimum(place, 4 - place).clamp_(0, 1)
    return (value[:, None] - chroma[:, None] * fall).clamp_(0, 1)
