"""The accounts of a store, held against each other: plan, manifest, the files' own records, and what else lies there.

All are canonical JSON, the manifest is the fold of the records, and the plan has a fingerprint: a changed character in
any of them is found here, and in most cases which of them is at fault.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash

from prep.manifest import Column, ColumnRecord, Manifest, ShardRecord, fold
from prep.places import Folder
from prep.schemas import KINDS, ROWS_FOLDER, shard_file
from prep.verify_file import Problem

Records = dict[tuple[str, int], ColumnRecord]
"""By column folder and shard; those that can be read."""

_HALF_WRITTEN = "a file that a killed program left half-written"


def check_accounts(folder: Folder, manifest: Manifest) -> tuple[list[Problem], Records]:
    """Everything in the accounts that does not agree, and the records."""
    accounts = _Accounts(folder, manifest)
    stored = accounts.read("manifest.json")
    if manifest.format_version == 1:
        accounts.check_first_version(stored or {})
    else:
        accounts.check_plan()
        accounts.check_columns()
        accounts.check_totals()
    accounts.check_names()
    return accounts.problems, accounts.records


class _Accounts:
    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.problems: list[Problem] = []
        self.records: Records = {}
        self.plan: dict[str, Any] | None = None
        self.expected = {"plan.json", "manifest.json"}

    def found(self, path: str, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, what))

    def read(self, path: str) -> dict[str, Any] | None:
        """A JSON object, or None when there is none; noting when it is not as this project writes it."""
        self.expected.add(path)
        if self.folder.size(path) is None:
            self.found(path, "it is missing")
            return None
        data = self.folder.read_bytes(path)
        try:
            value = json.loads(data)
        except ValueError as error:
            self.found(path, f"wanted a JSON object, but {error}")
            return None
        if not isinstance(value, dict):
            self.found(path, f"wanted a JSON object, found a {type(value).__name__}")
            return None
        if data != (json.dumps(value, indent=1, sort_keys=True) + "\n").encode():
            self.found(path, "it was changed: its text is not as prep.build writes it")
        return value

    def check_plan(self) -> None:
        """The plan against the manifest's fingerprint, inputs, columns and settings."""
        self.plan = plan = self.read("plan.json")
        if plan is None:
            return
        if _fingerprint(plan) != self.manifest.fingerprint:
            what = f"its fingerprint is {_fingerprint(plan)}, but manifest.json says {self.manifest.fingerprint}"
            self.found("plan.json", what)
        names = [part.get("name") for part in plan.get("inputs", [])]
        if names != [shard.source for shard in self.manifest.shards]:
            self.found("manifest.json", f"wanted the {len(names):,} inputs of plan.json as sources of shards")
        planned, built = plan.get("columns", {}), self.manifest.columns
        for name in sorted({*planned, *built}):
            if name not in built:
                remedy = "run the prep.build command again that began to add it"
                self.found("manifest.json", f"the column {name} of plan.json is not in it: {remedy}")
            elif name not in planned:
                self.found("plan.json", f"the column {name} of manifest.json is not in it")
            elif planned[name] != _as_planned(built[name]):
                self.found("manifest.json", f"the settings of {name} are not those of plan.json")

    def check_columns(self) -> None:
        """Each file's entry in the manifest against its record."""
        for column in self.manifest.columns.values():
            if column.kind not in KINDS:
                self.found(
                    "manifest.json", f"wanted one of {', '.join(KINDS)} as {column.folder}'s kind: {column.kind}"
                )
            if len(column.files) != len(self.manifest.shards):
                what = f"{column.folder} has {len(column.files):,} files for {len(self.manifest.shards):,} shards"
                self.found("manifest.json", what)
            for place, shard in enumerate(self.manifest.shards):
                self._check_record(column, place, shard)

    def _check_record(self, column: Column, place: int, shard: ShardRecord) -> None:
        path = shard_file(f"records/{column.folder}", shard.shard)
        stored = self.read(path)
        if stored is None:
            return
        try:
            record = ColumnRecord.from_json(stored)
        except (TypeError, KeyError, AttributeError) as error:
            self.found(path, f"wanted the record of a column's shard, but {error}")
            return
        is_rows = column.folder == ROWS_FOLDER
        files = column.files[place : place + 1] + (self.manifest.reject_files[place : place + 1] if is_rows else ())
        if record.files != files:
            self.found(path, "its files, their sizes or hashes are not those of manifest.json")
        wanted = [column.folder, shard.shard, shard.num_samples, *([shard.num_read] if is_rows else [])]
        told = [record.folder, record.shard, record.num_samples, *([record.num_read] if is_rows else [])]
        if told != wanted:
            self.found(path, f"says {_listed(told)}, where manifest.json says {_listed(wanted)}")
        elif is_rows and record.num_read != record.num_samples + sum(record.rejects.values()):
            lost = f"{record.num_samples:,} kept and {sum(record.rejects.values()):,} rejected"
            self.found(path, f"{record.num_read:,} pairs were read, but {lost}")
        self.records[column.folder, shard.shard] = record

    def check_totals(self) -> None:
        """The manifest as the fold of plan and records, where these can be read and none is known to be wrong."""
        if self.problems or self.plan is None:
            return
        columns = {name: _as_planned(column) for name, column in self.manifest.columns.items()}
        sources = [part["name"] for part in self.plan["inputs"]]
        folded = fold(_fingerprint(self.plan), sources, columns, list(self.records.values()))
        differing = [key for key, value in asdict(folded).items() if value != asdict(self.manifest)[key]]
        for name, column in self.manifest.columns.items():
            if column.counts != folded.columns[name].counts:
                self.found("manifest.json", f"the counts of {name} are not the sums of its records")
        if differing and not self.problems:
            self.found("manifest.json", f"not what plan.json and the records come to: {', '.join(differing)}")

    def check_first_version(self, stored: dict[str, Any]) -> None:
        """The accounts of format version 1: one record a shard, of which the manifest holds a copy, and sums."""
        plan = self.read("plan.json")
        if plan is not None and _fingerprint(plan) != self.manifest.fingerprint:
            self.found("plan.json", f"its fingerprint is not {self.manifest.fingerprint}, which manifest.json says")
        shards = stored.get("shards", [])
        for shard in shards:
            path = f"records/{shard['shard']:05d}.json"
            record = self.read(path)
            if record is not None and record != shard:
                self.found(path, "it is not what manifest.json says of that shard")
            if shard["num_read"] != shard["num_samples"] + sum(shard["rejects"].values()):
                self.found(path, "pairs read are not pairs kept and rejected")
        for name in ("num_read", "num_samples", "num_captions_truncated"):
            if stored.get(name) != sum(shard[name] for shard in shards):
                self.found("manifest.json", f"{name} is not the sum over its shards")
        for name in ("rejects", "num_small"):
            keys = {key for shard in shards for key in shard[name]}
            if stored.get(name) != {key: sum(shard[name].get(key, 0) for shard in shards) for key in keys}:
                self.found("manifest.json", f"{name} are not the sums over its shards")
        options = (plan or {}).get("options", {})
        for name in sorted({*options, *stored} & {"margin", "resolutions", "tagger", "tokenizer"} if plan else ()):
            if stored.get(name) != options.get(name):
                self.found("manifest.json", f"{name} is not that of plan.json")

    def check_names(self) -> None:
        """That nothing lies in the store but what the accounts name."""
        files = [file for column in self.manifest.columns.values() for file in column.files]
        self.expected.update(file.path for file in (*files, *self.manifest.reject_files))
        for path in sorted(_all_files(self.folder)):
            name = path.rpartition("/")[2]
            if name.startswith(".") and name.endswith(".tmp"):
                self.found(path, _HALF_WRITTEN)
            elif path not in self.expected:
                self.found(path, "a file that no account names")


def _fingerprint(plan: dict[str, Any]) -> str:
    """Made anew here: `prep.plan` would bring torch with it, half a gigabyte in every process."""
    rows = {key: value for key, value in plan.items() if key != "columns"}
    return xxhash.xxh3_64(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _all_files(folder: Folder, subfolder: str = "") -> list[str]:
    """Every file below a folder. Uploads have no name before they are whole, so only a disk has half-written ones."""
    if folder.is_local:
        return [
            (Path(top) / name).relative_to(folder.path).as_posix()
            for top, _, names in os.walk(folder.path)
            for name in names
        ]
    found = []
    for name, size in folder.sizes(subfolder).items():
        path = f"{subfolder}/{name}".lstrip("/")
        found += _all_files(folder, path) if size is None else [path]
    return found


def _as_planned(column: Column) -> dict[str, Any]:
    """What the plan says of a column that was built."""
    return {"kind": column.kind, "settings": column.settings, "libraries": column.libraries}
