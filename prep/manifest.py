"""The manifest: all that a loader must know of a store and a paper must cite; the fold of its files' own records."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prep.errors import UserError
from prep.places import Folder
from prep.schemas import CONTEXT_LENGTH, FORMAT_VERSION, ROWS_FOLDER
from prep.store_v1 import upgrade

DEFAULT_TOKENIZER = "clip"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file: path inside the store, size in bytes, xxh3-64 as 16 hex digits."""

    path: str
    num_bytes: int
    xxh3: str


@dataclass(frozen=True, slots=True)
class ColumnRecord:
    """The account of one shard of one column: rows and counts, and its files (of `rows`, the rejects' file, too).

    num_read, rejects: of the column `rows` alone; num_read == num_samples + sum(rejects.values()), always.
    """

    folder: str
    shard: int
    num_samples: int
    counts: dict[str, int]
    files: tuple[FileRecord, ...]
    num_read: int = 0
    rejects: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ColumnRecord":
        """The inverse of `dataclasses.asdict`."""
        return ColumnRecord(**{**value, "files": tuple(FileRecord(**file) for file in value["files"])})


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A shard's place in the order of rows: its number, what it was made from, pairs read and samples kept."""

    shard: int
    source: str
    num_read: int
    num_samples: int


@dataclass(frozen=True, slots=True)
class Column:
    """One column folder: its kind (one of KINDS), the settings and the versions of libraries that decide its bytes,
    counts, a file a shard.
    """

    folder: str
    kind: str
    settings: dict[str, Any]
    libraries: dict[str, str]
    counts: dict[str, int]
    files: tuple[FileRecord, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a loader must know and a paper must cite. `fingerprint` is of what decides the rows: inputs, limits,
    code; each column adds its settings.
    """

    format_version: int
    fingerprint: str
    context_length: int
    num_read: int
    num_samples: int
    rejects: dict[str, int]
    shards: tuple[ShardRecord, ...]
    reject_files: tuple[FileRecord, ...]
    columns: dict[str, Column]

    def to_json(self) -> dict[str, Any]:
        """What `manifest.json` holds."""
        return asdict(self)

    def of_kind(self, kind: str) -> list[Column]:
        """The columns of one of KINDS, by name."""
        return [column for _, column in sorted(self.columns.items()) if column.kind == kind]

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The sides in pixels that can be trained at, ascending."""
        return tuple(sorted({column.settings["res"] for column in self.of_kind("view")}))

    def views(self, res: int) -> list[Column]:
        """The views at one resolution: margin copies first, then crop banks in the order of their crops."""
        found = [column for column in self.of_kind("view") if column.settings["res"] == res]
        return sorted(found, key=lambda c: (c.settings.get("crop", -1), c.settings["encoding"], c.folder))

    @property
    def caption_sources(self) -> tuple[str, ...]:
        """The names of the caption sources."""
        return tuple(column.folder.split("/")[1] for column in self.of_kind("captions"))

    def tokens(self, source: str, tokenizer: str = DEFAULT_TOKENIZER) -> Column | None:
        """The token ids of a caption source, or None when there are none by this tokenizer."""
        return self.columns.get(f"tokens/{source}/{tokenizer}")

    def priorities(self, source: str, tokenizer: str = DEFAULT_TOKENIZER, tagger: str | None = None) -> Column | None:
        """The priorities of a caption source; without a tagger's name the default tagger's, or else the first."""
        found = {
            column.folder.split("/")[3]: column
            for column in self.of_kind("priorities")
            if column.folder.startswith(f"priorities/{source}/{tokenizer}/")
        }
        if tagger is None and found:
            tagger = "spacy" if "spacy" in found else min(found)
        return found.get(tagger or "")

    @property
    def tokenizer(self) -> dict[str, str]:
        """The identity of the tokenizer whose ids are read by default; empty when there are no tokens."""
        columns = self.of_kind("tokens")
        columns.sort(key=lambda column: not column.folder.endswith(f"/{DEFAULT_TOKENIZER}"))
        return dict(columns[0].settings["tokenizer"]) if columns else {}


def _sum(counts: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(c.get(key, 0) for c in counts) for key in sorted({k for c in counts for k in c})}


def fold(
    fingerprint: str, sources: list[str], columns: dict[str, dict[str, Any]], records: list[ColumnRecord]
) -> Manifest:
    """The manifest is the fold of the records: every count in it is a sum. columns: as in the plan, by folder."""
    by_folder: dict[str, list[ColumnRecord]] = {folder: [] for folder in columns}
    for record in sorted(records, key=lambda record: record.shard):
        by_folder[record.folder].append(record)
    rows = by_folder[ROWS_FOLDER]
    for folder, found in by_folder.items():
        assert [r.num_samples for r in found] == [r.num_samples for r in rows], f"{folder}: other rows"
    return Manifest(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint,
        context_length=CONTEXT_LENGTH,
        num_read=sum(record.num_read for record in rows),
        num_samples=sum(record.num_samples for record in rows),
        rejects=_sum([record.rejects for record in rows]),
        shards=tuple(ShardRecord(r.shard, sources[r.shard], r.num_read, r.num_samples) for r in rows),
        reject_files=tuple(file for record in rows for file in record.files[1:]),
        columns={
            folder: Column(folder, counts=_sum([r.counts for r in by_folder[folder]]), files=files, **planned)
            for folder, planned in sorted(columns.items())
            for files in [tuple(file for record in by_folder[folder] for file in record.files[:1])]
        },
    )


def parse_manifest(path: Path) -> Manifest:
    """Read a `manifest.json` of any format version. Raises `UserError` when it is missing, damaged or newer."""
    return read_manifest(Folder.of(path.parent), path.name)


def read_manifest(folder: Folder, name: str = "manifest.json") -> Manifest:
    """Read the manifest in a folder that may lie anywhere; see `parse_manifest`."""
    if folder.size(name) is None:
        raise UserError(
            folder.url,
            f"wanted a store, but there is no {name} in it",
            "Point at a folder that prep.build finished; an interrupted build goes on with the same command.",
        )
    value = folder.read_json(name)
    place, version = f"{folder.url}/{name}", value.get("format_version")
    if version not in range(1, FORMAT_VERSION + 1):
        raise UserError(
            place,
            f"format version {version}; this code reads versions up to {FORMAT_VERSION}",
            "Build the store again.",
        )
    try:
        if version == 1:
            value = upgrade(value)
        return Manifest(
            **{
                **value,
                "shards": tuple(ShardRecord(**shard) for shard in value["shards"]),
                "reject_files": tuple(FileRecord(**file) for file in value["reject_files"]),
                "columns": {
                    folder: Column(**{**column, "files": tuple(FileRecord(**file) for file in column["files"])})
                    for folder, column in value["columns"].items()
                },
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(place, f"not a manifest of version {version}: {error}", "Build again.") from error
