"""The text tower: a lean transformer over token ids, in the forms that CLIPA's families need.

Its features are those of one token a sample, so the last block is computed for that token alone; keys and values are
everybody's. The numbers are the same, within rounding.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.attention import attended, attended_at, token_at
from train.model_config import GELUS, TextConfig
from train.positions import resize_1d


class TextBlock(nn.Module):
    """Pre-norm attention and MLP. Causal: a token never sees what the budget might have cut after it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.num_heads, self.causal = config.num_heads, config.causal
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=config.norm_eps) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = nn.GELU(approximate=GELUS[config.gelu])

    def forward(self, x: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """float [B, T, width] to the same; to [B, 1, width] with places: int64 [B], a sample's one token to compute."""
        qkv = self.qkv(self.norm1(x))
        if places is None:
            x = x + self.proj(attended(qkv, self.num_heads, self.causal))
        else:
            x = token_at(x, places) + self.proj(attended_at(qkv, self.num_heads, places, self.causal))
        update: torch.Tensor = self.fc2(self.act(self.fc1(self.norm2(x))))
        return x + update


class TextTower(nn.Module):
    """Tokens int64 [B, T] to float [B, embed_dim]."""

    def __init__(self, config: TextConfig, embed_dim: int, text_tokens: int) -> None:
        super().__init__()
        self.pool = config.pool
        self.grad_checkpointing = False
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.positions = nn.Parameter(torch.empty(text_tokens, config.width))
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, embed_dim, bias=False)
        self._initialise(config)

    def _initialise(self, config: TextConfig) -> None:
        """CLIP's own: standard deviations by width and depth; CLIPA's JAX code has the same."""
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

    def set_length(self, text_tokens: int) -> None:
        """Interpolate the positions to another number of text tokens; a new parameter."""
        with torch.no_grad():
            self.positions = nn.Parameter(resize_1d(self.positions, text_tokens))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The pooled, projected features; not normalised."""
        x = self.token_embedding(tokens) + self.positions
        for block in self.blocks[:-1]:
            x = self._through(block, x)
        x = self._through(self.blocks[-1], x, self._pooled(tokens))
        features: torch.Tensor = self.head(self.norm(x.squeeze(1)))
        return features

    def _pooled(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [B], the place of the token that stands for its sample."""
        if self.pool == "last":
            return torch.full((len(tokens),), tokens.shape[1] - 1, device=tokens.device)
        return tokens.argmax(dim=1)  # the end of text has the largest id

    def _through(self, block: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        saves = self.grad_checkpointing and self.training
        x: torch.Tensor = checkpoint(block, *inputs, use_reentrant=False) if saves else block(*inputs)
        return x
