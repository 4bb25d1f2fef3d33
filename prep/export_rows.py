"""What an export reads: the columns that were asked for, side by side, every row's hash checked on the way.

An image may have several captions, or none from some source; a `.beton` and a tar's `.txt` hold one.
`Selection.caption` numbers it from 0: an image with fewer gives another of its own (the number modulo their count), and
one with none gives none, its tokens all padding. `Tally` counts both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prep.errors import UserError
from prep.manifest import Column, Manifest
from prep.row_hash import damaged_rows
from prep.schemas import CONTEXT_LENGTH
from prep.store import Store

_PADDING = {"tokens": 0, "priorities": 255}
"""What stands where there is no token. Id 0 is a token of CLIP's, too: a caption's end shows by its priorities."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export: a view, and of each image the caption of that number from one source."""

    view: Column
    source: str
    caption: int
    tokens: Column
    priorities: Column


@dataclass(slots=True)
class Tally:
    """Of the rows exported so far: how many had fewer captions than asked for, and how many none."""

    num_rows: int = 0
    num_fewer: int = 0
    num_without: int = 0

    def add(self, num_captions: int, caption: int) -> None:
        """Count a row with so many captions."""
        self.num_rows += 1
        self.num_fewer += 0 < num_captions <= caption
        self.num_without += num_captions == 0


def choose(
    store: Store,
    res: int | None,
    view: str | None,
    source: str | None,
    caption: int = 0,
    tokenizer: str = "clip",
    tagger: str | None = None,
) -> Selection:
    """Find the columns of an export. view: a folder of the store; else the only view at `res`, or of the store.

    source: of captions; else the only one, or "original". Raises `UserError` when the store lacks one of them, or
    holds several that fit.
    """
    manifest, place = store.manifest, store.folder.url
    found = _source(manifest, place, source)
    tokens = manifest.tokens(found, tokenizer)
    if tokens is None:
        raise _missing(place, f"the tokens of {found!r} captions by {tokenizer!r}", _names(manifest, "tokens"))
    priorities = manifest.priorities(found, tokenizer, tagger)
    if priorities is None:
        wanted = f"the priorities of {found!r} captions" + (f" by {tagger!r}" if tagger else "")
        raise _missing(place, wanted, _names(manifest, "priorities"))
    return Selection(_view(manifest, place, res, view), found, caption, tokens, priorities)


def _view(manifest: Manifest, place: str, res: int | None, folder: str | None) -> Column:
    views = manifest.of_kind("view") if res is None else manifest.views(res)
    if folder is not None:
        views = [column for column in views if column.folder == folder]
    if not views:
        wanted = f"the view {folder!r}" if folder is not None else f"a view at {res} px"
        raise _missing(place, wanted, _names(manifest, "view"))
    if len(views) > 1:
        which = ", ".join(column.folder for column in views)
        raise UserError(place, f"there are several views that fit: {which}", "Name one of them with --view.")
    return views[0]


def _source(manifest: Manifest, place: str, source: str | None) -> str:
    sources = manifest.caption_sources
    if source is None and len(sources) > 1 and "original" not in sources:
        raise UserError(place, f"there are several caption sources: {', '.join(sources)}", "Name one with --captions.")
    if source is None and sources:
        source = sources[0] if len(sources) == 1 else "original"
    if source is None or source not in sources:
        raise _missing(place, f"captions from {source!r}" if source else "captions", ", ".join(sources))
    return source


def _names(manifest: Manifest, kind: str) -> str:
    return ", ".join(column.folder for column in manifest.of_kind(kind))


def _missing(place: str, wanted: str, there: str) -> UserError:
    return UserError(
        place, f"wanted {wanted}, but the store has {there or 'none'}", "Add it with prep.build, or name another."
    )


