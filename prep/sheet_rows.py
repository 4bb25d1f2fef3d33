"""What a contact sheet shows of a row of a store: its copies, crops as a loader draws them, its captions' tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from prep.crops import Augmentation, random_boxes
from prep.draws import row_keys, stream, uniforms
from prep.errors import UserError
from prep.kept_words import StoredCaption
from prep.manifest import Column
from prep.row_hash import damaged_rows
from prep.schemas import ROWS_FOLDER, ROWS_PER_BATCH
from prep.store import Store

NUM_CROPS = 3
"""Crops of each copy, of the first epochs."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A stored copy: its view, its pixels; for a margin copy the boxes (left, top, width, height) of the crops that a
    loader draws in epochs 0 to NUM_CROPS - 1, and these crops.
    """

    view: Column
    pixels: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    crops: tuple[Image.Image, ...] = ()


@dataclass(frozen=True, slots=True)
class SheetRow:
    """row: in the store. facts: its row of the column `rows`. copies: margin copies by resolution. bank: stored crops.

    captions: for each caption source its first caption, None where the image has none, and how many there are.
    """

    row: int
    facts: dict[str, Any]
    copies: tuple[Copy, ...]
    bank: tuple[Copy, ...]
    captions: dict[str, tuple[StoredCaption | None, int]]


def choose_rows(num_samples: int, count: int, seed: int) -> list[int]:
    """`count` different rows, or all where there are no more, in order; the same for the same seed."""
    if count >= num_samples:
        return list(range(num_samples))
    key = np.array([stream(seed, 0, "contact sheet")], np.uint64)
    chosen: dict[int, None] = {}
    counter = 0
    while len(chosen) < count:
        draw = uniforms(key, np.array([counter], np.uint64))[0]
        chosen[int(draw * num_samples)] = None
        counter += 1
    return sorted(chosen)


def read_rows(store: Store, rows: list[int], seed: int, tokenizer: str, tagger: str | None) -> Iterator[SheetRow]:
    """The rows, one after the other. seed: of the loader. Raises `UserError` for a damaged row."""
    views = [view for res in store.manifest.resolutions for view in store.manifest.views(res)]
    for row in rows:
        copies = [_copy(store, view, row, seed) for view in views]
        yield SheetRow(
            row,
            _value(store, ROWS_FOLDER, row),
            tuple(copy for copy in copies if "crop" not in copy.view.settings),
            tuple(copy for copy in copies if "crop" in copy.view.settings),
            {source: _caption(store, source, row, tokenizer, tagger) for source in store.manifest.caption_sources},
        )


def _value(store: Store, folder: str, row: int) -> dict[str, Any]:
    """A row of a column, its hash checked before its values are looked at."""
    starts = np.cumsum([0, *(shard.num_samples for shard in store.manifest.shards)])
    place = int(np.searchsorted(starts, row, side="right")) - 1
    number, within = divmod(row - int(starts[place]), ROWS_PER_BATCH)
    path = store.manifest.columns[folder].files[place].path
    problem = "its hash does not fit"
    try:
        with store.folder.open(path) as file:  # of a store elsewhere, only this batch is fetched
            batch = pa.ipc.open_file(file).get_batch(number)
        batch.validate()
        if "hash" not in batch.schema.names or not damaged_rows(batch, [within]):  # version 1 has no hashes
            found: dict[str, Any] = batch.slice(within, 1).to_pylist()[0]
            return found
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = f"wanted a record batch, but {error}"
    place_of = f"{store.folder.url}/{path}, batch {number}, row {within} of the batch"
    raise UserError(place_of, problem, "The file was damaged: prep.verify tells what else was.")


def _copy(store: Store, view: Column, row: int, seed: int) -> Copy:
    value = _value(store, view.folder, row)
    width, height = value["width"], value["height"]
    if view.settings["encoding"] == "raw":
        pixels = np.frombuffer(value["image"], np.uint8).reshape(height, width, 3)
    else:
        pixels = simplejpeg.decode_jpeg(value["image"], colorspace="RGB", strict=True)
    image = Image.fromarray(pixels)
    if "crop" in view.settings:
        return Copy(view, image, (tuple(value["box"]),))
    res = view.settings["res"]
    boxes = _boxes(seed, row, width, height)
    crops = [image.resize((res, res), Image.Resampling.BICUBIC, (x, y, x + w, y + h)) for x, y, w, h in boxes]
    return Copy(view, image, tuple(boxes), tuple(crops))


def _boxes(seed: int, row: int, width: int, height: int) -> list[tuple[int, int, int, int]]:
    epochs = np.arange(NUM_CROPS)
    keys = row_keys(seed, epochs, np.full(NUM_CROPS, row), "crop")
    sizes = np.full(NUM_CROPS, width), np.full(NUM_CROPS, height)
    boxes: NDArray[np.int64] = random_boxes(keys, *sizes, Augmentation())
    return [(left, top, wide, high) for top, left, high, wide in boxes.tolist()]


def _caption(
    store: Store, source: str, row: int, tokenizer: str, tagger: str | None
) -> tuple[StoredCaption | None, int]:
    value = _value(store, f"captions/{source}", row)
    texts = value["captions"] if "captions" in value else [value["caption"]]
    tokens, priorities = store.manifest.tokens(source, tokenizer), store.manifest.priorities(source, tokenizer, tagger)
    if not texts or tokens is None or priorities is None:
        return None, len(texts)
    ids, ranks = _value(store, tokens.folder, row), _value(store, priorities.folder, row)
    is_list = isinstance(ids["num_tokens"], list)  # not in version 1
    first, num_tokens = (ids[name][0] if is_list else ids[name] for name in ("tokens", "num_tokens"))
    rank = ranks["priorities"][0] if is_list else ranks["priorities"]
    return StoredCaption(texts[0], np.array(first, np.uint16), np.array(rank, np.uint8), num_tokens), len(texts)
