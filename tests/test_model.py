"""The model: shapes, positions, the hand-over between budgets, the loss and the FLOP count."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipelines.contract import TokenBudget
from train.flops import forward_flops, spared_flops
from train.loss import contrastive
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.positions import resize_1d, sincos_2d

CONFIG = ModelConfig(
    embed_dim=24, vision=VisionConfig(8, 32, 2, 2), text=TextConfig(width=16, depth=2, num_heads=2, mlp_ratio=3.0)
)


def inputs(budget: TokenBudget, num: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num, 3, budget.res, budget.res), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 400, (num, budget.text_tokens), generator=generator)
    tokens[:, 0], tokens[:, -2], tokens[:, -1] = 49406, 49407, 0
    return images, tokens


@pytest.mark.parametrize("budget", [TokenBudget(16, 4), TokenBudget(32, 12), TokenBudget(48, 77)])
def test_features_are_unit_vectors(budget: TokenBudget) -> None:
    model = CLIP(CONFIG, budget).eval()
    image, text, scale = model(*inputs(budget))
    for features in (image, text):
        assert features.shape == (3, 24)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert scale.item() == pytest.approx(1 / 0.07)


def test_handing_over_to_the_same_budget_changes_nothing() -> None:
    budget = TokenBudget(32, 12)
    model = CLIP(CONFIG, budget).eval()
    before = model(*inputs(budget))
    model.set_budget(budget)
    for a, b in zip(before, model(*inputs(budget)), strict=True):
        assert torch.equal(a, b)


def test_handing_over_there_and_back_keeps_the_image_tower() -> None:
    model = CLIP(CONFIG, TokenBudget(32, 12)).eval()
    images, _ = inputs(model.budget)
    before = model.encode_image(images)
    model.set_budget(TokenBudget(64, 12))
    assert model.encode_image(inputs(TokenBudget(64, 12))[0]).shape == (3, 24)
    model.set_budget(TokenBudget(32, 12))
    assert torch.equal(model.encode_image(images), before)


def test_text_is_causal_so_padding_and_what_was_cut_do_not_matter() -> None:
    model = CLIP(CONFIG, TokenBudget(16, 8)).eval()
    tokens = torch.tensor([[49406, 5, 6, 49407, 0, 0, 0, 0], [49406, 5, 6, 49407, 9, 9, 9, 9]])
    a, b = model.encode_text(tokens)
    assert torch.equal(a, b)


def test_sincos_positions_follow_their_formula() -> None:
    table = sincos_2d(3, 16)
    assert table.shape == (1, 9, 16)
    x, y = 2, 1
    expected = [
        function(place * 10000 ** (-k / 3)) for place in (x, y) for function in (math.sin, math.cos) for k in range(4)
    ]
    torch.testing.assert_close(table[0, y * 3 + x], torch.tensor(expected))


@given(st.integers(2, 20), st.integers(2, 40))
def test_a_straight_line_of_positions_stays_one_inside(old: int, new: int) -> None:
    """Half-pixel centres: new place i lies at (i + 1/2) old / new - 1/2 of the old, clamped to its ends."""
    table = torch.arange(old, dtype=torch.float32)[:, None].expand(old, 3).contiguous()
    places = ((torch.arange(new) + 0.5) * old / new - 0.5).clamp(0, old - 1)
    torch.testing.assert_close(resize_1d(table, new), places[:, None].expand(new, 3), atol=1e-4, rtol=1e-4)


def test_loss_is_ln_b_for_equal_features_and_small_for_matching_ones() -> None:
    ones = torch.nn.functional.normalize(torch.ones(8, 16), dim=1)
    assert contrastive(ones, ones, torch.tensor(50.0)).item() == pytest.approx(math.log(8))
    axes = torch.eye(8, 16)
    assert contrastive(axes, axes, torch.tensor(50.0)).item() < 1e-6
    assert contrastive(axes, axes.roll(1, 0), torch.tensor(50.0)).item() > 40


def test_the_scale_is_clamped_to_100() -> None:
    model = CLIP(CONFIG, TokenBudget(16, 4))
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model.clamp_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100)


@pytest.mark.parametrize("budget", [TokenBudget(16, 4), TokenBudget(48, 16)])
def test_flops_agree_with_torchs_counter(budget: TokenBudget) -> None:
    """Torch counts products of matrices, but not in the fused attention of CPUs: it is given the plain one."""
    model = CLIP(CONFIG, budget).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(*inputs(budget, num=1))
    executed = forward_flops(CONFIG, budget) - spared_flops(CONFIG, budget)
    assert executed == pytest.approx(counter.get_total_flops(), rel=1e-3)
