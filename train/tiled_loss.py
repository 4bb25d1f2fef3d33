"""The losses of `train.loss` at any batch size: logits exist one tile at a time, here and on all ranks.

The forward pass goes over the tiles once and keeps of each row and column its running maximum and sum (of the sigmoid
loss, a sum); the backward pass makes every tile again and turns it into gradients on the spot. Gradients are exact.
Memory beside the features is that of their gradients, of the gathered texts and of a few tiles; the price is one matrix
product more than the plain form's three.

**Ranks.** With a `group`, each rank has B / world rows of the batch, as many as every other, and the loss is that of
the whole batch, the same number on every rank. A rank makes the logits of its own images and all texts. So it knows its
rows whole, and of each column a part, which two all-reduces of B numbers complete. The other way, as in open_clip's
local loss, is to gather images too and to make two sets of logits, own images by all texts and own texts by all images:
six matrix products of B / world x B where this takes four, for the same traffic (B x D gathered, and B x D again: there
the images, here the gradients of the texts, which go home by a reduce-scatter).

**The factor.** DDP and FSDP average gradients over ranks, and each rank has only the part that came through its own
features. What `backward` hands to the features is therefore world times the gradient of the loss; after the mean, a
parameter has the gradient of the loss of the whole batch. The scalars, on the other hand, get their whole gradient on
every rank, which a mean leaves as it is, and which is right for a scalar that nothing averages.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from train.logit_grid import Grid, Group, exact, gathered, slices, summed, wide

CPU_TILE, GPU_TILE = 512, 4096
"""Sides of a tile: 1 MiB of logits, which a core's cache nearly holds; and 64 MiB, so that launches are few."""

_LINEAR_FROM = 50.0
"""Where softplus(x) may be taken for x: e^-50 is nothing beside 50, in float64 too."""


def tiled_contrastive(
    image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, *, tile: int | None = None, group: Group = None
) -> torch.Tensor:
    """`train.loss.contrastive` with its gradients, in flat memory.

    image, text: this rank's rows [B / world, D], floating. scale: one number, of any shape. tile: rows and columns of
    the logits that exist at once (default: CPU_TILE or GPU_TILE). group: the ranks that share the batch; None: this
    process has all of it. Returns a scalar, float32 (float64 for float64 features), the same on all ranks.
    """
    image, text, tile = _checked(image, text, tile)
    return _apply(_Contrastive, image, text, scale, tile, group)


def tiled_sigmoid(
    image: torch.Tensor,
    text: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    *,
    tile: int | None = None,
    group: Group = None,
) -> torch.Tensor:
    """`train.loss.sigmoid` with its gradients, in flat memory. bias: one number; the rest as in `tiled_contrastive`."""
    image, text, tile = _checked(image, text, tile)
    return _apply(_Sigmoid, image, text, scale, bias, tile, group)


def _apply(function: type[Function], *arguments: object) -> torch.Tensor:
    loss: torch.Tensor = function.apply(*arguments)
    return loss


def _checked(image: torch.Tensor, text: torch.Tensor, tile: int | None) -> tuple[torch.Tensor, torch.Tensor, int]:
    assert image.shape == text.shape, (image.shape, text.shape)
    dtype = torch.promote_types(image.dtype, text.dtype)
    return image.to(dtype), text.to(dtype), tile or (CPU_TILE if image.device.type == "cpu" else GPU_TILE)


@dataclass
class _LogSumExp:
    """A log-sum-exp for each row or column, of tiles that come one after another."""

    most: torch.Tensor
    total: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> "_LogSumExp":
        most = torch.full((len(features),), -torch.inf, dtype=wide(features), device=features.device)
        return cls(most, torch.zeros_like(most))

    def add(self, where: slice, logits: torch.Tensor, dim: int) -> None:
        # Written out: on CPUs torch.logsumexp takes as long as the matrix product.
        most = torch.maximum(self.most[where], logits.amax(dim))
        total = (logits - most.unsqueeze(dim)).exp_().sum(dim)
        self.total[where] = total + self.total[where] * (self.most[where] - most).exp()
        self.most[where] = most

    def over(self, group: Group) -> torch.Tensor:
        """The values, of the tiles of all ranks."""
        most = self.most
        if group is not None:
            most = self.most.clone()
            distributed.all_reduce(most, distributed.ReduceOp.MAX, group)
        return most + summed(self.total * (self.most - most).exp(), group).log()


class _Contrastive(Function):
    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, tile: int, group: Group
    ) -> torch.Tensor:
        grid = Grid(image, gathered(text, group), scale, None, tile, group)
        rows_sum, columns_sum = _LogSumExp.of(image), _LogSumExp.of(grid.texts)
        pairs = torch.empty_like(rows_sum.most)
        with exact(image):
            for rows, columns, logits, _ in grid.tiles():
                rows_sum.add(rows, logits, 1)
                columns_sum.add(columns, logits, 0)
            for rows in slices(len(image), tile):
                pairs[rows] = (image[rows].to(pairs.dtype) * text[rows]).sum(1) * scale
            by_row, by_column = rows_sum.over(None), columns_sum.over(group)
        ctx.save_for_backward(image, grid.texts, scale, by_row, by_column)
        ctx.tile, ctx.group = tile, group
        return summed((by_row + by_column[grid.own] - 2 * pairs).sum(), group) / (2 * len(grid.texts))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image, texts, scale, by_row, by_column = ctx.saved_tensors

        def slope(rows: slice, columns: slice, logits: torch.Tensor, diagonal: torch.Tensor) -> None:
            down = (logits - by_column[columns]).exp_()
            logits.sub_(by_row[rows, None]).exp_().add_(down)
            diagonal.sub_(2)

        with exact(image):
            grid = Grid(image, texts, scale, None, ctx.tile, ctx.group)
            found = grid.gradients(slope, outer / (2 * len(texts)), ctx.needs_input_grad)
        return (*found[:3], None, None)


class _Sigmoid(Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: torch.Tensor,
        text: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
        tile: int,
        group: Group,
    ) -> torch.Tensor:
        grid = Grid(image, gathered(text, group), scale, bias, tile, group)
        sums = torch.zeros(len(image), dtype=wide(image), device=image.device)
        with exact(image):
            for rows, _, logits, diagonal in grid.tiles():
                diagonal.neg_()
                sums[rows] += softplus(logits, threshold=_LINEAR_FROM).sum(1)
        ctx.save_for_backward(image, grid.texts, scale, bias)
        ctx.tile, ctx.group = tile, group
        return summed(sums.sum(), group) / len(grid.texts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image, texts, scale, bias = ctx.saved_tensors

        def slope(rows: slice, columns: slice, logits: torch.Tensor, diagonal: torch.Tensor) -> None:
            diagonal.neg_()
            logits.sigmoid_()
            diagonal.neg_()

        with exact(image):
            grid = Grid(image, texts, scale, bias, ctx.tile, ctx.group)
            found = grid.gradients(slope, outer / len(texts), ctx.needs_input_grad)
        return (*found, None, None)
