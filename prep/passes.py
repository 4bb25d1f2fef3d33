"""What a shard's samples are made from: the input, the input for pairs that are known, or what is stored of them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from prep import captions, images
from prep.caption_tables import CaptionTable
from prep.column_files import Sample
from prep.columns import ColumnPlan, captions_column
from prep.errors import UserError
from prep.images import ImageLimits
from prep.pairs import Pair, Reason, Reject
from prep.places import Folder
from prep.schemas import ROWS_FOLDER, shard_file
from prep.sources import Part, SourceOptions, read_part
from prep.taggers import Tagger
from prep.tokenizer import Tokenizer
from prep.views import View, make_copies
from prep.work import Fault, Report


@dataclass(frozen=True, slots=True)
class Shard:
    """One task: the shard's number, the input it is made from, and which columns are missing of it."""

    number: int
    part: Part
    missing: tuple[ColumnPlan, ...]
    has_rows: bool

    def __str__(self) -> str:
        return f"shard {self.number} ({self.part.name})"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker holds for all its shards. tokenizers, taggers: by the names in the columns' settings. tables: of
    captions, by caption source.
    """

    folder: Folder
    source: SourceOptions
    limits: ImageLimits
    tokenizers: Mapping[str, Tokenizer]
    taggers: Mapping[str, Tagger]
    tables: Mapping[str, CaptionTable]
    report: Report


def views_of(shard: Shard) -> list[View]:
    """The views among a shard's missing columns."""
    return [View.of(plan.folder, plan.settings) for plan in shard.missing if plan.kind == "view"]


def tried_samples(shard: Shard, tools: Tools, first: int, last: int, faults: Mapping[int, Fault]) -> Iterator[Sample]:
    """The items first to last, by ordinal, prepared as by `new_samples`; rejects are passed over."""
    views = views_of(shard)
    for ordinal, item in enumerate(islice(read_part(shard.part, tools.source), last + 1)):
        if ordinal >= first and ordinal not in faults and isinstance(item, Pair):
            tools.report.begin(ordinal)
            result = prepare(item, views, tools.limits)
            tools.report.between()
            if isinstance(result, Sample):
                yield _with_tables(result, shard, tools)


def prepare(pair: Pair, views: Sequence[View], limits: ImageLimits) -> Sample | Reject:
    """Clean the captions, decode the image once and make a copy for each view; or say why not.

    A pair is kept when one of its captions is good; the others are left out. Raises MemoryError.
    """
    try:
        cleaned, num_dropped = _clean(pair)
        decoded, copies = make_copies(pair.key, pair.image, views, limits)
    except (captions.CaptionError, images.ImageError) as error:
        if error.reason is Reason.OUT_OF_MEMORY:
            # Whether the image is too large for any worker, or this one was too full, is the supervisor's to find out.
            raise MemoryError(error.detail) from error
        return Reject(pair.key, error.reason, error.detail, pair.source)
    return Sample(pair.key, pair.source, decoded.format, decoded.width, decoded.height, cleaned, num_dropped, copies)


def _clean(pair: Pair) -> tuple[dict[str, tuple[captions.Caption, ...]], dict[str, int]]:
    """The good captions and the number of others, by caption source. Raises `CaptionError` when none is good."""
    cleaned: dict[str, tuple[captions.Caption, ...]] = {}
    fault = captions.CaptionError(Reason.CAPTION_MISSING, "no caption")
    for source, raw in pair.captions.items():
        good = []
        for caption in raw:
            try:
                good.append(captions.decode(caption))
            except captions.CaptionError as error:
                fault = error
        cleaned[source] = tuple(good)
    if not any(cleaned.values()):
        raise fault
    return cleaned, {source: len(raw) - len(cleaned[source]) for source, raw in pair.captions.items()}


def _items(shard: Shard, tools: Tools) -> Iterator[tuple[int, Pair | Reject]]:
    """The input's items with their ordinals, telling the progress bar of the bytes read."""
    unreported = shard.part.num_bytes
    for ordinal, item in enumerate(read_part(shard.part, tools.source)):
        yield ordinal, item
        size = min(len(item.image), unreported) if isinstance(item, Pair) else 0
        unreported -= size
        tools.report.done(1, size)
    tools.report.done(0, unreported)  # headers, padding, captions: what makes the bar end at the end


