"""A store's rows as a loader wants them: the copies of one view or crop bank, and one caption drawn for each image."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.damage import DamagedError, asking
from pipelines.mapped import Addresses, views
from pipelines.mask_columns import marks_of_column, mask_columns
from pipelines.store_columns import ColumnReader, Found, Lists
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
    """Stored copies in the mapped files: where their JPEG or raw bytes begin and how many they are, int64 [B] each;
    widths, heights in pixels, int64 [B]; is_raw, bool [B]. owner: keeps the files mapped.
    """

    addresses: Addresses
    num_bytes: NDArray[np.int64]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    is_raw: NDArray[np.bool_]
    owner: object

    @property
    def encoded(self) -> list[NDArray[np.uint8]]:
        """The bytes of each, not copied."""
        return views(self.addresses, self.num_bytes, self.owner)


@dataclass
class ImageView:
    """The images at one resolution. bank: the stored crops, one for each epoch in turn; else the margin copies.

    encoding: "jpeg" or "raw"; None: what the store has, and raw where it has both. Raises `UserError` when the store
    holds no such view.
    """

    store: Store
    res: int
    bank: bool = False
    encoding: str | None = None
    is_raw: bool = field(init=False)
    _readers: list[ColumnReader] = field(init=False)

    def __post_init__(self) -> None:
        found = [view for view in self.store.manifest.views(self.res) if ("crop" in view.settings) == self.bank]
        found = [view for view in found if self.encoding in (None, view.settings["encoding"])]
        if not found:
            held = ", ".join(view.folder for view in self.store.manifest.of_kind("view")) or "none"
            kind = "a crop bank" if self.bank else "images"
            encoded = f" as {self.encoding}" if self.encoding else ""
            raw = " --encoding raw" if self.encoding == "raw" else ""
            raise UserError(
                self.store.folder.url,
                f"wanted {kind} at {self.res} px{encoded}, but the store holds {held}",
                f"Choose one of these, or add it: prep.build --res {self.res}{' --crops K' if self.bank else ''}{raw}.",
            )
        # Where both are there, raw pixels were added for speed; and they have lost nothing.
        self.is_raw = any(view.settings["encoding"] == "raw" for view in found)
        encoding = "raw" if self.is_raw else "jpeg"
        self._readers = [ColumnReader(self.store, v.folder) for v in found if v.settings["encoding"] == encoding]

    def __len__(self) -> int:
        return self.store.manifest.num_samples

    @property
    def folders(self) -> list[str]:
        """The store's folders that it reads: one, or one for each crop of a bank."""
        return [reader.folder for reader in self._readers]

    def damage(self, row: int, problem: str, epoch: int = 0) -> DamagedError:
        """What to raise for a row whose stored copy does not decode."""
        return self._readers[epoch % len(self._readers)].damage(np.array([row]), problem)

    def images(self, rows: NDArray[np.int64], epochs: NDArray[np.int64] | None = None) -> ImageRows:
        """Where the images of these rows are, in the order asked for. epochs: int64 [B], for a crop bank.

        Raises `pipelines.damage.DamagedError`.
        """
        starts, sizes, widths, heights = (np.empty(len(rows), np.int64) for _ in range(4))
        images = ImageRows(starts, sizes, widths, heights, np.full(len(rows), self.is_raw), self._readers)
        turns = (np.zeros_like(rows) if epochs is None else epochs) % len(self._readers)
        for turn in np.unique(turns).tolist():
            places, reader = np.flatnonzero(turns == turn), self._readers[turn]
            with asking(places, rows[places]):
                found = reader.find(rows[places])
                lists = reader.lists("image", found)
            images.addresses[places], images.num_bytes[places] = lists.starts, lists.counts
            images.widths[places] = reader.values("width", found).view("<u2")[:, 0]
            images.heights[places] = reader.values("height", found).view("<u2")[:, 0]
        return images


