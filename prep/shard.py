"""One shard: a pure function of (plan, shard number) from one tar to its files in the store, and their record.

Pairs stream through: at most ROWS_PER_BATCH prepared samples are held at a time, whatever the size of the tar.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prep import captions, images
from prep.errors import UserError
from prep.files import hash_file, read_json, write_json, written_aside
from prep.pairs import Pair, Reject
from prep.plan import Options
from prep.sources import read_tar
from prep.store import (
    IMAGE_SCHEMA,
    REJECT_SCHEMA,
    ROWS_PER_BATCH,
    TEXT_SCHEMA,
    FileRecord,
    ShardRecord,
    shard_file,
)
from prep.tagger import Tagger
from prep.text_columns import annotate
from prep.tokenizer import Tokenizer
from prep.workers import Report


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One copy of an image: JPEG bytes and its size in pixels."""

    encoded: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A prepared pair, text columns apart: those are made for a whole batch at once."""

    key: str
    stored: dict[int, StoredImage]
    caption: captions.Caption
    source: str
    original_format: str
    original_width: int
    original_height: int


def stored_side(res: int, margin: float) -> int:
    """Short side in pixels of the stored copy: a square crop of 1 / margin^2 of its area still has res x res pixels."""
    return math.ceil(res * margin)


def prepare(pair: Pair, options: Options) -> Sample | Reject:
    """Decode once, resize and encode for each resolution, clean the caption; or say why not."""
    try:
        caption = captions.decode(pair.captions[0])
        decoded = images.decode(pair.image, options.limits)
    except (captions.CaptionError, images.ImageError) as error:
        return Reject(pair.key, error.reason, error.detail, pair.source)
    stored = {}
    for res in options.resolutions:
        pixels = images.resize(decoded.pixels, stored_side(res, options.margin))
        height, width = pixels.shape[:2]
        stored[res] = StoredImage(images.encode(pixels, options.quality), width, height)
    return Sample(pair.key, stored, caption, pair.source, decoded.format, decoded.width, decoded.height)


@dataclass
class _Counts:
    """What a shard's record counts, gathered while it streams."""

    num_read: int = 0
    num_samples: int = 0
    num_captions_truncated: int = 0
    num_small: Counter[str] = field(default_factory=Counter)


def _samples(
    source: Path, options: Options, counts: _Counts, rejects: list[Reject], report: Report
) -> Iterator[Sample]:
    unreported = source.stat().st_size
    for pair in read_tar(source, options.limits.max_bytes):
        counts.num_read += 1
        result = prepare(pair, options) if isinstance(pair, Pair) else pair
        size = len(pair.image) if isinstance(pair, Pair) else 0
        unreported -= size
        report(1, size)
        if isinstance(result, Reject):
            rejects.append(result)
        else:
            yield result
    report(0, max(0, unreported))  # headers, padding, captions: what makes the bar end at the end


def _fixed_lists(rows: NDArray[np.generic]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


class _Files:
    """The open files of one shard, written batch by batch; all become visible together, or none."""

    def __init__(self, store: Path, shard: int, options: Options, tokenizer: Tokenizer, tagger: Tagger) -> None:
        self._options, self._tokenizer, self._tagger = options, tokenizer, tagger
        self._stack = ExitStack()
        self._writers: dict[str, pa.RecordBatchFileWriter] = {}
        schemas = {str(res): IMAGE_SCHEMA for res in options.resolutions} | {"text": TEXT_SCHEMA}
        for folder, schema in schemas.items():
            file = self._stack.enter_context(written_aside(store / shard_file(folder, shard)))
            self._writers[folder] = self._stack.enter_context(pa.ipc.new_file(file, schema))

    def __enter__(self) -> "_Files":
        self._stack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def write(self, samples: list[Sample], counts: _Counts) -> None:
        """Append one record batch to every file."""
        text = annotate([s.caption.text for s in samples], self._tokenizer, self._tagger)
        keys = pa.array([s.key for s in samples])
        shared = [_fixed_lists(text.tokens), _fixed_lists(text.priorities), pa.array(text.num_tokens), keys]
        for res in self._options.resolutions:
            copies = [s.stored[res] for s in samples]
            columns = [
                pa.array([c.encoded for c in copies], pa.large_binary()),
                pa.array([c.width for c in copies], pa.uint16()),
                pa.array([c.height for c in copies], pa.uint16()),
                *shared,
            ]
            self._writers[str(res)].write_batch(pa.record_batch(columns, schema=IMAGE_SCHEMA))
            side = stored_side(res, self._options.margin)
            counts.num_small[str(res)] += sum(min(s.original_width, s.original_height) < side for s in samples)
        rows = [
            {
                "key": s.key,
                "caption": s.caption.text,
                "source": s.source,
                "original_format": s.original_format,
                "original_width": s.original_width,
                "original_height": s.original_height,
                "caption_cut": s.caption.cut,
            }
            for s in samples
        ]
        self._writers["text"].write_batch(pa.RecordBatch.from_pylist(rows, schema=TEXT_SCHEMA))
        counts.num_samples += len(samples)
        counts.num_captions_truncated += int(text.truncated.sum())


def build_shard(
    store: Path, shard: int, source: Path, options: Options, tokenizer: Tokenizer, tagger: Tagger, report: Report
) -> ShardRecord:
    """Build one shard and write its record last. Raises OSError when the disk does not take it."""
    counts, rejects = _Counts(), list[Reject]()
    with _Files(store, shard, options, tokenizer, tagger) as files:
        waiting: list[Sample] = []
        for sample in _samples(source, options, counts, rejects, report):
            waiting.append(sample)
            if len(waiting) == ROWS_PER_BATCH:
                files.write(waiting, counts)
                waiting = []
        if waiting:
            files.write(waiting, counts)
    with written_aside(store / shard_file("rejects", shard)) as file:
        table = [{"key": r.key, "reason": r.reason.value, "detail": r.detail, "source": r.source} for r in rejects]
        pq.write_table(pa.Table.from_pylist(table, schema=REJECT_SCHEMA), file)
    assert counts.num_read == counts.num_samples + len(rejects), f"{source}: rows in are not rows out and rejects"
    record = ShardRecord(
        shard=shard,
        source=source.name,
        num_read=counts.num_read,
        num_samples=counts.num_samples,
        num_captions_truncated=counts.num_captions_truncated,
        rejects=dict(sorted(Counter(r.reason.value for r in rejects).items())),
        num_small=dict(sorted(counts.num_small.items())),
        files=tuple(_file_records(store, shard, options)),
    )
    write_json(store / shard_file("records", shard), asdict(record))
    return record


def _file_records(store: Path, shard: int, options: Options) -> Iterator[FileRecord]:
    for folder in (*map(str, options.resolutions), "text", "rejects"):
        path = shard_file(folder, shard)
        yield FileRecord(path, (store / path).stat().st_size, hash_file(store / path))


def finished(store: Path, shard: int) -> ShardRecord | None:
    """The record of a shard whose files are all there with their recorded sizes, else None."""
    path = store / shard_file("records", shard)
    if not path.exists():
        return None
    try:
        record = ShardRecord.from_json(read_json(path))
    except (UserError, TypeError, KeyError):
        return None  # damaged: the shard is built again, which is what anyone would tell the user to do
    for file in record.files:
        where = store / file.path
        if not where.is_file() or where.stat().st_size != file.num_bytes:
            return None
    return record
