"""What a rank is to see of a global batch, decided before any pixel: rows, tokens, crop boxes and jitter.

A pure function of (draws, position), which every loader shares: that is why they agree.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Draws
from pipelines.damage import DamagedError
from pipelines.jitter import draw_jitter
from pipelines.mapped import Addresses, views
from pipelines.mixture import Mixture
from pipelines.order import permute
from pipelines.pixels import central_boxes
from pipelines.store_view import ImageView, TextView
from prep.crops import random_boxes
from prep.draws import row_keys, stream
from prep.errors import UserError
from prep.text_masks import select

T = TypeVar("T")
_MAX_TRIES = 1000  # what has lost so much is no store to train on


@dataclass(frozen=True, slots=True)
class Drawn:
    """A rank's slice of a global batch, without pixels. B rows each.

    index int64. epochs int64, each in its own store. tokens int64 [B, T]. addresses, num_bytes: the stored bytes of the
    images, in mapped files. widths, heights int64, of the stored copies, in pixels. is_raw bool. boxes int64 [B, 4]:
    (top, left, height, width) in the stored copy. jitter float32 [B, 7] or None. owner: keeps the files mapped.
    num_replaced: samples in place of damaged ones.
    """

    index: NDArray[np.int64]
    epochs: NDArray[np.int64]
    tokens: NDArray[np.int64]
    addresses: Addresses
    num_bytes: NDArray[np.int64]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    is_raw: NDArray[np.bool_]
    boxes: NDArray[np.int64]
    jitter: NDArray[np.float32] | None
    owner: object
    num_replaced: int = 0

    def part(self, rows: slice, num_replaced: int) -> "Drawn":
        """Some of its rows, not copied."""
        arrays = (field.name for field in fields(self) if field.name not in ("jitter", "owner", "num_replaced"))
        jitter = None if self.jitter is None else self.jitter[rows]
        parts = {name: getattr(self, name)[rows] for name in arrays}
        return Drawn(**parts, jitter=jitter, owner=self.owner, num_replaced=num_replaced)

    def encoded(self, rows: slice = slice(None)) -> list[NDArray[np.uint8]]:
        """The stored bytes of these images, not copied."""
        return views(self.addresses[rows], self.num_bytes[rows], self.owner)


class _DamagedPlacesError(Exception):
    """A `DamagedError` of one store, with the places of its rows in the batch."""

    def __init__(self, error: DamagedError, places: NDArray[np.int64]) -> None:
        super().__init__(str(error))
        self.error, self.places = error, places


class Drawer:
    """Draws any global batch of a run; threads may share it.

    With `replace_damaged` a sample of which anything is damaged that it would show in its epoch, image or caption, is
    replaced by that of another row, drawn for it: a pure function of the store, like all else.

    Raises `UserError` for a store that lacks a view, a caption source or what the text mask reads, and for stores whose
    ids are of different vocabularies.
    """

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        bank = draws.crops == "bank"
        self.images = [ImageView(store, draws.budget.res, bank, draws.encoding) for store in draws.stores]
        mask = draws.budget.text_mask
        self.texts = [TextView(s, draws.captions, tokenizer=draws.tokenizer, text_mask=mask) for s in draws.stores]
        for store, text in zip(draws.stores, self.texts, strict=True):
            if text.vocabulary != self.texts[0].vocabulary:
                problem = f"its token ids are of {text.vocabulary}, those of the first store {self.texts[0].vocabulary}"
                raise UserError(store.folder.url, problem, "Mix stores of one tokenizer.")
        self.mixture = Mixture(tuple(map(len, self.images)), draws.weights, draws.seed, draws.window)
        self._damaged: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def __call__(self, start: int) -> Drawn:
        """This rank's slice of the global batch that begins at position `start`. Raises `DamagedError`."""
        return self.several(start, 1)[0]

    def several(self, start: int, num: int) -> list[Drawn]:
        """The same of `num` global batches that follow each other, at once: numpy's calls cost what 1,000 rows cost.

        Raises `DamagedError` for damage in any of them.
        """
        draws, count = self.draws, self.draws.local_batch_size
        firsts = start + draws.rank * count + draws.batch_size * np.arange(num, dtype=np.int64)
        asked, epochs = self.mixture.of((firsts[:, None] + np.arange(count)).ravel())
        while True:
            rows = self._replaced(asked, epochs)
            try:
                whole = self._drawn(rows, epochs)
                break
            except _DamagedPlacesError as damage:
                if not draws.replace_damaged:
                    raise damage.error from None
                self._mark(rows[damage.places], epochs[damage.places])
        parts = [slice(first, first + count) for first in range(0, len(rows), count)]
        return [whole.part(part, int((rows[part] != asked[part]).sum())) for part in parts]

    def _mark(self, rows: NDArray[np.int64], epochs: NDArray[np.int64]) -> None:
        assert len(rows), "damage that no row was found for"
        with self._lock:
            self._damaged.update(zip(rows.tolist(), epochs.tolist(), strict=True))

    def undecodable(self, drawn: Drawn, place: int, problem: str) -> None:
        """A copy at this place does not decode: pass it over from now on, or raise `DamagedError`."""
        row, epoch = int(drawn.index[place]), int(drawn.epochs[place])
        if not self.draws.replace_damaged:
            store, _, (own,) = self.mixture.split(np.array([row]))[0]
            raise self.images[store].damage(int(own), problem, epoch)
        self._mark(drawn.index[place : place + 1], drawn.epochs[place : place + 1])

    def _replaced(self, asked: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows asked for; in place of a sample known to be damaged, the first that is not of those drawn for it."""
        if not self._damaged:
            return asked
        rows, known = asked.copy(), {row for row, _ in self._damaged}
        for place in np.flatnonzero(np.isin(asked, list(known))).tolist():
            store, _, own = self.mixture.split(asked[place : place + 1])[0]
            tries = 0
            while (int(rows[place]), int(epochs[place])) in self._damaged:
                tries += 1
                if tries > _MAX_TRIES:
                    raise UserError(
                        self.draws.stores[store].folder.url,
                        f"wanted a whole row to replace row {own[0]} with, found none in {_MAX_TRIES:,} tries",
                        "Build the store again; prep.verify tells what is left of it.",
                    )
                key = stream(self.draws.seed, tries, "replacement")
                rows[place] = permute(own, self.mixture.sizes[store], key)[0] + self.mixture.start_of(store)
        return rows

    def _drawn(self, rows: NDArray[np.int64], epochs: NDArray[np.int64]) -> Drawn:
        draws = self.draws
        captions = self._caption_rows(rows)
        keys = row_keys(draws.seed, epochs, captions, "caption")
        text = self._joined(captions, lambda store, own, at: self.texts[store].rows(own, keys[at]))
        tokens = select(
            text.tokens,
            text.priorities,
            text.num_tokens,
            draws.budget.text_tokens,
            draws.budget.text_mask,
            row_keys(draws.seed, epochs, rows, "text"),
            draws.end_token,
            self.texts[0].marks,
        )
        images = self._joined(rows, lambda store, own, at: self.images[store].images(own, epochs[at]))
        sizes = images.widths, images.heights
        if draws.crops == "bank":
            boxes = central_boxes(*sizes)
        else:
            boxes = random_boxes(row_keys(draws.seed, epochs, rows, "crop"), *sizes, draws.augmentation)
        jitter = None
        if draws.jitter is not None:
            jitter = draw_jitter(row_keys(draws.seed, epochs, rows, "jitter"), draws.jitter)
        stored = (images.addresses, images.num_bytes, images.widths, images.heights, images.is_raw)
        return Drawn(rows, epochs, tokens, *stored, boxes, jitter, self.images)

    def _caption_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.draws.shuffle_captions:
            return rows
        captions, key = rows.copy(), stream(self.draws.seed, 0, "shuffle_captions")
        for store, places, own in self.mixture.split(rows):
            captions[places] += permute(own, self.mixture.sizes[store], key) - own
        return captions

    def _joined(self, rows: NDArray[np.int64], read: Callable[[int, NDArray[np.int64], NDArray[np.int64]], T]) -> T:
        """What read(store, its rows, their places) gives for each store that is touched, as arrays in one order."""
        parts = self.mixture.split(rows)
        found = []
        for store, places, own in parts:
            try:
                found.append(read(store, own, places))
            except DamagedError as error:
                raise _DamagedPlacesError(error, places[error.places]) from error
        if len(found) == 1:
            return found[0]
        order = np.argsort(np.concatenate([places for _, places, _ in parts]))
        columns = {
            field.name: np.concatenate([getattr(part, field.name) for part in found])[order]
            for field in fields(found[0])  # type: ignore[arg-type]
            if field.name != "owner"
        }
        return replace(found[0], **columns)  # type: ignore[type-var]
