"""Position embeddings, and what happens to them when a stage changes the number of tokens."""

import torch
from torch.nn.functional import interpolate

SINCOS = ("sincos", "sincos-mae")


def sincos_2d(grid: int, width: int, kind: str = "sincos", num_prefix: int = 0) -> torch.Tensor:
    """Fixed positions for a grid x grid image, float32 [1, num_prefix + grid * grid, width]; prefix rows are zero.

    Integer coordinates, order sin x, cos x, sin y, cos y; frequencies 10000^(-k / (width/4 - 1)) as in CLIPA's JAX
    code, or for "sincos-mae" 10000^(-k / (width/4)) as in MAE's, which CLIPA's PyTorch code took.
    Recomputed, not interpolated, when the grid changes. Computed in float64 so that every machine rounds alike.
    """
    quarter = width // 4
    steps = quarter if kind == "sincos-mae" else max(1, quarter - 1)
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / steps)
    y, x = torch.meshgrid(*[torch.arange(grid, dtype=torch.float64)] * 2, indexing="ij")
    angles_x, angles_y = x.flatten()[:, None] * frequency, y.flatten()[:, None] * frequency
    table = torch.cat([angles_x.sin(), angles_x.cos(), angles_y.sin(), angles_y.cos()], dim=1)
    return torch.cat([table.new_zeros(num_prefix, width), table]).float()[None]


def resize_1d(table: torch.Tensor, length: int) -> torch.Tensor:
    """A learned table [L, width] to [length, width], linearly, both ends included as half-pixel centres.

    As open_clip's resize_text_pos_embed: the whole table, align_corners false, no antialias. The same length is a copy.
    """
    if table.shape[0] == length:
        return table.clone()
    return interpolate(table.T[None], length, mode="linear", align_corners=False)[0].T.contiguous()


def resize_2d(table: torch.Tensor, grid: int, num_prefix: int = 0) -> torch.Tensor:
    """A table [1, num_prefix + G * G, width] to [1, num_prefix + grid * grid, width]; prefix rows are copied.

    As open_clip's resize_pos_embed: bicubic, antialiased, align_corners false. The same grid is a copy.
    """
    prefix, patches = table[:, :num_prefix], table[:, num_prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return table.clone()
    image = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    image = interpolate(image, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([prefix, image.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)], dim=1)