def new_samples(
    shard: Shard, tools: Tools, faults: Mapping[int, Fault], counts: Counter[str], rejects: list[Reject]
) -> Iterator[Sample]:
    """Every pair of the input that can be kept; the others go to `rejects`, and counts["read"] is of both."""
    views = views_of(shard)
    for ordinal, item in _items(shard, tools):
        counts["read"] += 1
        result: Sample | Reject
        if isinstance(item, Reject):
            result = item
        elif ordinal in faults:
            result = Reject(item.key, faults[ordinal].reason, faults[ordinal].detail, item.source)
        else:
            tools.report.begin(ordinal)
            result = prepare(item, views, tools.limits)
            tools.report.between()
        if isinstance(result, Reject):
            rejects.append(result)
        else:
            yield _with_tables(result, shard, tools)


def known_samples(shard: Shard, tools: Tools, faults: Mapping[int, Fault]) -> Iterator[Sample]:
    """The pairs that the rows name, in their order, with what the missing columns need of them."""
    views = views_of(shard)
    keys = iter(key for batch in _stored(shard, tools, ROWS_FOLDER) for key in batch.column("key").to_pylist())
    wanted = next(keys, None)
    for ordinal, item in _items(shard, tools):
        if not isinstance(item, Pair) or item.key != wanted:
            continue
        if ordinal in faults:
            raise _changed(shard, f"pair {item.key} was kept before, and now {faults[ordinal].detail}")
        tools.report.begin(ordinal)
        result = prepare(item, views, tools.limits) if views else _captions_alone(item)
        tools.report.between()
        if isinstance(result, Reject):
            raise _changed(shard, f"pair {item.key} was kept before, and now {result.reason.value}: {result.detail}")
        yield result
        wanted = next(keys, None)
    if wanted is not None:
        raise _changed(shard, f"pair {wanted} of the store is not there, or not in its place")


def _captions_alone(pair: Pair) -> Sample | Reject:
    try:
        return Sample(pair.key, pair.source, "", 0, 0, *_clean(pair), {})
    except captions.CaptionError as error:
        return Reject(pair.key, error.reason, error.detail, pair.source)


def _changed(shard: Shard, problem: str) -> UserError:
    return UserError(
        shard.part.url,
        f"the input is not what the store was built from: {problem}",
        "Give the inputs that the store was built from, or build a new store.",
    )


def stored_samples(shard: Shard, tools: Tools) -> Iterator[Sample]:
    """The pairs that the rows name, with their stored captions, and those of tables whose columns are missing."""
    needed = {plan.settings["source"] for plan in shard.missing if plan.kind in ("tokens", "priorities")}
    sources = sorted(needed - {plan.settings["source"] for plan in _from_tables(shard)})
    readers = [_stored(shard, tools, captions_column(source, "").folder) for source in sources]
    for keys, *batches in zip(_stored(shard, tools, ROWS_FOLDER), *readers, strict=True):
        texts = [
            [
                tuple(captions.Caption(text, cut) for text, cut in zip(own, cuts, strict=True))
                for own, cuts in zip(batch.column("captions").to_pylist(), batch.column("cut").to_pylist(), strict=True)
            ]
            for batch in batches
        ]
        for key, *own in zip(keys.column("key").to_pylist(), *texts, strict=True):
            tools.report.done(1, 0)
            sample = Sample(key, "", "", 0, 0, dict(zip(sources, own, strict=True)), {}, {})
            yield _with_tables(sample, shard, tools)


def _from_tables(shard: Shard) -> list[ColumnPlan]:
    return [plan for plan in shard.missing if plan.kind == "captions" and not plan.is_from_input]


def _with_tables(sample: Sample, shard: Shard, tools: Tools) -> Sample:
    """The sample with the captions of those tables whose columns are missing."""
    for plan in _from_tables(shard):
        source = plan.settings["source"]
        sample.captions[source], sample.num_dropped[source] = tools.tables[source].of(sample.key)
    return sample


def _stored(shard: Shard, tools: Tools, folder: str) -> Iterator[pa.RecordBatch]:
    """The record batches of a column of this shard that is there already."""
    name = shard_file(folder, shard.number)
    source = pa.BufferReader(tools.folder.read_bytes(name))
    reader = pa.ipc.open_file(source)
    for place in range(reader.num_record_batches):
        yield reader.get_batch(place)
