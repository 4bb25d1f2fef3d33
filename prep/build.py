"""Prepare pairs for training: decode every image once, write multi-resolution shards with token ids and priorities.

    python -m prep.build --input 'pairs/*.tar' --out store/ --res 112 160 224

The input: webdataset tars, folders of images with .txt files, tables (CSV, TSV, JSONL, parquet), Hugging Face datasets
folders; on the local disk or at an fsspec URL, and so is the store. On a store that is there already, the same command
with more in it adds a resolution, a tagger, a tokenizer, a caption source or a crop bank, and rewrites nothing.

Interrupted, the same command goes on with what is missing, and ends with the same bytes as a build that was never
interrupted, with any number of workers.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from prep import build_options
from prep.build_options import Asked
from prep.build_summary import counts_of, print_summary
from prep.caption_tables import CaptionTable, TablePlace
from prep.columns import ColumnPlan
from prep.engine import run
from prep.errors import UserError, run_main
from prep.files import as_json
from prep.images import ImageLimits
from prep.manifest import ColumnRecord, Manifest, fold
from prep.pairs import Reason
from prep.passes import Shard, Tools
from prep.places import Folder
from prep.plan import Inputs, adopt, fingerprint
from prep.progress import bar
from prep.schemas import ROWS_FOLDER, shard_file
from prep.shard import build_shard, try_pairs
from prep.sources import Part, SourceOptions
from prep.tokenizer import load_tokenizer
from prep.work import Fault, Report

Records = dict[tuple[str, int], ColumnRecord]
"""The records of what is finished, by column folder and shard."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """What a worker loads once; see `prep.workers`. url: of the store. tokenizers, taggers: names. tables: of captions,
    with the caption source that each is of.
    """

    url: str
    source: SourceOptions
    limits: ImageLimits
    tokenizers: tuple[str, ...]
    taggers: tuple[str, ...]
    tables: tuple[tuple[str, TablePlace], ...] = ()

    def __call__(self, report: Report) -> "Worker":
        """Load them."""
        torch.set_num_threads(1)
        return Worker(
            Tools(
                Folder.of(self.url),
                self.source,
                self.limits,
                {name: load_tokenizer(name) for name in self.tokenizers},
                {name: build_options.tagger(name) for name in self.taggers},
                {name: CaptionTable(place) for name, place in self.tables},
                report,
            )
        )


@dataclass(frozen=True, slots=True)
class Worker:
    """The work of one worker process, shard after shard."""

    tools: Tools

    def do(self, task: Shard, faults: Mapping[int, Fault]) -> list[ColumnRecord]:
        """Build what is missing of a shard."""
        return build_shard(task, self.tools, faults)

    def try_items(self, task: Shard, first: int, last: int, faults: Mapping[int, Fault]) -> None:
        """Prepare some pairs of a shard without writing anything."""
        try_pairs(task, self.tools, first, last, faults)


def build(asked: Asked) -> tuple[Manifest, int]:
    """Build what is missing of a store and write its manifest last; returns it and the number of pairs done now.

    Raises `UserError` when the folder belongs to another plan, a worker dies again and again, or not one pair was kept.
    """
    folder = asked.folder
    with folder.working():
        plan = adopt(folder, asked.inputs, asked.columns)
        planned = {name: ColumnPlan(name, c["kind"], c["settings"]) for name, c in plan["columns"].items()}
        folder.remove_half_written()
        done = _finished(folder, planned, len(plan["inputs"]))
        shards = _missing(plan, planned, asked.inputs, done)
        if shards:
            for record in _run(asked, shards, plan):
                done[record.folder, record.shard] = record
        names = [part["name"] for part in plan["inputs"]]
        manifest = fold(fingerprint(plan), names, plan["columns"], list(done.values()))
        _check_not_empty(folder, manifest)
        folder.remove_half_written()  # what workers left that died
        folder.write_json("manifest.json", manifest.to_json())
        return manifest, sum(done[ROWS_FOLDER, shard.number].num_read for shard in shards)


def _finished(folder: Folder, planned: dict[str, ColumnPlan], num_shards: int) -> Records:
    """The records of files that are there with their recorded sizes. A damaged record counts as missing."""
    found: Records = {}
    for name in planned:
        there = set(folder.names(f"records/{name}"))
        for shard in range(num_shards):
            path = shard_file(f"records/{name}", shard)
            if path.rpartition("/")[2] not in there:
                continue
            try:
                value = folder.read_json(path)
                record = ColumnRecord.from_json(value)
            except (UserError, TypeError, KeyError):
                continue  # the file is built again, which is what anyone would tell the user to do
            # A power cut may take no more than the last newline, which JSON does not miss.
            is_whole = folder.size(path) == len(as_json(value))
            if is_whole and all(folder.size(file.path) == file.num_bytes for file in record.files):
                found[name, shard] = record
    return found


def _missing(plan: dict[str, Any], planned: dict[str, ColumnPlan], inputs: Inputs | None, done: Records) -> list[Shard]:
    shards = []
    for number, part in enumerate(plan["inputs"]):
        has_rows = (ROWS_FOLDER, number) in done
        # Without rows nothing that follows them can be trusted to be of the same pairs.
        missing = tuple(column for name, column in planned.items() if not has_rows or (name, number) not in done)
        if not missing:
            continue
        first = next((column for column in missing if not has_rows or column.is_from_input), None)
        if inputs is None and first:
            raise UserError(
                "--input",
                f"shard {number} of {first.folder} is still to be built from the input, which is not given",
                "Give the same --input as before.",
            )
        # Without inputs only the stored captions are read, and the part is a name for messages.
        where = inputs.parts[number] if inputs else Part("tar", part["name"], part["name"], 0)
        shards.append(Shard(number, where, missing, has_rows))
    return shards


def _run(asked: Asked, shards: list[Shard], plan: dict[str, Any]) -> Iterator[ColumnRecord]:
    missing = [column for shard in shards for column in shard.missing]
    tokenizers = {c.settings["name"] for c in missing if c.kind == "tokens"}
    tokenizers |= {c.settings["tokenizer_name"] for c in missing if c.kind == "priorities"}
    taggers = {c.settings["name"]: c.settings["tagger"] for c in missing if c.kind == "priorities"}
    for name, planned in taggers.items():
        if (now := build_options.tagger(name).identity()) != planned:
            problem = f"the store was planned with {planned}, here is {now}"
            raise UserError(f"tagger {name}", problem, "Install that one.")
    wanted = {c.settings["source"] for c in missing if c.kind == "captions" and not c.is_from_input}
    if absent := wanted - dict(asked.tables).keys():
        name = min(absent)
        remedy = f"Give it again: --captions {name}=table:FILE#COLUMN"
        raise UserError("--captions", f"the captions {name} are still to be built from a table", remedy)
    limits = {key: value for key, value in plan["limits"].items() if key != "max_caption_bytes"}
    # Workers on other machines start elsewhere.
    url = os.path.abspath(asked.folder.path) if asked.folder.is_local else asked.folder.url
    tables = tuple(table for table in asked.tables if table[0] in wanted)
    start = StartWorker(
        url, asked.source, ImageLimits(**limits), tuple(sorted(tokenizers)), tuple(sorted(taggers)), tables
    )
    engine = asked.engine
    with bar(sum(shard.part.num_bytes for shard in shards) or None, "preparing", "bytes") as progress:
        for records in run(
            engine.name, engine.address, start, shards, engine.num_workers, progress, "pairs", engine.limits
        ):
            yield from records


def _check_not_empty(folder: Folder, manifest: Manifest) -> None:
    if manifest.num_read == 0:
        raise UserError("--input", "wanted pairs, but there are none in it", "Give other --input.")
    if manifest.num_samples == 0:
        remedy = f"The reasons, pair by pair, are in {folder.url}/rejects."
        if set(manifest.rejects) == {Reason.CAPTION_MISSING.value}:
            remedy += " Name the caption's place: --captions original=..."
        raise UserError(
            folder.url,
            f"none of the {manifest.num_read:,} pairs could be kept ({counts_of(manifest.rejects)})",
            remedy,
        )


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    asked = build_options.parse(argv, __doc__ or "")
    start = perf_counter()
    manifest, num_now = build(asked)
    print_summary(asked.folder, manifest, num_now, perf_counter() - start)


if __name__ == "__main__":
    run_main(main)
