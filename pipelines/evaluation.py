"""A store in its own order, without augmentation: how evaluation reads its images and captions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.contract import Batch, TokenBudget
from pipelines.pixels import DamagedPixelsError, central_boxes, fill
from pipelines.store_view import ImageView, TextRows, TextView
from prep.draws import row_keys
from prep.store import Store, open_store
from prep.text_masks import select

Rows = NDArray[np.int64]


@dataclass
class PlainImages:
    """A store's images at one resolution: short side resized and centre cropped.

    Raises `UserError` when the store has none at `res`.
    """

    store: Store
    res: int
    view: ImageView = field(init=False)

    def __post_init__(self) -> None:
        self.view = ImageView(self.store, self.res)

    def take(self, rows: Rows) -> torch.Tensor:
        """uint8 [B, 3, res, res]. rows: int64 [B]. Raises `pipelines.damage.DamagedError`."""
        stored = self.view.images(rows)
        sizes = stored.widths, stored.heights
        pixels = np.empty((len(rows), self.res, self.res, 3), np.uint8)
        try:
            fill(pixels, stored.encoded, sizes, stored.is_raw, central_boxes(*sizes))
        except DamagedPixelsError as error:
            raise self.view.damage(int(rows[error.place]), str(error)) from error
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class PlainCaptions:
    """Token ids int64 [C, T]. owners: int64 [C], whose caption, as a place among the rows that were asked for.

    num_reduced: captions with more tokens than the budget keeps.
    """

    tokens: torch.Tensor
    owners: torch.Tensor
    num_reduced: int


@dataclass
class PlainTexts:
    """A store's captions, reduced to a budget. end_token, tokenizer: of the model, see `pipelines.contract.Draws`.

    Raises `UserError` when the store lacks what the budget's text mask reads.
    """

    store: Store
    budget: TokenBudget
    end_token: bool = True
    tokenizer: str = "clip"
    view: TextView = field(init=False)

    def __post_init__(self) -> None:
        self.view = TextView(self.store, tokenizer=self.tokenizer, text_mask=self.budget.text_mask)

    def first(self, rows: Rows) -> PlainCaptions:
        """The first caption of each row, in order. Raises `pipelines.damage.DamagedError`."""
        return self._reduced(self.view.rows(rows), rows, np.arange(len(rows)))

    def every(self, rows: Rows) -> PlainCaptions:
        """All captions of each row, row by row. Raises `pipelines.damage.DamagedError`."""
        text, owners = self.view.every(rows)
        return self._reduced(text, rows[owners], owners)

    def _reduced(self, text: TextRows, rows: Rows, owners: Rows) -> PlainCaptions:
        tokens = select(
            text.tokens,
            text.priorities,
            text.num_tokens,
            self.budget.text_tokens,
            self.budget.text_mask,
            row_keys(0, np.zeros_like(rows), rows, "text"),
            self.end_token,
            self.view.marks,
        )
        num_reduced = int((text.num_tokens - (not self.end_token) > self.budget.text_tokens).sum())
        return PlainCaptions(torch.from_numpy(tokens), torch.from_numpy(owners), num_reduced)


def row_batches(start: int, stop: int, batch_size: int) -> Iterator[Rows]:
    """The rows from `start` up to `stop`, int64, so many at a time; the last may be fewer."""
    for first in range(start, stop, batch_size):
        yield np.arange(first, min(first + batch_size, stop), dtype=np.int64)


def batches(
    store_path: Path, budget: TokenBudget, batch_size: int, end_token: bool = True, tokenizer: str = "clip"
) -> Iterator[Batch]:
    """Every row once with its first caption, short side resized and centre cropped; the last batch may be short.

    end_token, tokenizer: of the model, see `pipelines.contract.Draws`. Raises `UserError` when the store cannot be
    opened or lacks `budget.res` or what `budget.text_mask` reads.
    """
    store = open_store(store_path)
    images, captions = PlainImages(store, budget.res), PlainTexts(store, budget, end_token, tokenizer)
    for rows in row_batches(0, store.manifest.num_samples, batch_size):
        yield Batch(images.take(rows), captions.first(rows).tokens, torch.from_numpy(rows))
