"""The one contract of all loaders: a `Loader` is an iterable of `Batch`, and its whole state is one integer, samples
seen.

Given the same store, budget, batch size, seed and samples seen, every loader yields the same rows in the same order
with the same tokens and the same crop boxes, on any number of ranks: rank r of w holds the r-th contiguous slice of
each global batch. Iteration never ends; the trainer decides when to stop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

TEXT_MASKS = ("truncate", "random", "block", "syntax")


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What the two encoders see in one stage.

    res: side in pixels of the square image. text_tokens: text tokens a caption, start and end included.
    text_mask: which tokens of a longer caption are kept, one of TEXT_MASKS.
    """

    res: int
    text_tokens: int
    text_mask: str = "syntax"


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random-resized crops: area and aspect ratio (width / height) are drawn from these ranges, as torchvision
    defines it.

    Defaults: CLIPA crops 40-100% of the area in every recipe (paper 2305.07017); the aspect range is torchvision's
    own.
    """

    crop_area: tuple[float, float] = (0.4, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's slice of a global batch.

    images: uint8 [B, 3, R, R]. tokens: int64 [B, T], start of text first, zero padded. index: int64 [B], rows in the
    store.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    index: torch.Tensor


class Loader(Protocol):
    """Anything that yields batches; see the module's docstring for what it owes."""

    def __iter__(self) -> Iterator[Batch]: ...
