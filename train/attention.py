"""Attention as both towers do it, in layouts that spare copies.

Query, key and value are cut out of one product's last axis and seen as heads without being moved. Their gradients then
come back as three pieces that are joined once, where the usual `permute(2, 0, 3, 1, 4).unbind()` stacks them into
another order and copies them back.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention


def attended(qkv: torch.Tensor, num_heads: int, causal: bool = False) -> torch.Tensor:
    """float [B, T, 3 x width], query, key and value side by side, to float [B, T, width], heads side by side.

    causal: a token sees none after it.
    """
    q, k, v = (_heads(part, num_heads) for part in qkv.chunk(3, dim=-1))
    return scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


def attended_at(qkv: torch.Tensor, num_heads: int, places: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """`attended` for one token of each sample: float [B, 1, width]. places: int64 [B]."""
    batch, length, _ = qkv.shape
    query, key, value = qkv.chunk(3, dim=-1)
    q, k, v = (_heads(part, num_heads) for part in (token_at(query, places), key, value))
    seen = None
    if causal:
        seen = (torch.arange(length, device=places.device) <= places[:, None]).view(batch, 1, 1, length)
    return scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


def token_at(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """One token of each sample: [B, T, width] to [B, 1, width]. places: int64 [B]."""
    return x[torch.arange(len(x), device=x.device), places].unsqueeze(1)


def _heads(part: torch.Tensor, num_heads: int) -> torch.Tensor:
    """[B, T, width] to [B, heads, T, width / heads]; a view."""
    batch, length, width = part.shape
    return part.view(batch, length, num_heads, width // num_heads).transpose(1, 2)
