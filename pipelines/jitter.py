"""Colour jitter and grayscale for a batch on its device, each sample by its own draw; torchvision's definitions.

torchvision's ColorJitter does one image at a time: brightness, contrast and saturation blend it with black, with its
mean gray, and with its gray self; hue turns it in HSV; in an order drawn for it, clipped after each step. Here all
samples of a part of the batch do a step together. The three blends are one formula, factor x pixels + other, with
each sample's own numbers; samples are sorted so that those that turn their hue next lie side by side. The steps are
done in float32 and rounded once, at the end, where torchvision rounds a uint8 image down at each of them: the two
differ by that, and from torchvision on float images by a rounding.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.contract import ColorJitter
from prep.draws import U64, uniforms

NUM_COLUMNS = 7
"""Factors of brightness, contrast and saturation, the turn of hue, the order, whether jittered, whether gray."""

NUM_STEPS = 5
"""Four in the order drawn, and grayscale."""

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_ORDERS = np.array(
    [[a, b, c, 6 - a - b - c] for a in range(4) for b in range(4) for c in range(4) if len({a, b, c}) == 3]
)
# ITU-R BT.601, as in torchvision's rgb_to_grayscale.
_LUMA = (0.2989, 0.587, 0.114)
# Values worked on in one go: on a CPU what its caches hold, else enough to fill the device, in little of its memory.
_CPU_VALUES, _DEVICE_VALUES = 2**19, 2**25


def draw_jitter(keys: U64, jitter: ColorJitter) -> NDArray[np.float32]:
    """float32 [B, NUM_COLUMNS], a pure function of keys, uint64 [B]."""
    draws = uniforms(keys, np.arange(NUM_COLUMNS, dtype=np.uint64)[:, None])
    spread = np.array([[jitter.brightness], [jitter.contrast], [jitter.saturation], [jitter.hue]])
    middle = np.array([[1], [1], [1], [0]])
    low, high = middle - spread, middle + spread
    # torchvision clips the lower factor at zero.
    low[:_HUE] = np.maximum(low[:_HUE], 0)
    drawn = np.empty((len(keys), NUM_COLUMNS), np.float32)
    drawn[:, :4] = (low + (high - low) * draws[:4]).T
    drawn[:, 4] = np.floor(draws[4] * len(_ORDERS))
    drawn[:, 5] = draws[5] < jitter.probability
    drawn[:, 6] = draws[6] < jitter.gray_probability
    return drawn


def apply(images: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
    """Jitter uint8 [B, 3, H, W] by float32 [B, NUM_COLUMNS]: new images on the same device, in memory as [B, H, W, 3].

    Images that nothing is drawn for keep every bit. What to do is planned on the CPU: with `jitter` there, nothing
    waits for the device.
    """
    plan = _Plan(jitter.cpu().numpy())
    device = images.device
    blends, turns = _moved(plan.blends[..., None, None, None], device), _moved(plan.turns[:, None, None], device)
    pixels = images.permute(0, 2, 3, 1).index_select(0, _moved(plan.rows, device))
    values = _CPU_VALUES if device.type == "cpu" else _DEVICE_VALUES
    size = max(1, values // max(1, images[:1].numel()))
    for start in range(0, plan.num_changed, size):
        part = slice(start, min(start + size, plan.num_changed))
        planes = torch.empty((part.stop - start, *images.shape[1:]), device=device)
        planes.copy_(pixels[part].permute(0, 3, 1, 2)).div_(255.0)
        for step in range(NUM_STEPS):
            _blend(planes, plan.blends[part, step], blends[part, step])
            for run in _runs(plan.hue_steps[part] == step):
                _turn(planes[run], turns[part][run])
        planes.mul_(255.0).round_()
        for channel in range(3):
            pixels[part, :, :, channel].copy_(planes[:, channel])
    return pixels.index_select(0, _moved(np.argsort(plan.rows), device)).permute(0, 3, 1, 2)


class _Plan:
    """What to do to each of B images, sorted so that images of the same steps lie side by side and those of none last.

    rows: int64 [B], the images in that order. num_changed: how many of them come before those of none. blends: float32
    [B, NUM_STEPS, 3], what each step multiplies pixels, the image's mean gray and the pixels' gray by before it adds
    them up. hue_steps: int64 [B], the step that turns the hue by `turns`, float32 [B], or NUM_STEPS.
    """

    def __init__(self, jitter: NDArray[np.float32]) -> None:
        jittered, gray = jitter[:, 5] > 0, jitter[:, 6] > 0
        order = jitter[:, 4].astype(np.int64)
        turned = jittered & (jitter[:, _HUE] != 0)
        hue_steps = np.where(turned, np.argmax(_ORDERS == _HUE, axis=1)[order], NUM_STEPS)
        self.rows = np.lexsort((order, gray, hue_steps, ~(jittered | gray)))
        self.num_changed = int((jittered | gray).sum())
        self.hue_steps, self.turns = hue_steps[self.rows], jitter[self.rows, _HUE]
        jitter, jittered, gray = jitter[self.rows], jittered[self.rows], gray[self.rows]
        operations = _ORDERS[order[self.rows]]
        factors = np.take_along_axis(jitter, operations, axis=1)
        factors[~jittered[:, None] | (operations == _HUE)] = 1
        self.blends = np.zeros((len(jitter), NUM_STEPS, 3), np.float32)
        self.blends[:, :4, 0] = factors
        self.blends[:, :4, 1] = (1 - factors) * (operations == _CONTRAST)
        self.blends[:, :4, 2] = (1 - factors) * (operations == _SATURATION)
        self.blends[:, 4, 0], self.blends[:, 4, 2] = ~gray, gray


def _moved(values: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    # From memory that is not pinned, a copy would wait for what the device is doing.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _runs(where: NDArray[np.bool_]) -> Iterator[slice]:
    """The stretches in which `where` is true."""
    edges = np.flatnonzero(np.diff(where, prepend=False, append=False)).tolist()
    return map(slice, edges[::2], edges[1::2])


def _blend(pixels: torch.Tensor, weights: NDArray[np.float32], on_device: torch.Tensor) -> None:
    """In place: a weighted sum of pixels, mean gray and gray, clipped. weights: [B, 3], also as [B, 3, 1, 1, 1]."""
    is_scaled, has_mean, has_gray = (weights != (1, 0, 0)).any(axis=0)
    if not (is_scaled or has_mean or has_gray):
        return
    on_pixels, on_mean, on_gray = on_device.unbind(1)
    pixels_gray = _gray(pixels) if has_mean or has_gray else None
    pixels.mul_(on_pixels)
    if pixels_gray is not None and has_mean:
        pixels.add_(pixels_gray.mean(dim=(1, 2, 3), keepdim=True).mul_(on_mean))
    if pixels_gray is not None and has_gray:
        pixels.add_(pixels_gray.mul_(on_gray))
    pixels.clamp_(0, 1)


def _gray(pixels: torch.Tensor) -> torch.Tensor:
    red, green, blue = pixels.split(1, dim=1)
    return torch.mul(red, _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _turn(pixels: torch.Tensor, turns: torch.Tensor) -> None:
    """In place: turn the colour circle by `turns`, [B, 1, 1], a part of it, through HSV (Smith 1978)."""
    red, green, blue = pixels.unbind(1)
    # The hue is a place in a sector of the circle: a half of the third around its largest channel. The place is how far
    # the middle channel is above the least; whether the sector begins or ends where red, green and blue meet their
    # neighbours is told by two comparisons, as numbers: torch.where is slow on a CPU.
    upper, least = torch.maximum(green, blue), torch.minimum(green, blue)
    is_blue_above, is_red_under = (torch.empty_like(upper) for _ in range(2))
    torch.lt(green, blue, out=is_blue_above)
    torch.lt(red, upper, out=is_red_under)
    value, middle = torch.maximum(red, upper), torch.minimum(red, upper)
    low = torch.minimum(middle, least)
    chroma = (value - low).mul_(6.0)
    hue = middle.sub_(least).div_(chroma + 1e-20)
    hue.add_((is_blue_above * 2.0).sub_(1 / 3).mul_(is_red_under)).sub_(is_blue_above).abs_().add_(turns)
    # Each channel is the value less the chroma by a trapezoid of the hue, shifted for it: a third of the circle at the
    # value around the channel's own hue, a third at the lowest around the opposite one, and ramps between. In numbers
    # |distance from the opposite hue| x 6 chroma + value - 2 chroma, clipped to what lies between.
    base = torch.sub(value, chroma, alpha=1 / 3)
    for channel, shift in zip((red, green, blue), (2.0, 2 - 1 / 3, 2 + 1 / 3), strict=True):
        distance = (hue + shift).frac_().sub_(0.5).abs_()
        torch.clamp(distance.mul_(chroma).add_(base), low, value, out=channel)
