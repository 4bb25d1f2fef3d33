"""Image-token reduction by leaving out patches: which an image keeps, a pure function of (seed, samples seen).

Drawn on the device from a counter, with no generator, no copy to the host and shapes that depend on the budget alone,
so that a compiled model stays one graph. All images of a stage keep the same number of patches, `num_kept`. What the
masks are: arXiv 2305.07017, figure 1; neither of CLIPA's code bases has `grid` or `block`: those details are ours.

    random   any patches, a set of its own for each image (FLIP, arXiv 2212.00794)
    grid     the same places of every 2 x 2 window: the top left one, the diagonal, or all but the bottom right one
    block    one window at a random place, as square as the number allows; its last row may end early

The fourth way, `resize`, is no mask: a smaller `res` of the budget.
"""

import math

import torch

from pipelines.contract import TokenBudget
from prep.draws import stream

IMAGE_MASKS = ("random", "grid", "block")

# Of each 2 x 2 window, by the number of patches that it keeps: (row, column) modulo 2.
_OF_WINDOW = {1: ((0, 0),), 2: ((0, 0), (1, 1)), 3: ((0, 0), (0, 1), (1, 0))}
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FACTORS = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


def num_kept(budget: TokenBudget, patch_size: int) -> int:
    """Patches that an image keeps of its (res / patch_size)^2: max(1, int(N (1 - ratio))), all without a mask."""
    num_patches = (budget.res // patch_size) ** 2
    if budget.image_mask == "none":
        return num_patches
    # 1 - 0.9 is a little less than 0.1, and a tenth of 100 patches is 10.
    return max(1, int(num_patches * (1 - budget.image_mask_ratio) + 1e-9))


def wrong(budget: TokenBudget, patch_size: int) -> str | None:
    """What keeps a budget's image mask from being drawn, in words; None when nothing does."""
    grid = budget.res // patch_size
    if budget.image_mask == "none":
        return None if budget.image_mask_ratio == 0 else f"ratio {budget.image_mask_ratio} of no mask"
    if budget.image_mask not in IMAGE_MASKS:
        return f"wanted none, {', '.join(IMAGE_MASKS)}; found {budget.image_mask!r}"
    if not 0 <= budget.image_mask_ratio < 1:
        return f"wanted a ratio of 0 to less than 1, found {budget.image_mask_ratio}"
    if budget.image_mask == "grid" and (grid % 2 or budget.image_mask_ratio not in (0.25, 0.5, 0.75)):
        return (
            "grid keeps 3, 2 or 1 of every 2 x 2 patches: wanted a ratio of 0.25, 0.5 or 0.75 and an even number of "
            f"patches a side, found {budget.image_mask_ratio} and {grid}"
        )
    return None


def mask_key(budget: TokenBudget, seed: int) -> int:
    """What `kept_patches` draws from: 64 bits, signed. Made apart, because a compiler does not see through a hash."""
    word = stream(seed, 0, f"image mask {budget.image_mask}")
    return word - (1 << 64) if word >= 1 << 63 else word


def kept_patches(budget: TokenBudget, patch_size: int, key: int, places: torch.Tensor) -> torch.Tensor:
    """The patches that images keep: int64 [B, num_kept], each row ascending, on the device of `places`.

    key: see `mask_key`. places: int64 [B], of each image in the run, counted in samples seen.
    """
    grid = budget.res // patch_size
    count = num_kept(budget, patch_size)
    if budget.image_mask == "grid":
        return _grid(grid, round(4 * (1 - budget.image_mask_ratio)), places)
    if budget.image_mask == "block":
        return _block(grid, count, key, places)
    patches = torch.arange(grid * grid, device=places.device)
    # The patch's own number in the low bits makes a tie impossible.
    noise = (_words(_words(key, places)[:, None], patches) & ~0xFFFF) | patches
    return noise.argsort(dim=1)[:, :count].sort(dim=1).values


def _grid(grid: int, of_four: int, places: torch.Tensor) -> torch.Tensor:
    every_other = 2 * torch.arange(grid // 2, device=places.device)
    windows = (every_other[:, None] * grid + every_other).flatten()
    kept = torch.cat([windows + row * grid + column for row, column in _OF_WINDOW[of_four]])
    return kept.sort().values.expand(len(places), -1)


def _block(grid: int, count: int, key: int, places: torch.Tensor) -> torch.Tensor:
    height = max(math.isqrt(count), -(-count // grid))
    width = -(-count // height)
    height = -(-count // width)
    inside = torch.arange(count, device=places.device)
    inside = inside // width * grid + inside % width
    rows, columns = grid - height + 1, grid - width + 1
    # 31 random bits: uniform to one part in 2^31 / 576.
    drawn = (_words(key, places) >> 32) & 0x7FFFFFFF
    start = (drawn * (rows * columns)) >> 31
    return (start // columns * grid + start % columns)[:, None] + inside


def _shifted(words: torch.Tensor, by: int) -> torch.Tensor:
    """A shift to the right that fills with zeros; int64 has only the one that fills with the sign."""
    return (words >> by) & ((1 << (64 - by)) - 1)


def _mix(words: torch.Tensor) -> torch.Tensor:
    words = (words ^ _shifted(words, 30)) * _FACTORS[0]
    words = (words ^ _shifted(words, 27)) * _FACTORS[1]
    return words ^ _shifted(words, 31)


def _words(keys: int | torch.Tensor, counter: torch.Tensor) -> torch.Tensor:
    """prep.draws.words on the device: the same 64 bits, as int64."""
    if isinstance(keys, int):
        keys = torch.full((1,), keys, dtype=torch.int64, device=counter.device)
    return _mix(_mix(keys + _GOLDEN) ^ (counter * _GOLDEN))
