"""Crop boxes: inside the image, in the ranges, and distributed as torchvision's RandomResizedCrop draws them."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import RandomResizedCrop

from prep.crops import NUM_TRIES, Augmentation, random_boxes
from prep.draws import U64, row_keys, uniforms

SIDES = st.integers(1, 600)


@given(width=SIDES, height=SIDES, seed=st.integers(0, 1000))
def test_boxes_lie_inside(width: int, height: int, seed: int) -> None:
    rows = np.arange(20, dtype=np.int64)
    keys = row_keys(seed, np.zeros_like(rows), rows, "crop")
    sizes = np.full(20, width, np.int64), np.full(20, height, np.int64)
    top, left, h, w = random_boxes(keys, *sizes, Augmentation()).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (h >= 1).all()
    assert (w >= 1).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


def test_a_row_has_its_own_box_in_every_epoch() -> None:
    rows = np.array([3, 3, 7], np.int64)
    keys = row_keys(0, np.array([0, 1, 0], np.int64), rows, "crop")
    again = row_keys(0, np.array([1, 0], np.int64), rows[:2], "crop")
    assert len(set(keys.tolist())) == 3
    assert again.tolist() == keys[[1, 0]].tolist()


def test_boxes_are_distributed_as_torchvisions() -> None:
    """Means of area, aspect and centre over 20,000 draws agree within 4 standard errors, on a wide image."""
    num, width, height = 20_000, 200, 120
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.4, 1.0], [3 / 4, 4 / 3]) for _ in range(num)])
    rows = np.arange(num, dtype=np.int64)
    keys = row_keys(1, np.zeros_like(rows), rows, "crop")
    ours = random_boxes(keys, np.full(num, width, np.int64), np.full(num, height, np.int64), Augmentation())

    def facts(boxes: np.ndarray) -> np.ndarray:
        top, left, h, w = boxes.astype(np.float64).T
        return np.stack([h * w, w / h, top + h / 2, left + w / 2])

    a, b = facts(ours), facts(theirs)
    error = np.sqrt((a.var(axis=1) + b.var(axis=1)) / num)
    assert (np.abs(a.mean(axis=1) - b.mean(axis=1)) < 4 * error).all()
    assert (np.abs(a.std(axis=1) / b.std(axis=1) - 1) < 0.03).all()


def plain_boxes(
    keys: U64, widths: NDArray[np.int64], heights: NDArray[np.int64], wanted: Augmentation
) -> list[list[int]]:
    """All tries of all rows at once: the judge of random_boxes, which makes later ones only where needed."""
    draws = uniforms(keys[:, None], np.arange(2 * NUM_TRIES + 2, dtype=np.uint64))
    boxes = []
    for u, width, height in zip(draws, widths.tolist(), heights.tolist(), strict=True):
        (low, high), (narrow, wide) = wanted.crop_area, wanted.crop_aspect
        area = width * height * (low + (high - low) * u[:NUM_TRIES])
        aspect = np.exp(np.log(narrow) + (np.log(wide) - np.log(narrow)) * u[NUM_TRIES : 2 * NUM_TRIES])
        sides = np.rint(np.sqrt(np.stack([area * aspect, area / aspect], axis=1))).astype(int).tolist()
        fitting = [(w, h) for w, h in sides if 0 < w <= width and 0 < h <= height]
        if fitting:
            w, h = fitting[0]
            boxes.append([int(u[-2] * (height - h + 1)), int(u[-1] * (width - w + 1)), h, w])
        else:
            w, h = min(width, max(1, round(height * wide))), min(height, max(1, round(width / narrow)))
            boxes.append([(height - h) // 2, (width - w) // 2, h, w])
    return boxes


@given(st.lists(st.tuples(SIDES, SIDES), max_size=40), st.integers(0, 1000), st.floats(0.05, 1), st.floats(0.05, 1))
def test_boxes_equal_plain_tries(sizes: list[tuple[int, int]], seed: int, one: float, other: float) -> None:
    rows = np.arange(len(sizes), dtype=np.int64)
    widths, heights = np.array(sizes, np.int64).reshape(-1, 2).T
    keys = row_keys(seed, np.zeros_like(rows), rows, "crop")
    wanted = Augmentation((min(one, other), max(one, other)))
    assert random_boxes(keys, widths, heights, wanted).tolist() == plain_boxes(keys, widths, heights, wanted)