def read_batches(store: Store, folders: Sequence[str], start: int = 0) -> Iterator[tuple[int, list[pa.RecordBatch]]]:
    """(number of the first row, one record batch of each column) in the order of rows, from the batch that holds row
    `start`. Raises `UserError` for a row whose hash is not that of its values, or whose key differs between columns.
    """
    columns = [store.manifest.columns[folder] for folder in folders]
    row = 0
    for place, shard in enumerate(store.manifest.shards):
        if row + shard.num_samples <= start:
            row += shard.num_samples
            continue
        paths = [f"{store.folder.url}/{column.files[place].path}" for column in columns]
        readers = [store.open_shard(folder, shard.shard) for folder in folders]
        for number in range(readers[0].num_record_batches):
            batches = [_batch(reader, number, path) for reader, path in zip(readers, paths, strict=True)]
            num_rows = len(batches[0])
            if row + num_rows > start:
                for batch, path in zip(batches, paths, strict=True):
                    _check(batch, batches[0].column("key"), f"{path}, batch {number}")
                yield row, batches
            row += num_rows


_DAMAGED = "The file was damaged after it was built. Delete it and run the same prep.build command again."


def _batch(reader: pa.ipc.RecordBatchFileReader, number: int, path: str) -> pa.RecordBatch:
    try:
        return reader.get_batch(number)
    except (ValueError, OSError) as error:
        raise UserError(path, f"wanted record batch {number}, but {error}", _DAMAGED) from error


def _check(batch: pa.RecordBatch, keys: pa.Array, place: str) -> None:
    """The hashes first: damaged offsets crash whatever else looks at them."""
    if "hash" in batch.schema.names:  # not in format version 1
        wrong = damaged_rows(batch, range(len(batch)))
        if wrong:
            problem = "wanted the bytes that were written, found others: the hash does not fit"
            raise UserError(f"{place}, row {wrong[0]} of the batch", problem, _DAMAGED)
    if not batch.column("key").equals(keys):
        raise UserError(place, "wanted the same keys as in the other columns, found others", _DAMAGED)


def _places(column: pa.Array) -> NDArray[np.int64]:
    """int64 [N + 1]: the captions of row i are those from places[i] up to places[i + 1]."""
    if not pa.types.is_list(column.type):  # format version 1: one caption an image
        return np.arange(len(column) + 1)
    offsets: NDArray[np.int64] = column.offsets.to_numpy().astype(np.int64)
    return offsets


def _items(column: pa.Array) -> pa.Array:
    return column.values if pa.types.is_list(column.type) else column


def _token_rows(texts: pa.RecordBatch, name: str) -> NDArray[Any]:
    """[M, 77]: "tokens" (uint16) or "priorities" (uint8) of all captions."""
    rows: NDArray[Any] = _items(texts.column(name)).values.to_numpy()
    return rows.reshape(-1, CONTEXT_LENGTH)


def num_captions(texts: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    """int64 [N]: how many captions each row has, by its "tokens" or "priorities"."""
    return np.diff(_places(texts.column(name)))


def one_each(texts: pa.RecordBatch, name: str, caption: int) -> NDArray[Any]:
    """[N, 77]: of each row the "tokens" or "priorities" of the caption of that number; padding where there is none."""
    places, items = _places(texts.column(name)), _token_rows(texts, name)
    counts = np.diff(places)
    chosen = np.full((len(counts), CONTEXT_LENGTH), _PADDING[name], items.dtype)
    some = counts > 0
    chosen[some] = items[places[:-1][some] + caption % counts[some]]
    return chosen


def lists(texts: pa.RecordBatch, name: str) -> list[list[Any]]:
    """Of each row its "captions", or the "tokens" or "priorities" of each of them without the padding."""
    if name == "captions":
        if "caption" in texts.schema.names:  # format version 1
            return [[caption] for caption in texts.column("caption").to_pylist()]
        found: list[list[Any]] = texts.column(name).to_pylist()
        return found
    places, items = _places(texts.column(name)).tolist(), _token_rows(texts, name)
    if name == "tokens":
        lengths = _items(texts.column("num_tokens")).to_numpy()
    else:
        lengths = (items != _PADDING[name]).sum(axis=1)
    trimmed = [row[:length] for row, length in zip(items.tolist(), lengths.tolist(), strict=True)]
    return [trimmed[start:end] for start, end in pairwise(places)]
