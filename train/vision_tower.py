"""The vision tower: timm's vision transformer in the forms that CLIPA's families need, with patches left out.

timm's modules do the work; `encode` calls them in its order, to put the image mask between position embedding and the
first block, where a patch that is left out costs nothing from there on. Where the class token is what is pooled, the
last block is computed for it alone; keys and values are everybody's. The numbers are the same, within rounding.
"""

from functools import partial
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.attention import attended, attended_at, token_at
from train.model_config import GELUS, VisionConfig
from train.positions import resize_2d, sincos_2d


class VisionBlock(Block):
    """timm's block with all its names, and a way through it that has only what `VisionConfig` has."""

    attn: Attention

    def forward(self, x: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """float [B, N, width] to the same; to [B, 1, width] with places: int64 [B], a sample's one token to compute."""
        qkv, num_heads = self.attn.qkv(self.norm1(x)), self.attn.num_heads
        if places is None:
            x = x + self.attn.proj(attended(qkv, num_heads))
        else:
            x = token_at(x, places) + self.attn.proj(attended_at(qkv, num_heads, places))
        update: torch.Tensor = self.mlp(self.norm2(x))
        return x + update


def make_vision_tower(config: VisionConfig, embed_dim: int, res: int) -> VisionTransformer:
    """A tower for `res` pixels with random weights; its head is a projection to embed_dim without bias."""

    def patch_embed(**settings: Any) -> PatchEmbed:
        return PatchEmbed(**settings | {"bias": config.patch_bias})

    tower = VisionTransformer(
        img_size=res,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        class_token=config.class_token,
        global_pool="token" if config.pool == "class" else "avg",
        pool_include_prefix=config.pool == "mean_with_class",
        pre_norm=config.pre_norm,
        num_classes=embed_dim,
        embed_layer=patch_embed,
        block_fn=VisionBlock,
        norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
        act_layer=partial(nn.GELU, approximate=GELUS[config.gelu]),
    )
    tower.head = nn.Linear(config.width, embed_dim, bias=False)
    _initialise(tower, config)
    return tower


def _initialise(tower: VisionTransformer, config: VisionConfig) -> None:
    deviation = config.width**-0.5
    assert isinstance(tower.head, nn.Linear)
    nn.init.normal_(tower.head.weight, std=deviation)
    if config.positions == "learned":
        assert tower.pos_embed is not None
        nn.init.normal_(tower.pos_embed, std=deviation)
    if config.init == "timm":
        return
    if tower.cls_token is not None:
        nn.init.normal_(tower.cls_token, std=deviation if config.init == "clip" else 0.0)
    linears = {name: m for name, m in tower.blocks.named_modules() if isinstance(m, nn.Linear)}
    if config.init == "clip":
        # open_clip leaves PyTorch's own: multi-head attention is Xavier uniform without biases, the rest as it comes.
        tower.patch_embed.proj.reset_parameters()
        for name, linear in linears.items():
            linear.reset_parameters()
            if ".attn." in name:
                nn.init.zeros_(linear.bias)
            if name.endswith("qkv"):
                nn.init.xavier_uniform_(linear.weight)
        return
    # Flax: Xavier uniform, each of query, key and value on its own; convolutions are LeCun's truncated normal, whose
    # deviation is divided by that of a normal cut at two deviations.
    for name, linear in linears.items():
        nn.init.zeros_(linear.bias)
        for part in linear.weight.chunk(3) if name.endswith("qkv") else (linear.weight,):
            nn.init.xavier_uniform_(part)
    fan_in = 3 * config.patch_size**2
    std = fan_in**-0.5 / 0.87962566103423978
    nn.init.trunc_normal_(tower.patch_embed.proj.weight, std=std, a=-2 * std, b=2 * std)


def set_positions(tower: VisionTransformer, config: VisionConfig, res: int, image_positions: str) -> None:
    """Fit the tower to `res` pixels. image_positions: "fixed" or "learned", as in `train.recipe.Stage`."""
    grid, num_prefix = res // config.patch_size, int(config.class_token)
    assert tower.pos_embed is not None
    table = tower.pos_embed.detach()
    fixed = image_positions == "fixed"
    with torch.no_grad():
        if fixed:
            table = sincos_2d(grid, config.width, config.positions, num_prefix).to(table.device)
        else:
            table = resize_2d(table, grid, num_prefix)
    tower.pos_embed = None  # timm would resize it in its own way
    tower.set_input_size(img_size=(res, res))
    tower.pos_embed = nn.Parameter(table, requires_grad=not fixed)


def encode(
    tower: VisionTransformer, config: VisionConfig, pixels: torch.Tensor, kept: torch.Tensor | None
) -> torch.Tensor:
    """Normalised pixels float [B, 3, R, R] to float [B, embed_dim].

    kept: patches that an image keeps, int64 [B, K] (see `train.image_masks`); None: all. The class token always stays.
    """
    x = tower._pos_embed(tower.patch_embed(pixels))
    if kept is not None:
        num_prefix = int(config.class_token)
        patches = x[:, num_prefix:].gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :num_prefix], patches], dim=1)
    x = tower.norm_pre(x)
    for block in tower.blocks[:-1]:
        x = _through(tower, block, x)
    first = (torch.zeros(len(x), dtype=torch.int64, device=x.device),) if config.pool == "class" else ()
    x = _through(tower, tower.blocks[-1], x, *first)
    features: torch.Tensor = tower.forward_head(tower.norm(x))
    return features


def _through(tower: VisionTransformer, block: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    saves = tower.grad_checkpointing and tower.training
    x: torch.Tensor = checkpoint(block, *inputs, use_reentrant=False) if saves else block(*inputs)
    return x
