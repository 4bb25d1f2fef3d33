"""One of our stores as a retrieval set: its token ids, reduced by the budget's own text mask, and its stored copies.

A damaged row is an error that names it, not an unreadable image: a test set that is not what was written is no test.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from eval.captioned_set import CaptionedBatch, ModelInput
from eval.labelled_set import Pixels, Unreadable, digest, stamp
from pipelines.contract import TokenBudget
from pipelines.evaluation import PlainImages, PlainTexts, row_batches
from pipelines.pixels import decode
from pipelines.store_view import ImageView
from prep.errors import UserError
from prep.files import as_json
from prep.store import Store, open_store


@dataclass(frozen=True, slots=True)
class CaptionedStore:
    """See `CaptionedSet`. which: of `eval.captioned_set.CAPTIONS`; of all, source by source."""

    store: Store
    which: str = "all"

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.store.path

    @property
    def num_images(self) -> int:
        """Its samples: each has a caption."""
        return self.store.manifest.num_samples

    @property
    def num_captions(self) -> int:
        """Its captions."""
        captions = [
            column.counts.get("num_captions", self.num_images) for column in self.store.manifest.of_kind("captions")
        ]
        return sum(captions) if self.which == "all" else self.num_images

    @property
    def num_empty(self) -> int:
        """None: `prep.build` left them out."""
        return 0

    @property
    def faults(self) -> tuple[Unreadable, ...]:
        """None: `prep.build` left them out."""
        return ()

    @property
    def content(self) -> str:
        """A hash of its captions, tokens, priorities and views, as its manifest has them: a copy has the same."""
        columns = (column for column in self.store.manifest.columns.values() if column.kind != "rows")
        return digest(["store", self.which, *(file.path + file.xxh3 for column in columns for file in column.files)])

    @property
    def fingerprint(self) -> str:
        """Of its content, what the manifest says of it, and when its files were last written, where they are local."""
        columns = [column for column in self.store.manifest.columns.values() if column.kind != "rows"]
        told = as_json([asdict(column) for column in columns])
        parts: list[str | bytes] = [self.content, self.store.manifest.fingerprint, told]
        if self.store.folder.is_local:
            parts += [stamp(self.path / file.path) for column in columns for file in column.files]
        return digest(parts)

    def text_mask(self, budget: TokenBudget) -> str:
        """The budget's own."""
        return budget.text_mask

    def preprocess(self, kind: str) -> str:
        """Always `centre`: its copies are cut so."""
        return "centre"

    def read(self, seen: ModelInput, batch_size: int) -> Iterator[CaptionedBatch]:
        """Every row with its captions, short side resized and centre cropped.

        Raises `UserError` when the store lacks the budget's res or what its text mask reads; `DamagedError`.
        """
        images = PlainImages(self.store, seen.budget.res)
        texts = PlainTexts(self.store, seen.budget, seen.end_token, seen.tokenizer)
        for rows in row_batches(0, self.num_images, batch_size):
            found = texts.every(rows) if self.which == "all" else texts.first(rows)
            index = torch.from_numpy(rows)
            yield CaptionedBatch(images.take(rows), index, found.tokens, found.owners, found.num_reduced)

    def captions(self, index: int) -> tuple[str, ...]:
        """One row's clean captions."""
        starts = np.cumsum([0, *(shard.num_samples for shard in self.store.manifest.shards)])
        place = int(np.searchsorted(starts, index, side="right")) - 1
        found = [
            caption
            for source in self.store.manifest.caption_sources
            for caption in self.store.captions(source, self.store.manifest.shards[place].shard)[index - starts[place]]
        ]
        return tuple(found if self.which == "all" else found[:1])

    def pixels(self, places: Sequence[int]) -> list[Pixels]:
        """Some rows' pixels, uint8 [H, W, 3] each, in the largest resolution of the store."""
        view = ImageView(self.store, max(self.store.manifest.resolutions))
        images = view.images(np.array(places, np.int64))
        shapes = zip(images.encoded, images.heights.tolist(), images.widths.tolist(), strict=True)
        return [decode(*image, view.is_raw) for image in shapes]


def open_captioned_store(path: Path, which: str = "all") -> CaptionedStore:
    """Raises `UserError` when it is no store, or an empty one."""
    opened = CaptionedStore(open_store(path), which)
    if not opened.num_images:
        raise UserError(str(path), "wanted a store with samples in it, but it has none", "Build it from other pairs.")
    return opened
