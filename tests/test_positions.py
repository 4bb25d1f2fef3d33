"""The hand-over between stages: nothing changes where the budget does not, and what changes is open_clip's resizing."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contract import TokenBudget
from tests.open_clip_models import assert_same, batch, our_model, reduced, their_model
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.positions import SINCOS, resize_1d, resize_2d, sincos_2d


@pytest.mark.parametrize("image_positions", ["fixed", "learned"])
@pytest.mark.parametrize("class_token", [False, True])
def test_the_same_budget_again_changes_nothing(image_positions: str, class_token: bool) -> None:
    vision = VisionConfig(8, 32, 2, 2, class_token=class_token)
    model = CLIP(ModelConfig(16, vision, TextConfig(32, 2, 2)), TokenBudget(32, 12), image_positions).eval()
    images, tokens = batch(model)
    with torch.no_grad():
        before = model(images, tokens)
        model.set_budget(TokenBudget(32, 12), image_positions)
        for a, b in zip(model(images, tokens), before, strict=True):
            assert torch.equal(a, b)


def test_fixed_positions_come_back_from_another_budget() -> None:
    model = CLIP(ModelConfig(16, VisionConfig(8, 32, 1, 2), TextConfig(32, 1, 2)), TokenBudget(32, 12)).eval()
    images, _ = batch(model)
    with torch.no_grad():
        before = model.encode_image(images)
        model.set_budget(TokenBudget(64, 16))
        assert model.vision.pos_embed is not None
        assert torch.equal(model.vision.pos_embed, sincos_2d(8, 32))
        model.set_budget(TokenBudget(32, 12))
        assert torch.equal(model.encode_image(images), before)


@pytest.mark.parametrize("name", ["ViT-L-14-CLIPA", "ViT-B-16"])
@pytest.mark.parametrize(("grid", "text_tokens"), [(6, 16), (9, 32), (3, 8), (4, 77)])
def test_another_budget_is_what_open_clip_loads(name: str, grid: int, text_tokens: int) -> None:
    """Weights of one size into a model of another, through open_clip's functions and through ours."""
    from open_clip.model import resize_pos_embed, resize_text_pos_embed

    small = reduced(name)
    small["text_cfg"]["context_length"] = 16
    source = their_model(small)
    ours = our_model(small, source)
    res = grid * ours.config.vision.patch_size
    ours.set_budget(TokenBudget(res, text_tokens), "learned")

    other = copy.deepcopy(small)
    other["vision_cfg"]["image_size"], other["text_cfg"]["context_length"] = res, text_tokens
    theirs = their_model(other, seed=1)
    state = source.state_dict()
    resize_pos_embed(state, theirs)
    resize_text_pos_embed(state, theirs)
    theirs.load_state_dict(state)
    assert_same(ours, theirs, *batch(ours))
    assert ours.vision.pos_embed is not None
    assert torch.equal(ours.vision.pos_embed[0], theirs.visual.positional_embedding)
    assert torch.equal(ours.text.positions, theirs.positional_embedding)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(SINCOS), st.integers(0, 1))
@settings(max_examples=30, deadline=None)
def test_sincos_says_where_a_patch_is(row: int, column: int, kind: str, num_prefix: int) -> None:
    """A patch's half of x depends on its column alone, its half of y on its row, whatever the grid."""
    grid, width = 13, 16
    table = sincos_2d(grid, width, kind, num_prefix)[0]
    assert table.shape == (num_prefix + grid * grid, width)
    assert not table[:num_prefix].any()
    patch = table[num_prefix + row * grid + column]
    frequency = 10000.0 ** (-torch.arange(4, dtype=torch.float64) / (4 if kind == "sincos-mae" else 3))
    parts = [f(place * frequency) for place in (column, row) for f in (torch.sin, torch.cos)]
    torch.testing.assert_close(patch, torch.cat(parts).float())


def test_a_table_that_rises_evenly_still_does_within() -> None:
    """Half-pixel centres: twice as many text positions lie a quarter before and after the old ones."""
    line = torch.arange(8.0)[:, None]
    assert resize_1d(line, 16)[1:-1, 0].tolist() == [0.25 + 0.5 * i for i in range(14)]
    assert torch.equal(resize_1d(line, 8), line)


@pytest.mark.parametrize("num_prefix", [0, 1])
def test_prefix_rows_are_copied(num_prefix: int) -> None:
    table = torch.randn(1, num_prefix + 16, 4)
    resized = resize_2d(table, 6, num_prefix)
    assert resized.shape == (1, num_prefix + 36, 4)
    assert torch.equal(resized[:, :num_prefix], table[:, :num_prefix])
