"""The reference loader: numpy and simplejpeg over mapped Arrow, in threads. Runs anywhere; judges the fast ones."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.contract import Batch, TokenBudget
from pipelines.order import permute, rows_at
from pipelines.pixels import central_boxes, cut, decode
from pipelines.store_view import ImageView, TextView
from prep.crops import Augmentation, random_boxes
from prep.draws import row_keys, stream
from prep.errors import UserError
from prep.store import Store
from prep.text_masks import select


def load_images(
    view: ImageView,
    rows: NDArray[np.int64],
    keys: NDArray[np.uint64] | None,
    how: Augmentation,
    epochs: NDArray[np.int64] | None = None,
) -> torch.Tensor:
    """uint8 [B, 3, R, R]; random boxes when there are keys, central squares when there are none.

    Of a crop bank, whose crops are whole squares already, the crop of each row's epoch.
    """
    stored = view.images(rows, epochs)
    sizes = stored.widths, stored.heights
    boxes = central_boxes(*sizes) if keys is None or view.bank else random_boxes(keys, *sizes, how)
    images = torch.empty((len(rows), 3, view.res, view.res), dtype=torch.uint8)
    shapes = zip(stored.heights.tolist(), stored.widths.tolist(), strict=True)
    for place, (encoded, box, shape) in enumerate(zip(stored.encoded, boxes, shapes, strict=True)):
        try:
            images[place] = cut(decode(encoded, *shape, view.is_raw), box, view.res)
        except ValueError as error:
            raise UserError(
                f"{view.store.folder.url}, {view.res} px, row {rows[place]}",
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
    crops: "online", drawn here from margin copies, or "bank", the store's own, one for each epoch in turn. captions:
    weights of the caption sources, see `TextView`.
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
    crops: str = "online"
    captions: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size % self.world:
            raise UserError(
                "batch_size",
                f"wanted a multiple of the {self.world} ranks, found {self.batch_size}",
                "Change the recipe's batch_size or the number of processes.",
            )

    def _batch(self, images: ImageView, captions: TextView, start: int) -> Batch:
        """The rank's slice of the global batch that begins at position `start`."""
        count = self.batch_size // self.world
        rows, epochs = rows_at(start + self.rank * count, count, len(images), self.seed)
        caption_rows = rows
        if self.shuffle_captions:
            caption_rows = permute(rows, len(images), stream(self.seed, 0, "shuffle_captions"))
        text = captions.rows(caption_rows, row_keys(self.seed, epochs, caption_rows, "caption"))
        tokens = select(
            text.tokens,
            text.priorities,
            text.num_tokens,
            self.budget.text_tokens,
            self.budget.text_mask,
            row_keys(self.seed, epochs, rows, "text"),
        )
        keys = row_keys(self.seed, epochs, rows, "crop")
        pixels = load_images(images, rows, keys, self.augmentation, epochs)
        return Batch(pixels, torch.from_numpy(tokens), torch.from_numpy(rows))

    def __iter__(self) -> Iterator[Batch]:
        views = ImageView(self.store, self.budget.res, self.crops == "bank"), TextView(self.store, self.captions)
        start = self.samples_seen
        if self.threads == 0:
            while True:
                yield self._batch(*views, start)
                start += self.batch_size
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        ahead: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(ahead) <= self.threads:
                    ahead.append(pool.submit(self._batch, *views, start))
                    start += self.batch_size
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
