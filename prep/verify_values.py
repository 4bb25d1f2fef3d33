"""What the values of a record batch must be like, and what of them must be the same in other columns.

For batches that Arrow finds valid. Format version 1's columns of one caption an image, no lists, are checked alike.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg
import xxhash
from numpy.typing import NDArray

from prep.nltk_tokens import NAME as NLTK_WORDS
from prep.schemas import CONTEXT_LENGTH
from prep.tokenizer import END_OF_TEXT, START_OF_TEXT, Tokenizer
from prep.word_masks import WORD_GOES_ON

Columns = Mapping[str, Mapping[str, Any]]
"""{kind: settings} of the columns in one file."""

Odd = list[tuple[int, str]]
"""Rows of a batch that no build writes, and what is wrong with each."""

BatchDigest = dict[str, int]
"""For each thing that several columns must agree on, a hash of it over the rows of a batch."""

_ENDS, _LAST_CLASS, _PADDING = 0, 4, 255


def shared_by_row(batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """What must be the same in every column that tells it, row by row: "key"; "number of captions"; "number of tokens"
    of each of these, as bytes.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    shared: dict[str, list[Any]] = {"key": columns["key"].to_pylist()}
    texts = [columns[name] for name in ("captions", "tokens", "priorities") if name in columns]
    if texts:
        shared["number of captions"] = _counts(texts[0]).tolist()
    if "num_tokens" in columns:
        shared["number of tokens"] = _split(columns["tokens"], _numbers(_items(columns["num_tokens"])))
    elif "priorities" in columns:
        lengths = (_matrix(columns["priorities"]) != _PADDING).sum(axis=1)
        shared["number of tokens"] = _split(columns["priorities"], lengths.astype(np.uint8))
    return shared


def digest_of(batch: pa.RecordBatch) -> BatchDigest:
    """Hashes of `shared_by_row`."""
    return {name: xxhash.xxh3_64_intdigest(repr(rows).encode()) for name, rows in shared_by_row(batch).items()}


def counts_of(batch: pa.RecordBatch, columns: Columns) -> dict[str, int]:
    """Those of the counts in a column's record that its file alone can tell."""
    counts = Counter[str]()
    if "captions" in columns and "captions" in batch.schema.names:
        marks = _items(batch.column("cut"))
        counts.update(num_captions=len(marks), num_cut=marks.true_count)
    view = columns.get("view", {})
    if "margin" in view:
        sides = np.minimum(_numbers(batch.column("width")), _numbers(batch.column("height")))
        counts.update(num_small=int((sides < np.ceil(view["res"] * view["margin"])).sum()))
    return counts


def odd_values(batch: pa.RecordBatch, columns: Columns) -> Odd:
    """Rows whose values no build writes, in order."""
    names, odd = batch.schema.names, Odd()
    if "captions" in names and "cut" in names:
        texts = batch.column("captions")
        odd += _rows(_counts(texts) != _counts(batch.column("cut")), "as many marks of a cut as captions")
        empty = np.array([not text for text in _items(texts).to_pylist()], np.bool_)
        odd += _rows(_any(texts, empty), "captions that are not empty")
    if "tokens" in names:
        odd += _odd_tokens(batch, columns.get("tokens", {}))
    if "priorities" in names:
        ranks = batch.column("priorities")
        values = _matrix(ranks)
        if columns.get("priorities", {}).get("tokenizer_name") == NLTK_WORDS:  # which also tell where a word goes on
            values = np.where(values == _PADDING, values, values & ~np.uint8(WORD_GOES_ON))
        odd += _rows(_any(ranks, _odd_priorities(values)), "priorities 0, 1 to 4, 0, and padding of 255")
    if "image" in names:
        odd += _odd_copies(batch, columns.get("view", {}))
    if "original_width" in names:
        sides = np.minimum(_numbers(batch.column("original_width")), _numbers(batch.column("original_height")))
        odd += _rows(sides == 0, "an original of at least one pixel")
    return sorted(odd)


def odd_images(batch: pa.RecordBatch, columns: Columns) -> Odd:
    """Rows whose JPEG a strict decoder refuses, or finds of another size. Raw pixels need no decoding."""
    if "image" not in batch.schema.names or columns.get("view", {}).get("encoding") == "raw":
        return []
    odd = Odd()
    sizes = zip(batch.column("height").to_pylist(), batch.column("width").to_pylist(), strict=True)
    for row, (image, size) in enumerate(zip(batch.column("image"), sizes, strict=True)):
        try:
            found = simplejpeg.decode_jpeg(image.as_py(), colorspace="RGB", strict=True).shape[:2]
        except ValueError as error:
            odd.append((row, f"wanted a whole JPEG, but {error}"))
            continue
        if found != size:
            odd.append((row, f"wanted an image of {size[1]} x {size[0]} pixels, found {found[1]} x {found[0]}"))
    return odd


