"""A store in its own order, without augmentation: how evaluation reads its images and captions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipelines.contract import Batch, TokenBudget
from pipelines.pixels import DamagedPixelsError, central_boxes, fill
from pipelines.store_view import ImageView, TextView
from prep.draws import row_keys
from prep.store import open_store
from prep.text_masks import select


def batches(
    store_path: Path, budget: TokenBudget, batch_size: int, end_token: bool = True, tokenizer: str = "clip"
) -> Iterator[Batch]:
    """Every row once with its first caption, short side resized and centre cropped; the last batch may be short.

    end_token, tokenizer: of the model, see `pipelines.contract.Draws`. Raises `UserError` when the store cannot be
    opened or lacks `budget.res` or what `budget.text_mask` reads.
    """
    store = open_store(store_path)
    images, captions = ImageView(store, budget.res), TextView(store, tokenizer=tokenizer, text_mask=budget.text_mask)
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)), dtype=np.int64)
        text = captions.rows(rows)
        tokens = select(
            text.tokens,
            text.priorities,
            text.num_tokens,
            budget.text_tokens,
            budget.text_mask,
            row_keys(0, np.zeros_like(rows), rows, "text"),
            end_token,
            captions.marks,
        )
        stored = images.images(rows)
        sizes = stored.widths, stored.heights
        pixels = np.empty((len(rows), budget.res, budget.res, 3), np.uint8)
        try:
            fill(pixels, stored.encoded, sizes, stored.is_raw, central_boxes(*sizes))
        except DamagedPixelsError as error:
            raise images.damage(int(rows[error.place]), str(error)) from error
        yield Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(tokens), torch.from_numpy(rows))
