"""The logits of a batch, one tile at a time, on one rank or many: what `train.tiled_loss` walks over, forth and back.

A rank has the logits of its own images [n, D] and the texts of all ranks [B, D], n = B / world. Tiles are float32
whatever autocast says, or float64 for float64 features; bfloat16 and float16 features are multiplied as they are on a
GPU, and widened on a CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import distributed

Group = distributed.ProcessGroup | None
"""The ranks that share a batch; None: this process has all of it."""
Slope = Callable[[slice, slice, torch.Tensor, torch.Tensor], object]
"""Of rows, columns, a tile of logits and its diagonal: turns the tile into the loss's derivative by it, in place."""


def exact(features: torch.Tensor) -> AbstractContextManager[object]:
    """Without autocast, which would round logits, of up to 100, to 8 bits."""
    return torch.autocast(features.device.type, enabled=False)


def wide(features: torch.Tensor) -> torch.dtype:
    """What is accumulated: float32, or float64 for float64 features."""
    return torch.promote_types(features.dtype, torch.float32)


def slices(num: int, length: int) -> Iterator[slice]:
    """0 ... num in pieces of a length; the last may be shorter."""
    for start in range(0, num, length):
        yield slice(start, min(start + length, num))


def summed(part: torch.Tensor, group: Group) -> torch.Tensor:
    """The sum over ranks, in place."""
    if group is not None:
        distributed.all_reduce(part, group=group)
    return part


def gathered(text: torch.Tensor, group: Group) -> torch.Tensor:
    """The rows of all ranks [B, D], of which each has as many [n, D]."""
    if group is None:
        return text
    texts = text.new_empty(len(text) * distributed.get_world_size(group), *text.shape[1:])
    distributed.all_gather_single(texts, text.contiguous(), group)
    return texts


def _sent_home(by_texts: torch.Tensor, own: slice, group: Group) -> torch.Tensor:
    """The sum over ranks of the gradients of this rank's texts."""
    if group is None:
        return by_texts
    by_text = torch.empty_like(by_texts[own])
    distributed.reduce_scatter_single(by_text, by_texts, group=group)
    return by_text


def _product(left: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """left @ features, accumulated and given in `wide`; on a GPU, left is rounded to the dtype of narrow features."""
    dtype = wide(features)
    if features.dtype == dtype or features.device.type == "cpu":
        return left.to(dtype) @ features.to(dtype)
    return torch.mm(left.to(features.dtype), features, out_dtype=dtype)


def _add_product(total: torch.Tensor, left: torch.Tensor, features: torch.Tensor) -> None:
    if features.dtype == total.dtype:
        total.addmm_(left, features)
    else:
        total.add_(_product(left, features))


@dataclass
class Grid:
    """scale x image @ texts.T + bias: this rank's images, all texts, two numbers. `tile`: rows and columns at once."""

    image: torch.Tensor
    texts: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None
    tile: int
    group: Group

    @property
    def own(self) -> slice:
        """The columns of this rank's texts."""
        first = len(self.image) * (0 if self.group is None else distributed.get_rank(self.group))
        return slice(first, first + len(self.image))

    def tiles(self) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor]]:
        """Rows, columns, the tile's logits, and a view of those of pairs, in most tiles empty."""
        first = self.own.start
        for rows in slices(len(self.image), self.tile):
            for columns in slices(len(self.texts), self.tile):
                logits = _product(self.image[rows], self.texts[columns].T).mul_(self.scale)
                if self.bias is not None:
                    logits.add_(self.bias)
                yield rows, columns, logits, logits.diagonal(first + rows.start - columns.start)

    def gradients(self, slope: Slope, weight: torch.Tensor, needs: tuple[bool, ...]) -> list[torch.Tensor | None]:
        """By image, text, scale and bias, of weight x the sum over all ranks' logits of what `slope` differentiates.

        needs: whether image and text want theirs. The features' are times world: see "The factor" in
        `train.tiled_loss`.
        """
        image, text = self.image, self.texts[self.own]
        dtype, world = wide(image), len(self.texts) // len(image)
        # The scale's gradient is the product of features and their gradients: one of the two is always made.
        by_image = torch.zeros_like(image, dtype=dtype) if needs[0] or not needs[1] else None
        by_texts = torch.zeros_like(self.texts, dtype=dtype) if needs[1] else None
        by_bias = torch.zeros((), dtype=dtype, device=image.device)
        for rows, columns, logits, diagonal in self.tiles():
            slope(rows, columns, logits, diagonal)
            if self.bias is not None:
                by_bias += logits.sum()
            if by_image is not None:
                _add_product(by_image[rows], logits, self.texts[columns])
            if by_texts is not None:
                _add_product(by_texts[columns], logits.T, image[rows])
        by_text = None if by_texts is None else _sent_home(by_texts, self.own, self.group)
        by_scale = _dot(image, by_image) if by_image is not None else _dot(text, by_text)
        by_scale, by_bias = (summed(torch.stack([by_scale, by_bias]), self.group) * weight).unbind()
        for gradient in (by_image, by_text):
            if gradient is not None:
                gradient.mul_(self.scale * weight * world)
        found = ((by_image, image), (by_text, text), (by_scale, self.scale), (by_bias, self.bias))
        return [None if by is None or of is None else by.to(of.dtype).view_as(of) for by, of in found]


def _dot(features: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor:
    """The sum of products of all numbers, without another tensor of that size."""
    assert gradient is not None
    parts = [(gradient[rows] * features[rows]).sum() for rows in slices(len(features), 1024)]
    return torch.stack(parts).sum()
