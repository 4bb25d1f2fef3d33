"""Image masks: which patches are kept, that the cost falls with them, and that a compiled tower stays one graph."""

import math

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contract import TokenBudget
from prep.draws import stream, words
from train import image_masks
from train.image_masks import IMAGE_MASKS, mask_key, num_kept, wrong
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig

PATCH = 8
CONFIG = ModelConfig(24, VisionConfig(PATCH, 32, 2, 2, class_token=True), TextConfig(16, 1, 2))


def budget(mask: str, ratio: float, grid: int = 6) -> TokenBudget:
    return TokenBudget(grid * PATCH, 4, image_mask=mask, image_mask_ratio=ratio)


def kept_patches(b: TokenBudget, patch_size: int, seed: int, at: torch.Tensor) -> torch.Tensor:
    return image_masks.kept_patches(b, patch_size, mask_key(b, seed), at)


def places(num: int, start: int = 0) -> torch.Tensor:
    return start + torch.arange(num)


@given(
    st.sampled_from(IMAGE_MASKS), st.integers(1, 12), st.floats(0, 0.99), st.integers(0, 2**40), st.integers(0, 2**62)
)
def test_patches_are_distinct_ascending_and_as_many_as_the_budget_says(
    mask: str, half: int, ratio: float, start: int, seed: int
) -> None:
    ratio = math.ceil(4 * ratio - 1e-9) / 4 if mask == "grid" else ratio
    b = budget(mask, min(ratio, 0.75) or 0.25 if mask == "grid" else ratio, 2 * half)
    assert wrong(b, PATCH) is None
    kept = kept_patches(b, PATCH, seed, places(4, start))
    assert kept.shape == (4, num_kept(b, PATCH))
    assert (kept.diff(dim=1) > 0).all()
    assert kept.min() >= 0
    assert kept.max() < (2 * half) ** 2


@pytest.mark.parametrize(
    ("res", "patch", "ratio", "tokens"),
    [(224, 14, 0.3, 179), (336, 14, 0.4, 345), (224, 14, 0.4, 153), (80, 8, 0.9, 10)],
)
def test_random_keeps_as_many_as_clipa(res: int, patch: int, ratio: float, tokens: int) -> None:
    """As its code does: int(N (1 - r)) of 256 and 576; and of 100 a tenth, in spite of how 1 - 0.9 is rounded."""
    assert num_kept(TokenBudget(res, 4, image_mask="random", image_mask_ratio=ratio), patch) == tokens


@pytest.mark.parametrize("mask", IMAGE_MASKS)
def test_masks_keep_equal_numbers_at_equal_ratios(mask: str) -> None:
    """CLIPA compares its strategies at equal image tokens: 49 of 196 is also 112 px of 224."""
    assert num_kept(budget(mask, 0.75, 14), PATCH) == num_kept(budget("none", 0.0, 7), PATCH) == 49


def test_random_is_prep_draws_to_the_bit() -> None:
    b, at = budget("random", 0.5), places(50, 10**12)
    key = np.uint64(stream(7, 0, "image mask random"))
    keys = words(key, at.numpy().astype(np.uint64))
    noise = words(keys[:, None], np.arange(36, dtype=np.uint64)[None])
    expected = np.sort(np.argsort(noise.view(np.int64), axis=1)[:, :18], axis=1)
    assert (kept_patches(b, PATCH, 7, at).numpy() == expected).all()


def test_random_keeps_each_patch_as_often() -> None:
    kept = kept_patches(budget("random", 0.75), PATCH, 0, places(20_000))
    counts = kept.flatten().bincount(minlength=36)
    # 20,000 draws of 1 in 4: a deviation of 61, and five of them.
    assert (counts - 5000).abs().max() < 306


