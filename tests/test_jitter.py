"""Colour jitter: torchvision's definitions for each sample by its own draw, and draws as torchvision makes them."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import ColorJitter as TorchvisionJitter
from torchvision.transforms import functional as F

from pipelines.contract import ColorJitter
from pipelines.jitter import NUM_COLUMNS, apply, draw_jitter
from prep.draws import row_keys

STEPS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
ORDERS = list(permutations(range(4)))
STRONG = ColorJitter(1.5, 1.5, 1.5, 0.5, 0.9, 0.3)


def keys(count: int, seed: int = 0) -> NDArray[np.uint64]:
    return row_keys(seed, np.zeros(count, np.int64), np.arange(count), "jitter")


def pictures(count: int, side: int = 24) -> torch.Tensor:
    """Smooth, noisy, gray, saturated and constant ones in turn, in memory as [B, H, W, 3]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3))
    ramp = np.linspace(0, 255, side)
    images[1::5] = (ramp[:, None, None] + ramp[None, :, None] * [1, -0.5, 0.2]).clip(0, 255)
    images[2::5] = images[2::5, ..., :1]
    images[3::5] = (images[3::5] > 127) * 255
    images[4::5] = rng.integers(0, 256, (len(images[4::5]), 1, 1, 3))
    return torch.from_numpy(images.astype(np.uint8)).permute(0, 3, 1, 2)


def as_torchvision(image: torch.Tensor, row: NDArray[np.float32]) -> torch.Tensor:
    """One image, float in 0 ... 1 or uint8, through torchvision's own functions."""
    if row[5]:
        for step in ORDERS[int(row[4])]:
            image = STEPS[step](image, float(row[step]))
    return F.rgb_to_grayscale(image, 3) if row[6] else image


def distances(images: torch.Tensor, jitter: NDArray[np.float32], through_bytes: bool = False) -> torch.Tensor:
    """How far each value is above torchvision's, in levels of 255."""
    pairs = list(zip(images, jitter, strict=True))
    if through_bytes:
        theirs = [as_torchvision(image, row) for image, row in pairs]
    else:
        theirs = [as_torchvision(image / 255, row).mul(255).round() for image, row in pairs]
    return apply(images, torch.from_numpy(jitter)).int() - torch.stack(theirs).int()


def furthest(images: torch.Tensor, jitter: NDArray[np.float32]) -> int:
    return int(distances(images, jitter).abs().max())


@pytest.mark.parametrize("jitter", [ColorJitter(), STRONG], ids=["clipa", "strong"])
def test_each_sample_is_as_torchvision_makes_it_within_a_rounding(jitter: ColorJitter) -> None:
    assert furthest(pictures(200), draw_jitter(keys(200), jitter)) <= 1
    assert (distances(pictures(50), draw_jitter(keys(50), jitter)) != 0).float().mean() < 1e-3


def test_torchvision_on_bytes_is_darker_by_its_roundings() -> None:
    """It rounds down at each step, and the steps that follow enlarge that: torchvision on floats is as far from it."""
    found = distances(pictures(200), draw_jitter(keys(200), ColorJitter()), through_bytes=True)
    assert (found.abs() <= 3).float().mean() > 0.99
    assert found.abs().max() <= 7
    assert 0.5 < found.float().mean() < 1.5


@pytest.mark.parametrize("order", range(24))
def test_every_order_and_each_step_alone(order: int) -> None:
    images = pictures(15)
    jitter = np.tile(np.array([0.6, 1.4, 1.7, -0.2, order, 1, 0], np.float32), (15, 1))
    for step in range(4):
        jitter[3 + step :: 15, :4] = [[1, 1, 1, 0]]
        jitter[3 + step :: 15, step] = [1.5, 0.5, 0.2, 0.4][step]
    assert furthest(images, jitter) <= 1


def test_every_turn_of_every_pure_colour() -> None:
    """Colours at, and a level beside, the borders between the sectors of the hue circle."""
    levels = torch.tensor([0, 1, 100, 101, 254, 255], dtype=torch.uint8)
    image = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 6, 36)
    jitter = np.tile(np.array([1, 1, 1, 0, 0, 1, 0], np.float32), (101, 1))
    jitter[:, 3] = np.linspace(-0.5, 0.5, 101)
    assert furthest(image.expand(101, -1, -1, -1), jitter) <= 1


def test_gray_pixels_have_no_hue_to_turn() -> None:
    image = torch.arange(256, dtype=torch.uint8).expand(3, 256).reshape(1, 3, 16, 16)
    turned = apply(image, torch.tensor([[1, 1, 1, 0.3, 0, 1, 0]]))
    assert torch.equal(turned, image)


