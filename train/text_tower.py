"""The text tower: a lean transformer over token ids, in the forms that CLIPA's families need."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, T, width] to the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, length, width))
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
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.grad_checkpointing and self.training else block(x)
        if self.pool == "last":
            pooled = x[:, -1]
        else:  # the end of text has the largest id
            pooled = x[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)]
        features: torch.Tensor = self.head(self.norm(pooled))
        return features
