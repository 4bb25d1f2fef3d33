"""CLIP: a vision tower on timm, a lean text transformer, and a temperature.

The towers are built for one token budget at a time; `set_budget` carries the weights over to another (CLIPA's hand-over
between stages: sin-cos image positions are recomputed, learned text positions are interpolated).
"""

import math

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from pipelines.contract import TokenBudget
from train.positions import resize_1d, sincos_2d
from train.recipe import ModelConfig, TextConfig, VisionConfig

VOCABULARY_SIZE = 49408
# OpenAI CLIP's pixel statistics, RGB in 0-1.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)


def _vision_tower(config: VisionConfig, embed_dim: int, res: int) -> VisionTransformer:
    tower = VisionTransformer(
        img_size=res,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        class_token=False,
        global_pool="avg",
        num_classes=embed_dim,
    )
    tower.head = nn.Linear(config.width, embed_dim, bias=False)
    nn.init.normal_(tower.head.weight, std=config.width**-0.5)
    return tower


class TextBlock(nn.Module):
    """Pre-norm attention and MLP; causal, so that a token never sees what the budget might have cut after it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.num_heads = config.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, T, width] to the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, length, width))
        update: torch.Tensor = self.fc2(self.act(self.fc1(self.norm2(x))))
        return x + update


class TextTower(nn.Module):
    """Tokens int64 [B, T] to float [B, embed_dim], pooled where the end of text stands (the largest id)."""

    def __init__(self, config: TextConfig, embed_dim: int, text_tokens: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, config.width)
        self.positions = nn.Parameter(torch.empty(text_tokens, config.width))
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, embed_dim, bias=False)
        self._initialise(config)

    def _initialise(self, config: TextConfig) -> None:
        """CLIP's own: standard deviations by width and depth (clipa.md section 3 lists the same for CLIPA)."""
        width = config.width
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        nn.init.normal_(self.head.weight, std=width**-0.5)
        for block in self.blocks:
            assert isinstance(block, TextBlock)
            nn.init.normal_(block.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.fc1.weight, std=(2 * width) ** -0.5)
            for out in (block.proj, block.fc2):
                nn.init.normal_(out.weight, std=width**-0.5 * (2 * config.depth) ** -0.5)
            for linear in (block.qkv, block.proj, block.fc1, block.fc2):
                nn.init.zeros_(linear.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The pooled, projected features; not normalised."""
        x = self.token_embedding(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        pooled = x[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)]
        features: torch.Tensor = self.head(self.norm(pooled))
        return features


class CLIP(nn.Module):
    """Two towers that meet on a sphere. `budget` is what they are built for."""

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, config: ModelConfig, budget: TokenBudget) -> None:
        super().__init__()
        self.config, self.budget = config, budget
        self.vision = _vision_tower(config.vision, config.embed_dim, budget.res)
        self.text = TextTower(config.text, config.embed_dim, budget.text_tokens)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1) * 255, persistent=False)
        self.set_budget(budget)

    def set_budget(self, budget: TokenBudget) -> None:
        """Fit the towers to another budget in place. Parameters become new objects: make the optimizer afterwards."""
        vision = self.config.vision
        self.vision.set_input_size(img_size=(budget.res, budget.res))
        with torch.no_grad():
            positions = sincos_2d(budget.res // vision.patch_size, vision.width).to(self.pixel_mean.device)
            self.vision.pos_embed = nn.Parameter(positions, requires_grad=False)
            self.text.positions = nn.Parameter(resize_1d(self.text.positions, budget.text_tokens))
        self.budget = budget

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, R, R] to unit vectors float [B, embed_dim]; pixels are normalised here, on the device."""
        features: torch.Tensor = self.vision((images.float() - self.pixel_mean) / self.pixel_std)
        return normalize(features, dim=-1)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [B, T] to unit vectors float [B, embed_dim]."""
        return normalize(self.text(tokens), dim=-1)

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image features, text features and the scale of the logits (a scalar)."""
        return self.encode_image(images), self.encode_text(tokens), self.logit_scale.exp()

    def clamp_logit_scale(self) -> None:
        """Keep the scale in 1 ... 100, as CLIP does after every step."""
        with torch.no_grad():
            self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
