"""Position embeddings, and what happens to them when a stage changes the number of tokens."""

import torch
from torch.nn.functional import interpolate


def sincos_2d(grid: int, width: int) -> torch.Tensor:
    """Fixed positions for a grid x grid image, float32 [1, grid * grid, width].

    CLIPA's JAX form: integer coordinates, frequencies 10000^(-k / (width/4 - 1)), order sin x, cos x, sin y, cos y.
    Recomputed, not interpolated, when the grid changes. Computed in float64 so that every machine rounds alike.
    """
    quarter = width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / max(1, quarter - 1))
    y, x = torch.meshgrid(*[torch.arange(grid, dtype=torch.float64)] * 2, indexing="ij")
    angles_x, angles_y = x.flatten()[:, None] * frequency, y.flatten()[:, None] * frequency
    table = torch.cat([angles_x.sin(), angles_x.cos(), angles_y.sin(), angles_y.cos()], dim=1)
    return table.float()[None]


def resize_1d(table: torch.Tensor, length: int) -> torch.Tensor:
    """A learned table [L, width] to [length, width], linearly, both ends included as half-pixel centres.

    As open_clip's resize_text_pos_embed: the whole table, align_corners false, no antialias. The same length is a copy.
    """
    if table.shape[0] == length:
        return table.clone()
    return interpolate(table.T[None], length, mode="linear", align_corners=False)[0].T.contiguous()
