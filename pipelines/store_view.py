"""A store's rows as a loader wants them: the copies of one view or crop bank, and one caption drawn for each image."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.store_columns import ColumnReader, TouchedBatch
from prep.draws import U64, uniforms
from prep.errors import UserError
from prep.store import Store


@dataclass(frozen=True, slots=True)
class TextRows:
    """tokens uint16 [B, L], priorities uint8 [B, L], num_tokens uint8 [B]."""

    tokens: NDArray[np.uint16]
    priorities: NDArray[np.uint8]
    num_tokens: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ImageRows:
    """encoded: B views of JPEG or raw bytes in the mapped file. widths, heights: int64 [B], of the stored copies."""

    encoded: list[NDArray[np.uint8]]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]


@dataclass
class ImageView:
    """The images at one resolution. bank: the stored crops, one for each epoch in turn; else the margin copies.

    Raises `UserError` when the store holds no such view.
    """

    store: Store
    res: int
    bank: bool = False
    is_raw: bool = field(init=False)
    _readers: list[ColumnReader] = field(init=False)

    def __post_init__(self) -> None:
        views = [view for view in self.store.manifest.views(self.res) if ("crop" in view.settings) == self.bank]
        if not views:
            held = ", ".join(view.folder for view in self.store.manifest.of_kind("view")) or "none"
            kind = "a crop bank" if self.bank else "images"
            raise UserError(
                self.store.folder.url,
                f"wanted {kind} at {self.res} px, but the store holds {held}",
                f"Choose one of these, or add it: prep.build --res {self.res}{' --crops K' if self.bank else ''}.",
            )
        # Where both are there, raw pixels were added for speed; and they have lost nothing.
        self.is_raw = any(view.settings["encoding"] == "raw" for view in views)
        encoding = "raw" if self.is_raw else "jpeg"
        self._readers = [ColumnReader(self.store, v.folder) for v in views if v.settings["encoding"] == encoding]

    def __len__(self) -> int:
        return self.store.manifest.num_samples

    def images(self, rows: NDArray[np.int64], epochs: NDArray[np.int64] | None = None) -> ImageRows:
        """Encoded images of rows and their sizes, in the order asked for. epochs: int64 [B], for a crop bank."""
        encoded: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(rows)
        widths, heights = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        turns = (np.zeros_like(rows) if epochs is None else epochs) % len(self._readers)
        for turn in np.unique(turns).tolist():
            chosen = np.flatnonzero(turns == turn)
            for batch, within, found in self._readers[turn].groups(rows[chosen]):
                places = chosen[found]
                widths[places], heights[places] = batch.array("width")[within], batch.array("height")[within]
                images = batch.ragged("image")
                starts, ends = images.offsets[within], images.offsets[within + 1]
                for place, start, end in zip(places.tolist(), starts.tolist(), ends.tolist(), strict=True):
                    encoded[place] = images.values[start:end]
        return ImageRows(encoded, widths, heights)


@dataclass
class TextView:
    """The captions' token ids and priorities. weights: {caption source: weight}; empty: all sources alike.

    An image's caption is drawn among the sources that have one for it, by weight, and then evenly among its captions
    there; an image whose sources all weigh nothing draws among those that it has. tagger: whose priorities; None: the
    default tagger's. Raises `UserError` for a caption source or a tagger that the store does not hold.
    """

    store: Store
    weights: Mapping[str, float] = field(default_factory=dict)
    tagger: str | None = None
    _sources: list[tuple[ColumnReader, ColumnReader, float]] = field(init=False)

    def __post_init__(self) -> None:
        manifest = self.store.manifest
        for name, weight in self.weights.items():
            if name not in manifest.caption_sources or weight < 0:
                held = ", ".join(manifest.caption_sources)
                problem = f"wanted caption sources among {held}, with weights of at least 0, found {name}: {weight}"
                raise UserError("captions", problem, "Change the recipe's captions.")
        self._sources = []
        for source in manifest.caption_sources:
            tokens, priorities = manifest.tokens(source), manifest.priorities(source, tagger=self.tagger)
            if tokens is None or priorities is None:
                raise UserError(
                    self.store.folder.url,
                    f"wanted token ids and priorities of the captions {source}, by {self.tagger or 'any tagger'}",
                    "Add them: prep.build with --captions, --tokenizer and --tagger.",
                )
            weight = self.weights.get(source, 0.0) if self.weights else 1.0
            readers = ColumnReader(self.store, tokens.folder), ColumnReader(self.store, priorities.folder)
            self._sources.append((*readers, weight))

    def __len__(self) -> int:
        return self.store.manifest.num_samples

    def rows(self, rows: NDArray[np.int64], keys: U64 | None = None) -> TextRows:
        """One caption a row. keys: uint64 [B] to draw by; None takes the first caption of the first source with any."""
        length = self.store.manifest.context_length
        text = TextRows(
            np.empty((len(rows), length), np.uint16),
            np.empty((len(rows), length), np.uint8),
            np.empty(len(rows), np.uint8),
        )
        if len(self._sources) == 1:
            chosen, draws = np.zeros(len(rows), np.int64), _draws(keys, len(rows), 1)
        else:
            chosen, draws = self._choose(rows, keys), _draws(keys, len(rows), 1)
        for source, (tokens, priorities, _) in enumerate(self._sources):
            mine = np.flatnonzero(chosen == source)
            pairs = zip(tokens.groups(rows[mine]), priorities.groups(rows[mine]), strict=True)
            for (batch, within, found), (ranked, _, _) in pairs:
                _fill(text, batch, ranked, within, mine[found], draws)
        return text

    def _choose(self, rows: NDArray[np.int64], keys: U64 | None) -> NDArray[np.int64]:
        """The place in _sources of each row's source, int64 [B]."""
        has = np.zeros((len(rows), len(self._sources)), np.float64)
        for source, (tokens, _, _) in enumerate(self._sources):
            for batch, within, places in tokens.groups(rows):
                offsets = batch.ragged("tokens").offsets
                has[places, source] = offsets[within + 1] > offsets[within]
        if keys is None:
            first: NDArray[np.int64] = has.argmax(axis=1)
            return first
        shares = has * np.array([weight for *_, weight in self._sources])
        shares = np.where(shares.sum(axis=1, keepdims=True) > 0, shares, has)
        edges = np.cumsum(shares, axis=1)
        draws = _draws(keys, len(rows), 0)[:, None] * edges[:, -1:]
        chosen: NDArray[np.int64] = (draws >= edges).sum(axis=1)
        return chosen


def _draws(keys: U64 | None, count: int, counter: int) -> NDArray[np.float64]:
    if keys is None:
        return np.zeros(count)
    return uniforms(keys, np.full(count, counter, np.uint64))


def _fill(
    text: TextRows,
    batch: TouchedBatch,
    ranked: TouchedBatch,
    within: NDArray[np.int64],
    places: NDArray[np.int64],
    draws: NDArray[np.float64],
) -> None:
    tokens = batch.ragged("tokens")
    starts = tokens.offsets[within]
    caption = starts + (draws[places] * (tokens.offsets[within + 1] - starts)).astype(np.int64)
    text.tokens[places] = tokens.values[caption]
    text.num_tokens[places] = batch.ragged("num_tokens").values[caption]
    text.priorities[places] = ranked.ragged("priorities").values[caption]
