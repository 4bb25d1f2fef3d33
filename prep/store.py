"""The store: what `prep.build` writes and every loader reads.

    store/
      plan.json           inputs, options, versions: what this store is meant to become
      manifest.json       written last; without it the folder is no store yet
      112/00000.arrow     IMAGE_SCHEMA: image, width, height, tokens, priorities, num_tokens, key
      224/00000.arrow     the same rows in the same order
      text/00000.arrow    TEXT_SCHEMA: cleaned captions and facts about the original, for people
      rejects/00000.parquet   REJECT_SCHEMA: one row per dropped pair
      records/00000.json  the shard's own account: counts, and the size and hash of each of its files

Row i is the same pair in every folder. Arrow IPC *files*, uncompressed, memory-mapped; ROWS_PER_BATCH rows a record
batch. `open_store` checks the manifest and every file's size; the hashes (xxh3-64) are there for whoever wants to
check bytes.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from prep.errors import UserError
from prep.files import read_json, write_json

FORMAT_VERSION = 1
ROWS_PER_BATCH = 1024
CONTEXT_LENGTH = 77

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image", pa.large_binary(), nullable=False),
        pa.field("width", pa.uint16(), nullable=False),
        pa.field("height", pa.uint16(), nullable=False),
        pa.field("tokens", pa.list_(pa.uint16(), CONTEXT_LENGTH), nullable=False),
        pa.field("priorities", pa.list_(pa.uint8(), CONTEXT_LENGTH), nullable=False),
        pa.field("num_tokens", pa.uint8(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
    ]
)
TEXT_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("original_format", pa.string(), nullable=False),
        pa.field("original_width", pa.uint32(), nullable=False),
        pa.field("original_height", pa.uint32(), nullable=False),
        pa.field("caption_cut", pa.bool_(), nullable=False),
    ]
)
REJECT_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a shard: path inside the store, size in bytes, xxh3-64 as 16 hex digits."""

    path: str
    num_bytes: int
    xxh3: str


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard's account. num_read == num_samples + sum(rejects.values()), always.

    num_small: {res: images whose original was smaller than the margin's short side, stored unenlarged}.
    num_captions_truncated: captions longer than the context.
    """

    shard: int
    source: str
    num_read: int
    num_samples: int
    num_captions_truncated: int
    rejects: dict[str, int]
    num_small: dict[str, int]
    files: tuple[FileRecord, ...]

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ShardRecord":
        """The inverse of `dataclasses.asdict`."""
        return ShardRecord(**{**value, "files": tuple(FileRecord(**file) for file in value["files"])})


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a loader must know and a paper must cite. `fingerprint` is the plan's: same inputs, same options, same
    code.
    """

    format_version: int
    fingerprint: str
    resolutions: tuple[int, ...]
    margin: float
    encoding: str
    context_length: int
    tokenizer: dict[str, str]
    tagger: dict[str, str]
    num_read: int
    num_samples: int
    num_captions_truncated: int
    rejects: dict[str, int]
    num_small: dict[str, int]
    shards: tuple[ShardRecord, ...]

    def bytes_of(self, folder: str) -> int:
        """Bytes of all files in one of the store's folders, such as "112" or "text"."""
        return sum(f.num_bytes for shard in self.shards for f in shard.files if f.path.startswith(f"{folder}/"))


@dataclass(frozen=True, slots=True)
class Store:
    """An opened store: where it lies and its manifest."""

    path: Path
    manifest: Manifest

    def shard_path(self, folder: str, shard: int) -> Path:
        """The file of one shard, e.g. folder "112"."""
        return self.path / shard_file(folder, shard)

    def open_shard(self, folder: str, shard: int) -> pa.ipc.RecordBatchFileReader:
        """A memory-mapped reader. Raises `UserError` when the file is not a whole Arrow file."""
        path = self.shard_path(folder, shard)
        try:
            return pa.ipc.open_file(pa.memory_map(str(path)))
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                str(path),
                f"wanted an Arrow file, but {error}",
                "Delete that file and run the same prep.build command again.",
            ) from error


def shard_file(folder: str, shard: int) -> str:
    """The path of a shard's file inside the store."""
    ending = {"rejects": "parquet", "records": "json"}.get(folder, "arrow")
    return f"{folder}/{shard:05d}.{ending}"


def fold(fingerprint: str, settings: dict[str, Any], records: list[ShardRecord]) -> Manifest:
    """The manifest is the fold of the shards' records: every count in it is a sum."""

    def total(counts: list[dict[str, int]]) -> dict[str, int]:
        return {key: sum(c.get(key, 0) for c in counts) for key in sorted({k for c in counts for k in c})}

    return Manifest(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint,
        context_length=CONTEXT_LENGTH,
        num_read=sum(r.num_read for r in records),
        num_samples=sum(r.num_samples for r in records),
        num_captions_truncated=sum(r.num_captions_truncated for r in records),
        rejects=total([r.rejects for r in records]),
        num_small=total([r.num_small for r in records]),
        shards=tuple(records),
        **settings,
    )


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Write `manifest.json`: from now on the folder is a store."""
    write_json(store / "manifest.json", asdict(manifest))


def parse_manifest(path: Path) -> Manifest:
    """Read a `manifest.json`. Raises `UserError` when it is missing, damaged or of another format version."""
    if not path.is_file():
        raise UserError(
            str(path.parent),
            "wanted a store, but there is no manifest.json in it",
            "Point at a folder that prep.build finished; an interrupted build goes on with the same command.",
        )
    value = read_json(path)
    version = value.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            str(path), f"format version {version}; this code reads version {FORMAT_VERSION}", "Build the store again."
        )
    try:
        return Manifest(
            **{
                **value,
                "resolutions": tuple(value["resolutions"]),
                "shards": tuple(ShardRecord.from_json(shard) for shard in value["shards"]),
            }
        )
    except (TypeError, KeyError) as error:
        raise UserError(str(path), f"not a manifest of version {FORMAT_VERSION}: {error}", "Build again.") from error


def open_store(path: Path) -> Store:
    """Open a finished store, checking that each file is there with the size the manifest records.

    Raises `UserError` when it is no store, is of another version, or a file is missing or of another size.
    """
    manifest = parse_manifest(path / "manifest.json")
    for shard in manifest.shards:
        for file in shard.files:
            where = path / file.path
            size = where.stat().st_size if where.is_file() else None
            if size != file.num_bytes:
                came = "it is missing" if size is None else f"it has {size:,}"
                raise UserError(
                    str(where),
                    f"wanted a file of {file.num_bytes:,} bytes, but {came}",
                    "Run the same prep.build command again: it rebuilds that shard alone.",
                )
    return Store(path, manifest)
