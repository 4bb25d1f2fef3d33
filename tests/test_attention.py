"""Attention and the last blocks against their plain forms: the same numbers and gradients, from fewer copies."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import Block
from torch.nn.functional import normalize, scaled_dot_product_attention

from pipelines.contract import TokenBudget
from tests.test_model import CONFIG, inputs
from train.attention import attended, attended_at
from train.model import CLIP
from train.model_config import ModelConfig
from train.text_tower import TextTower
from train.vision_tower import VisionBlock

BUDGET = TokenBudget(32, 12)
WITH_CLASS = replace(CONFIG, vision=replace(CONFIG.vision, class_token=True, pool="class", pre_norm=True))
BIDIRECTIONAL = replace(CONFIG, text=replace(CONFIG.text, causal=False, pool="last"))


def plain_attention(qkv: torch.Tensor, num_heads: int, causal: bool) -> torch.Tensor:
    batch, length, width = qkv.shape
    q, k, v = qkv.view(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(batch, length, width // 3)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.integers(0, 2**32))
def test_attention_is_the_plain_one(batch: int, length: int, num_heads: int, causal: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(batch, length, 3 * num_heads * 4, generator=generator, dtype=torch.float64, requires_grad=True)
    places = torch.randint(0, length, (batch,), generator=generator)
    wanted = plain_attention(qkv, num_heads, causal)
    torch.testing.assert_close(attended(qkv, num_heads, causal), wanted)
    one = attended_at(qkv, num_heads, places, causal)
    here = wanted[torch.arange(batch), places]
    torch.testing.assert_close(one.squeeze(1), here)
    outer = torch.randn(here.shape, generator=generator, dtype=torch.float64)
    (by_one,) = torch.autograd.grad(one.squeeze(1), qkv, outer)
    (by_all,) = torch.autograd.grad(here, qkv, outer)
    torch.testing.assert_close(by_one, by_all)


def plain_image_features(model: CLIP, images: torch.Tensor) -> torch.Tensor:
    """timm's own way through all blocks, of the same weights."""
    tower = model.vision
    x = tower.norm_pre(tower._pos_embed(tower.patch_embed((images - model.pixel_mean) / model.pixel_std)))
    for block in tower.blocks:
        assert isinstance(block, VisionBlock)
        x = Block.forward(block, x)
    return normalize(tower.forward_head(tower.norm(x)), dim=-1)


def plain_text_features(tower: TextTower, tokens: torch.Tensor) -> torch.Tensor:
    """Every block for every token, and what is pooled picked from the last."""
    x = tower.token_embedding(tokens) + tower.positions
    for block in tower.blocks:
        x = block(x)
    places = tokens.argmax(1) if tower.pool == "end" else torch.full((len(tokens),), tokens.shape[1] - 1)
    return normalize(tower.head(tower.norm(x[torch.arange(len(tokens)), places])), dim=-1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("config", [CONFIG, WITH_CLASS, BIDIRECTIONAL], ids=["mean-end", "class-end", "mean-last"])
def test_features_and_gradients_are_those_of_whole_towers(config: ModelConfig, checkpointing: bool) -> None:
    torch.manual_seed(0)
    model = CLIP(config, BUDGET).double().train()
    model.set_checkpointing(checkpointing)
    images, tokens = inputs(BUDGET)
    tokens[1, 3], tokens[1, 4:] = 49407, 7  # ends early, and then come tokens that nothing may see
    outer = torch.randn(3, config.embed_dim, dtype=torch.float64)
    model.pixel_mean, model.pixel_std = model.pixel_mean.double(), model.pixel_std.double()

    def gradients(image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        ((image + text) * outer).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    image, text, _ = model(images, tokens)
    plain = plain_image_features(model, images.double()), plain_text_features(model.text, tokens)
    torch.testing.assert_close(image, plain[0])
    torch.testing.assert_close(text, plain[1])
    found, wanted = gradients(image, text), gradients(*plain)
    assert len(found) > 40
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
