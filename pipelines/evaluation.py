"""A store in its own order, without augmentation: how evaluation reads its images and captions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipelines.contract import Batch, TokenBudget
from pipelines.store_view import ImageView, TextView
from pipelines.torch_loader import load_images
from prep.crops import Augmentation
from prep.draws import row_keys
from prep.store import open_store
from prep.text_masks import select


def batches(store_path: Path, budget: TokenBudget, batch_size: int) -> Iterator[Batch]:
    """Every row once with its first caption, short side resized and centre cropped; the last batch may be short.

    Raises `UserError` when the store cannot be opened or lacks `budget.res`.
    """
    store = open_store(store_path)
    images, captions = ImageView(store, budget.res), TextView(store)
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
        )
        yield Batch(load_images(images, rows, None, Augmentation()), torch.from_numpy(tokens), torch.from_numpy(rows))
