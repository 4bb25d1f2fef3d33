"""A labelled set in a store of `prep.build`: a row's class is what its caption says, and nothing else.

A row's caption must be a class's name or key, spelled as `eval.labelled_classes.spelling` has it. Of several captions
the first that is one counts. Images come from the smallest resolution of the store that is at least the one wanted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from eval.class_names import ClassList
from eval.labelled_classes import labels_by_name, spelling
from eval.labelled_set import Job, LabelledSet, Pixels, digest, stamp
from pipelines.pixels import decode
from pipelines.store_view import ImageView
from prep.errors import UserError
from prep.files import as_json
from prep.store import Store, open_store

_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class _StoreRows:
    store: Store

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        view = _view(self.store, res)
        for start in range(0, len(places), _AT_A_TIME):
            rows = places[start : start + _AT_A_TIME]
            images = view.images(np.array(rows, np.int64))
            for row, *stored in zip(rows, images.encoded, images.heights.tolist(), images.widths.tolist(), strict=True):
                yield partial(_decoded, view, row, *stored)

    def named(self, place: int) -> str:
        return f"{self.store.folder.url}: row {place}"


def _view(store: Store, res: int | None) -> ImageView:
    """The margin copies to make images of `res` px from: those of the next resolution, or of the largest."""
    manifest = store.manifest
    held = [r for r in manifest.resolutions if any("crop" not in view.settings for view in manifest.views(r))]
    fitting = [r for r in held if res is None or r >= res]
    if not fitting:
        problem = f"wanted images of at least {res} px, but the store holds {', '.join(map(str, held)) or 'none'}"
        raise UserError(store.folder.url, problem, f"Add them: prep.build --res {res}.")
    return ImageView(store, fitting[-1] if res is None else fitting[0])


def _decoded(view: ImageView, row: int, encoded: Pixels, height: int, width: int) -> Pixels:
    try:
        return decode(encoded, height, width, view.is_raw)
    except ValueError as error:
        raise view.damage(row, str(error)) from error


def open_labelled_store(path: Path, classes: ClassList | None = None) -> LabelledSet:
    """Read the captions of a store as labels.

    Raises `UserError` when it is no store, is empty, or its captions are too various to be class names.
    """
    store = open_store(path)
    if not store.manifest.num_samples:
        raise UserError(str(path), "wanted a store with samples in it, but it has none", "Build it from other pairs.")
    known = {spelling(name) for name in (*classes.names, *classes.keys)} if classes is not None else set()
    texts = [next((text for text in own if spelling(text) in known), own[0]) for own in _captions(store)]
    found = labels_by_name(path, texts, classes)
    columns = [*store.manifest.of_kind("view"), *store.manifest.of_kind("captions")]
    parts: list[str | bytes] = [store.manifest.fingerprint, as_json([asdict(column) for column in columns])]
    if store.folder.is_local:
        parts += [stamp(store.path / file.path) for column in columns for file in column.files]
    fingerprint = digest([*found.class_names, found.labels, *parts])
    return LabelledSet(path, found.class_names, found.labels, fingerprint, _StoreRows(store), (), found.unmatched)


def _captions(store: Store) -> Iterator[list[str]]:
    """Each row's captions, source by source; every row has one."""
    for shard in store.manifest.shards:
        sources = [store.captions(source, shard.shard) for source in store.manifest.caption_sources]
        for own in zip(*sources, strict=True):
            yield [caption for captions in own for caption in captions]
