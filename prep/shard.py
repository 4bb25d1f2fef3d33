"""One shard: a pure function of (plan, part of the input) to its files in the store, one a column, and their records.

`rows` decides which pairs there are; every other column follows it. Without rows, all columns are made in one pass over
the input. With them, what is missing is: views and captions in a pass over the input for the pairs that the rows name,
then token ids, priorities and captions from tables in one over what is stored. Pairs stream through: at most
ROWS_PER_BATCH samples are held, whatever the size of the input.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prep.column_files import ColumnFile, Sample, TextOf, write_whole
from prep.columns import ColumnPlan
from prep.manifest import ColumnRecord, FileRecord
from prep.pairs import Reject
from prep.passes import Shard, Tools, known_samples, new_samples, stored_samples, tried_samples
from prep.schemas import REJECT_SCHEMA, ROWS_FOLDER, ROWS_PER_BATCH, shard_file
from prep.taggers import Tagged, Tagger
from prep.text_columns import Annotated, annotate, joined
from prep.work import Fault

# Copies of all views together that wait in memory for their record batch; what is more waits in files.
_HELD_BYTES = 96 << 20
# Tagging takes memory by the caption: 1,024 at once are no faster and take some hundred megabytes.
_TAGGED_AT_ONCE = 256


class _NoTagger:
    """For token ids alone."""

    def identity(self) -> dict[str, str]:
        return {}

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        return [Tagged(np.zeros(0, np.int32), np.zeros(0, np.uint8)) for _ in texts]


def build_shard(shard: Shard, tools: Tools, faults: Mapping[int, Fault]) -> list[ColumnRecord]:
    """Build what is missing of one shard, records last. faults: items that are rejected untouched, by ordinal.

    Raises OSError when the disk does not take it, and `UserError` when the input is no longer what the rows tell.
    """
    counts, rejects, more = Counter[str](), list[Reject](), list[FileRecord]()
    if shard.has_rows:
        from_input = [plan for plan in shard.missing if plan.is_from_input]
        from_store = [plan for plan in shard.missing if not plan.is_from_input]
        files = _write(known_samples(shard, tools, faults), shard, tools, from_input) if from_input else []
        files += _write(stored_samples(shard, tools), shard, tools, from_store) if from_store else []
    else:
        files = _write(new_samples(shard, tools, faults, counts, rejects), shard, tools, shard.missing)
        assert counts["read"] == files[0].num_rows + len(rejects), f"{shard}: rows in are not rows out and rejects"
        more.append(write_whole(tools.folder, shard_file("rejects", shard.number), _parquet(rejects)))
    by_reason = dict(sorted(Counter(reject.reason.value for reject in rejects).items()))
    records = []
    for file in files:
        is_rows = file.plan.folder == ROWS_FOLDER
        record = file.record(counts["read"], by_reason, *more) if is_rows else file.record()
        tools.folder.write_json(shard_file(f"records/{file.plan.folder}", shard.number), asdict(record))
        records.append(record)
    return records


def try_pairs(shard: Shard, tools: Tools, first: int, last: int, faults: Mapping[int, Fault]) -> None:
    """Do to the items first to last, by ordinal, what `build_shard` does to them, and write nothing."""
    samples = tried_samples(shard, tools, first, last, faults)
    while batch := list(islice(samples, ROWS_PER_BATCH)):
        text = _text_of(batch, shard, tools)
        for plan in shard.missing:
            if plan.kind == "priorities":
                text(plan.settings["source"], plan.settings["tokenizer_name"], plan.settings["name"])


def _write(samples: Iterable[Sample], shard: Shard, tools: Tools, plans: Sequence[ColumnPlan]) -> list[ColumnFile]:
    """Stream samples into the files of these columns; all get their names, or none."""
    with ExitStack() as stack:
        max_held = _HELD_BYTES // max(1, sum(plan.kind == "view" for plan in plans))
        files = [stack.enter_context(ColumnFile(tools.folder, shard.number, plan, max_held)) for plan in plans]
        waiting = _held(samples, files)
        while batch := list(islice(waiting, ROWS_PER_BATCH)):
            text = _text_of(batch, shard, tools)
            for file in files:
                file.write(batch, text)
    return files


def _held(samples: Iterable[Sample], files: Sequence[ColumnFile]) -> Iterator[Sample]:
    for sample in samples:
        for file in files:
            file.hold(sample)
        yield sample


def _text_of(batch: Sequence[Sample], shard: Shard, tools: Tools) -> TextOf:
    """Annotates the batch's captions when a column asks for it, and each way only once."""
    done: dict[tuple[str, str, str], Annotated] = {}
    taggers: Mapping[str, Tagger] = {"": _NoTagger(), **tools.taggers}

    def text(source: str, tokenizer: str, tagger: str | None) -> Annotated:
        if tagger is None:  # whichever tags these ids anyway
            used = [
                plan.settings["name"]
                for plan in shard.missing
                if plan.kind == "priorities"
                and (plan.settings["source"], plan.settings["tokenizer_name"]) == (source, tokenizer)
            ]
            tagger = used[0] if used else ""
        found = done.get((source, tokenizer, tagger))
        if found is None:
            flat = [caption.text for sample in batch for caption in sample.captions.get(source, ())]
            tools.report.batch()
            some = [flat[i : i + _TAGGED_AT_ONCE] for i in range(0, len(flat), _TAGGED_AT_ONCE)] or [[]]
            found = joined([annotate(part, tools.tokenizers[tokenizer], taggers[tagger]) for part in some])
            tools.report.between()
            done[source, tokenizer, tagger] = found
        return found

    return text


def _parquet(rejects: list[Reject]) -> bytes:
    table = [{"key": r.key, "reason": r.reason.value, "detail": r.detail, "source": r.source} for r in rejects]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(table, schema=REJECT_SCHEMA), sink)
    return bytes(sink.getvalue())