def test_where_nothing_applies_every_bit_stays() -> None:
    images, jitter = pictures(40), draw_jitter(keys(40), STRONG)
    jitter[::3, 5:] = 0
    before = images.clone()
    done = apply(images, torch.from_numpy(jitter))
    assert torch.equal(images, before)
    assert torch.equal(done[::3], images[::3])
    assert not torch.equal(done[1::3], images[1::3])
    nothing = apply(images, torch.zeros(40, NUM_COLUMNS))
    assert torch.equal(nothing, images)
    assert nothing.data_ptr() != images.data_ptr()


def test_a_jitter_of_no_strength_changes_nothing() -> None:
    images = pictures(24)
    jitter = draw_jitter(keys(24), ColorJitter(0, 0, 0, 0, 1, 0))
    jitter[:, 4] = np.arange(24)
    assert torch.equal(apply(images, torch.from_numpy(jitter)), images)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 30), st.integers(0, 1000), st.booleans())
def test_a_batch_is_its_samples(count: int, seed: int, in_planes: bool) -> None:
    """Whatever stands beside it; and however the images lie in memory, they come out as a loader's do."""
    jitter = torch.from_numpy(draw_jitter(keys(count, seed), STRONG))
    images = pictures(count, 9)
    done = apply(images.contiguous() if in_planes else images, jitter)
    assert done.dtype == torch.uint8
    assert done.shape == images.shape
    assert done.permute(0, 2, 3, 1).is_contiguous()
    for i in range(count):
        difference = done[i].int() - apply(images[i : i + 1], jitter[i : i + 1])[0].int()
        assert difference.abs().max() <= 1  # sums are taken in another order


def test_large_images_are_whole() -> None:
    images, jitter = pictures(6, 300), torch.from_numpy(draw_jitter(keys(6), STRONG))
    small = [apply(images[i : i + 1], jitter[i : i + 1]) for i in range(6)]
    assert (apply(images, jitter).int() - torch.cat(small).int()).abs().max() <= 1


def test_draws_are_pure() -> None:
    some = np.random.default_rng(0).permutation(1000)[:300]
    assert np.array_equal(draw_jitter(keys(1000)[some], ColorJitter()), draw_jitter(keys(1000), ColorJitter())[some])
    assert not np.array_equal(draw_jitter(keys(1000), ColorJitter()), draw_jitter(keys(1000, 1), ColorJitter()))
    assert draw_jitter(keys(0), ColorJitter()).shape == (0, NUM_COLUMNS)


def test_draws_are_distributed_as_torchvisions() -> None:
    """Ranges, and means and deviations within 4 standard errors; factors are clipped at zero, as theirs are."""
    num = 20_000
    torch.manual_seed(0)
    for jitter in (ColorJitter(), ColorJitter(1.3, 0.5, 0.1, 0.5)):
        theirs = TorchvisionJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        ranges = [theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue]
        a = draw_jitter(keys(num), jitter)[:, :4].astype(np.float64)
        b = np.array([TorchvisionJitter.get_params(*ranges)[1:] for _ in range(num)])
        low, high = np.array(ranges).T
        assert (a >= low - 1e-6).all()
        assert (a <= high + 1e-6).all()
        assert (np.ptp(a, axis=0) > 0.999 * (high - low)).all()
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / num)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error).all()
        assert np.abs(a.std(axis=0) / b.std(axis=0) - 1).max() < 0.03


def test_orders_are_uniform_and_probabilities_as_stated() -> None:
    num = 48_000
    jitter = draw_jitter(keys(num), ColorJitter(probability=0.8, gray_probability=0.2))
    counts = np.bincount(jitter[:, 4].astype(np.int64))
    assert len(counts) == 24
    # 23 degrees of freedom: beyond 50 in one of a thousand.
    assert ((counts - num / 24) ** 2 / (num / 24)).sum() < 50
    for column, probability in ((5, 0.8), (6, 0.2)):
        assert set(np.unique(jitter[:, column])) == {0, 1}
        assert abs(jitter[:, column].mean() - probability) < 4 * np.sqrt(0.16 / num)
    correlation = np.corrcoef(jitter, rowvar=False) - np.eye(NUM_COLUMNS)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(num)
    for never in (ColorJitter(probability=0, gray_probability=0), ColorJitter(probability=1, gray_probability=1)):
        assert (draw_jitter(keys(1000), never)[:, 5:] == never.probability).all()