def _odd_tokens(batch: pa.RecordBatch, settings: Mapping[str, Any]) -> Odd:
    column = batch.column("tokens")
    tokens, lengths = _matrix(column), _numbers(_items(batch.column("num_tokens"))).astype(np.int64)
    apart = _counts(column) != _counts(batch.column("num_tokens"))
    if apart.any():
        return _rows(apart, "as many numbers of tokens as captions")
    if not len(tokens):
        return []
    possible = (lengths >= 2) & (lengths <= CONTEXT_LENGTH)
    last = np.where(possible, lengths, 2) - 1
    lasts = tokens[np.arange(len(tokens)), last]
    is_clip = settings.get("tokenizer", {}).get("name", Tokenizer.name) == Tokenizer.name
    start, end = (START_OF_TEXT, END_OF_TEXT) if is_clip else (tokens[0, 0], lasts[0])
    padded = (np.arange(CONTEXT_LENGTH) <= last[:, None]) | (tokens == 0)
    fine = possible & (tokens[:, 0] == start) & (lasts == end) & padded.all(axis=1)
    if is_clip:
        fine &= tokens.max(axis=1) <= END_OF_TEXT
    return _rows(_any(column, ~fine), "start of text, ids, end of text, and padding of 0, of the number of tokens")


def _odd_priorities(ranks: NDArray[Any]) -> NDArray[np.bool_]:
    place, last = np.arange(ranks.shape[1]), (ranks != _PADDING).sum(axis=1, keepdims=True) - 1
    is_end = (place == 0) | (place == last)
    inside = (ranks > _ENDS) & (ranks <= _LAST_CLASS) & ~is_end
    fine = np.where(place > last, ranks == _PADDING, inside | (is_end & (ranks == _ENDS)))
    odd: NDArray[np.bool_] = ~fine.all(axis=1) | (last[:, 0] < 1)
    return odd


def _odd_copies(batch: pa.RecordBatch, view: Mapping[str, Any]) -> Odd:
    widths, heights = (_numbers(batch.column(name)).astype(np.int64) for name in ("width", "height"))
    odd = _rows((widths == 0) | (heights == 0), "a copy of at least one pixel")
    images = [image.as_buffer() for image in batch.column("image")]
    sizes = np.array([image.size for image in images], np.int64)
    if view.get("encoding") == "raw":
        odd += _rows(sizes != widths * heights * 3, "width x height x 3 bytes of pixels")
    else:
        odd += _rows(np.array([bytes(image[:3]) != b"\xff\xd8\xff" for image in images], np.bool_), "a JPEG")
    if "crop" in view:
        res = view.get("res")
        odd += _rows((widths != res) | (heights != res), f"a crop of {res} x {res} pixels")
        odd += _rows((_matrix(batch.column("box"))[:, 2:] == 0).any(axis=1), "a box of at least one pixel")
    return odd


def _rows(odd: NDArray[np.bool_], wanted: str) -> Odd:
    return [(row, f"wanted {wanted}, found otherwise") for row in np.flatnonzero(odd).tolist()]


def _counts(column: pa.Array) -> NDArray[np.int64]:
    """The number of items in each row, int64 [N]."""
    if pa.types.is_list(column.type):
        offsets: NDArray[np.int64] = _numbers(column.offsets).astype(np.int64)
        return offsets[1:] - offsets[:-1]
    return np.ones(len(column), np.int64)


def _items(column: pa.Array) -> pa.Array:
    return column.values if pa.types.is_list(column.type) else column


def _numbers(column: pa.Array) -> NDArray[Any]:
    """Integers as they lie in memory; Arrow's own `to_numpy` imports pandas, which takes seconds."""
    data = column.buffers()[1]
    kind = np.dtype(str(column.type))
    return np.zeros(0, kind) if data is None else np.frombuffer(data, kind)[column.offset :][: len(column)]


def _matrix(column: pa.Array) -> NDArray[Any]:
    """Fixed-size lists, one a row or several, as [M, size]."""
    items = _items(column)
    return _numbers(items.values).reshape(-1, items.type.list_size)


def _any(column: pa.Array, odd: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each row, whether one of its items is odd. odd: bool [M]."""
    rows = np.repeat(np.arange(len(column)), _counts(column))
    return np.bincount(rows, odd, len(column)) > 0


def _split(column: pa.Array, numbers: NDArray[np.uint8]) -> list[bytes]:
    """One number an item, as bytes for each row."""
    ends, data = np.cumsum(_counts(column)).tolist(), numbers.tobytes()
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
