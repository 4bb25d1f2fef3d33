"""The reference loader: numpy and simplejpeg over mapped Arrow, in threads. Runs anywhere; judges the fast ones."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.contract import Batch, TokenBudget
from pipelines.order import permute, rows_at
from pipelines.pixels import central_boxes, cut, decode
from pipelines.store_view import StoreView
from prep.crops import Augmentation, random_boxes
from prep.draws import row_keys, stream
from prep.errors import UserError
from prep.store import Store
from prep.text_masks import select


def load_images(
    view: StoreView, rows: NDArray[np.int64], keys: NDArray[np.uint64] | None, how: Augmentation
) -> torch.Tensor:
    """uint8 [B, 3, R, R]; random boxes when there are keys, central squares when there are none."""
    stored = view.images(rows)
    sizes = stored.widths, stored.heights
    boxes = central_boxes(*sizes) if keys is None else random_boxes(keys, *sizes, how)
    images = torch.empty((len(rows), 3, view.res, view.res), dtype=torch.uint8)
    for place, (encoded, box) in enumerate(zip(stored.encoded, boxes, strict=True)):
        try:
            images[place] = cut(decode(encoded), box, view.res)
        except ValueError as error:
            raise UserError(
                f"{view.store.path}, {view.res} px, row {rows[place]}",
                f"wanted a whole JPEG, but {error}",
                "The shard was damaged after it was built: delete it and run the same prep.build command again.",
            ) from error
    return images


@dataclass(frozen=True)
class TorchLoader:
    """Batches of a store; see `pipelines.contract` for what is promised.

    batch_size: global, a multiple of `world`. samples_seen: the position to start at. threads: batches prepared ahead
    in so many threads; 0 prepares each when it is asked for. shuffle_captions: the control in which captions are
    dealt out anew among the images (a random bijection, the same in every epoch; about one image keeps its own).
    """

    store: Store
    budget: TokenBudget
    batch_size: int
    seed: int
    samples_seen: int = 0
    rank: int = 0
    world: int = 1
    threads: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)
    shuffle_captions: bool = False

    def __post_init__(self) -> None:
        if self.batch_size % self.world:
            raise UserError(
                "batch_size",
                f"wanted a multiple of the {self.world} ranks, found {self.batch_size}",
                "Change the recipe's batch_size or the number of processes.",
            )

    def _batch(self, view: StoreView, start: int) -> Batch:
        """The rank's slice of the global batch that begins at position `start`."""
        count = self.batch_size // self.world
        rows, epochs = rows_at(start + self.rank * count, count, len(view), self.seed)
        caption_rows = rows
        if self.shuffle_captions:
            caption_rows = permute(rows, len(view), stream(self.seed, 0, "shuffle_captions"))
        text = view.text(caption_rows)
        tokens = select(
            text.tokens,
            text.priorities,
            text.num_tokens,
            self.budget.text_tokens,
            self.budget.text_mask,
            row_keys(self.seed, epochs, rows, "text"),
        )
        images = load_images(view, rows, row_keys(self.seed, epochs, rows, "crop"), self.augmentation)
        return Batch(images, torch.from_numpy(tokens), torch.from_numpy(rows))

    def __iter__(self) -> Iterator[Batch]:
        view = StoreView(self.store, self.budget.res)
        start = self.samples_seen
        if self.threads == 0:
            while True:
                yield self._batch(view, start)
                start += self.batch_size
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        ahead: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(ahead) <= self.threads:
                    ahead.append(pool.submit(self._batch, view, start))
                    start += self.batch_size
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
