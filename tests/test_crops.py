"""Crop boxes: inside the image, in the ranges, and distributed as torchvision's RandomResizedCrop draws them."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop

from prep.crops import Augmentation, random_boxes
from prep.draws import row_keys

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