@dataclass
class TextView:
    """The captions' token ids and priorities. weights: {caption source: weight}; empty: all sources alike.

    An image's caption is drawn among the sources that have one for it, by weight, and then evenly among its captions
    there; an image whose sources all weigh nothing draws among those that it has. tagger: whose priorities; None: the
    default tagger's. tokenizer, text_mask: of the model and its stage, see `pipelines.mask_columns`. marks: what the
    mask wants to know of each id, uint8 [vocabulary size], or None; vocabulary: the identity of the tokenizer. Raises
    `UserError` for a caption source or columns that the store does not hold.
    """

    store: Store
    weights: Mapping[str, float] = field(default_factory=dict)
    tagger: str | None = None
    tokenizer: str = "clip"
    text_mask: str = "syntax"
    marks: NDArray[np.uint8] | None = field(init=False, default=None)
    vocabulary: Mapping[str, str] = field(init=False, default_factory=dict)
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
            columns = mask_columns(self.store, source, self.text_mask, self.tokenizer, self.tagger)
            self.marks = marks_of_column(columns.tokens, self.text_mask) if self.marks is None else self.marks
            self.vocabulary = columns.tokens.settings["tokenizer"]
            weight = self.weights.get(source, 0.0) if self.weights else 1.0
            tokens, priorities = (ColumnReader(self.store, c.folder) for c in (columns.tokens, columns.priorities))
            self._sources.append((tokens, priorities, weight))

    def __len__(self) -> int:
        return self.store.manifest.num_samples

    def rows(self, rows: NDArray[np.int64], keys: U64 | None = None) -> TextRows:
        """One caption a row. keys: uint64 [B] to draw by; None takes the first caption of the first source with any.

        Raises `pipelines.damage.DamagedError`.
        """
        length = self.store.manifest.context_length
        text = TextRows(
            np.empty((len(rows), length), np.uint16),
            np.empty((len(rows), length), np.uint8),
            np.empty(len(rows), np.uint8),
        )
        with asking(np.arange(len(rows)), rows):
            found = [tokens.find(rows) for tokens, _, _ in self._sources]
            lists = [reader.lists("tokens", at) for (reader, _, _), at in zip(self._sources, found, strict=True)]
            has_none = ~np.any([own.counts > 0 for own in lists], axis=0)
            if has_none.any():
                raise self._sources[0][0].damage(rows[has_none], "none of the caption sources has one for it")
        chosen = self._choose(lists, keys) if len(lists) > 1 else np.zeros(len(rows), np.int64)
        draws = _draws(keys, len(rows), 1)
        for source, (tokens, priorities, _) in enumerate(self._sources):
            mine = np.flatnonzero(chosen == source)
            if not len(mine):
                continue
            counts = lists[source].counts[mine]
            caption = (draws[mine] * counts).astype(np.int64)
            own = Found(rows[mine], found[source].batches[mine], found[source].within[mine])
            with asking(mine, rows[mine]):
                ranked = priorities.find(rows[mine])
            columns = (
                (tokens, "tokens", own, 2 * length),
                (tokens, "num_tokens", own, 1),
                (priorities, "priorities", ranked, length),
            )
            with asking(mine, rows[mine]):
                items = [reader.items(name, at, caption, width) for reader, name, at, width in columns]
            text.tokens[mine], text.num_tokens[mine] = items[0].view("<u2"), items[1][:, 0]
            text.priorities[mine] = items[2]
        return text

    def every(self, rows: NDArray[np.int64]) -> tuple[TextRows, NDArray[np.int64]]:
        """Every caption of the rows, and for each its row's place among them, int64 [C], ascending.

        A row's captions are source by source, in the order of `Manifest.caption_sources`. Raises
        `pipelines.damage.DamagedError`.
        """
        length, parts, owners = self.store.manifest.context_length, [], []
        with asking(np.arange(len(rows)), rows):
            for tokens, priorities, _ in self._sources:
                found, ranked = tokens.find(rows), priorities.find(rows)
                counts = tokens.lists("tokens", found).counts
                owner = np.repeat(np.arange(len(rows)), counts)
                caption = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
                own, rank = (Found(f.rows[owner], f.batches[owner], f.within[owner]) for f in (found, ranked))
                parts.append(
                    TextRows(
                        tokens.items("tokens", own, caption, 2 * length).view("<u2"),
                        priorities.items("priorities", rank, caption, length),
                        tokens.items("num_tokens", own, caption, 1)[:, 0],
                    )
                )
                owners.append(owner)
        whole = np.concatenate(owners)
        bare = np.setdiff1d(np.arange(len(rows)), whole)
        if len(bare):
            raise self._sources[0][0].damage(rows[bare], "none of the caption sources has one for it")
        order = np.argsort(whole, kind="stable")
        joined = (np.concatenate([getattr(part, name) for part in parts])[order] for name in TextRows.__slots__)
        return TextRows(*joined), whole[order]

    def _choose(self, lists: list[Lists], keys: U64 | None) -> NDArray[np.int64]:
        """The place in _sources of each row's source, int64 [B]."""
        has = np.stack([own.counts > 0 for own in lists], axis=1).astype(np.float64)
        if keys is None:
            first: NDArray[np.int64] = has.argmax(axis=1)
            return first
        shares = has * np.array([weight for *_, weight in self._sources])
        shares = np.where(shares.sum(axis=1, keepdims=True) > 0, shares, has)
        edges = np.cumsum(shares, axis=1)
        draws = _draws(keys, len(has), 0)[:, None] * edges[:, -1:]
        chosen: NDArray[np.int64] = (draws >= edges).sum(axis=1)
        return chosen


def _draws(keys: U64 | None, count: int, counter: int) -> NDArray[np.float64]:
    if keys is None:
        return np.zeros(count)
    return uniforms(keys, np.full(count, counter, np.uint64))