def test_grid_keeps_the_same_places_of_every_window() -> None:
    for ratio, expected in ((0.75, [0]), (0.5, [0, 3]), (0.25, [0, 1, 2])):
        kept = kept_patches(budget("grid", ratio, 4), PATCH, 0, places(3))
        rows, columns = kept // 4, kept % 4
        windows = (rows // 2) * 2 + columns // 2
        assert sorted(set((rows % 2 * 2 + columns % 2).flatten().tolist())) == expected
        assert (windows[0].bincount(minlength=4) == len(expected)).all()


@settings(max_examples=40)
@given(st.integers(1, 24), st.floats(0, 0.98))
def test_block_is_one_piece_nearly_square_and_everywhere_as_likely(grid: int, ratio: float) -> None:
    b = budget("block", ratio, grid)
    kept = kept_patches(b, PATCH, 0, places(400))
    rows, columns = kept // grid, kept % grid
    height = rows.amax(1) - rows.amin(1) + 1
    width = columns.amax(1) - columns.amin(1) + 1
    count = num_kept(b, PATCH)
    assert (height == height[0]).all()
    assert (width == width[0]).all()
    assert 0 <= height[0] * width[0] - count < width[0]
    assert width[0] - height[0] <= 2 or height[0] == grid or width[0] == grid
    starts = set(kept[:, 0].tolist())
    num_places = int((grid - height[0] + 1) * (grid - width[0] + 1))
    assert len(starts) <= num_places
    assert num_places > 40 or len(starts) == num_places


def test_masks_depend_on_seed_and_place_alone() -> None:
    for mask in ("random", "block"):
        b = budget(mask, 0.75)
        whole = kept_patches(b, PATCH, 0, places(64))
        assert torch.equal(whole[32:], kept_patches(b, PATCH, 0, places(32, 32)))
        assert not torch.equal(whole, kept_patches(b, PATCH, 1, places(64)))
        assert len({tuple(row) for row in whole.tolist()}) > 10


@pytest.mark.parametrize(
    "b", [budget("grid", 0.6), budget("grid", 0.5, 7), budget("random", 1.0), budget("oval", 0.5), budget("none", 0.5)]
)
def test_what_cannot_be_drawn_is_said(b: TokenBudget) -> None:
    assert wrong(b, PATCH)


@pytest.mark.parametrize("mask", IMAGE_MASKS)
def test_blocks_see_only_what_is_kept_and_nothing_else_changes_the_features(mask: str) -> None:
    model = CLIP(CONFIG, budget(mask, 0.75)).train()
    seen = []
    model.vision.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    images = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8)
    features = model.encode_image(images, places(5))
    assert seen == [10]
    kept = kept_patches(model.budget, PATCH, 0, places(5))
    mask_of_pixels = torch.zeros(5, 36, dtype=torch.bool).scatter(1, kept, True).view(5, 1, 6, 6)
    mask_of_pixels = mask_of_pixels.repeat_interleave(8, 2).repeat_interleave(8, 3)
    hidden = torch.where(mask_of_pixels, images, 0)
    assert torch.equal(model.encode_image(hidden, places(5)), features)
    assert not torch.equal(model.encode_image(torch.where(mask_of_pixels, 0, images), places(5)), features)


def test_evaluation_sees_every_patch() -> None:
    masked, whole = CLIP(CONFIG, budget("random", 0.75)), CLIP(CONFIG, budget("none", 0.0))
    whole.load_state_dict(masked.state_dict())
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    assert torch.equal(masked.encode_image(images), whole.encode_image(images))


@pytest.mark.parametrize("mask", IMAGE_MASKS)
def test_a_masked_tower_is_one_graph(mask: str) -> None:
    """No graph break, and no second compilation as the run goes on."""
    torch._dynamo.reset()
    model = CLIP(CONFIG, budget(mask, 0.5))
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model.encode_image, backend=counter, fullgraph=True)
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    for start in (0, 2, 10**10):
        torch.testing.assert_close(compiled(images, places(2, start)), model.encode_image(images, places(2, start)))
    assert counter.frame_count == 1
