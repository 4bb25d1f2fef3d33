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


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What the two encoders see in one stage.

    res: side in pixels of the square image. text_tokens: text tokens a caption, start and end included.
    text_mask: which tokens of a longer caption are kept, one of prep.text_masks.TEXT_MASKS.
    """

    res: int
    text_tokens: int
    text_mask: str = "syntax"


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
