"""The store: what `prep.build` writes and every loader reads.

    store/
      plan.json                    what this store is meant to become
      manifest.json                written last; without it the folder is no store yet
      rows/00000.arrow             which pairs, and facts about their originals
      captions/original/...        cleaned captions, any number an image; one folder a caption source
      tokens/original/clip/...     their token ids, by one tokenizer
      priorities/original/clip/spacy/...   the word classes of these, by one tagger
      112/00000.arrow              a view: one copy of each image
      rejects/00000.parquet        one row per dropped pair
      records/112/00000.json       a file's own account: rows, counts, size, hash

Columns are independent: each folder is built, added, checked and deleted on its own. `open_store` checks the manifest
and the size of every file; a loader checks each row's hash when it first touches it; `prep.verify` checks everything.
"""

import errno
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from prep.errors import UserError
from prep.manifest import Column, Manifest, parse_manifest, read_manifest
from prep.places import Folder
from prep.schemas import CONTEXT_LENGTH, FORMAT_VERSION, ROWS_PER_BATCH

__all__ = [
    "CONTEXT_LENGTH",
    "FORMAT_VERSION",
    "ROWS_PER_BATCH",
    "Column",
    "Manifest",
    "Store",
    "open_store",
    "parse_manifest",
]


@dataclass(frozen=True, slots=True)
class Store:
    """An opened store: where it lies and its manifest."""

    folder: Folder
    manifest: Manifest

    def captions(self, source: str, shard: int) -> list[list[str]]:
        """The clean captions of one shard from one caption source, a list an image."""
        column = self.open_shard(f"captions/{source}", shard).read_all()
        if "caption" in column.schema.names:  # format version 1
            return [[caption] for caption in column["caption"].to_pylist()]
        found: list[list[str]] = column["captions"].to_pylist()
        return found

    @property
    def path(self) -> Path:
        """Where it lies on the local disk. Raises `UserError` for a store that lies elsewhere."""
        if not self.folder.is_local:
            raise UserError(self.folder.url, "wanted a store on the local disk", "Copy it to a local folder first.")
        return self.folder.path

    def open_shard(self, folder: str, shard: int) -> pa.ipc.RecordBatchFileReader:
        """A reader of one shard of a column: memory-mapped on the local disk, else read whole into memory.

        Raises `UserError` when the file is not a whole Arrow file.
        """
        return self.open_file(folder, [record.shard for record in self.manifest.shards].index(shard))

    def open_file(self, folder: str, place: int) -> pa.ipc.RecordBatchFileReader:
        """The same, by the shard's place in the manifest."""
        name = self.manifest.columns[folder].files[place].path
        where = str(self.folder.path / name) if self.folder.is_local else f"{self.folder.url}/{name}"
        try:
            source = pa.memory_map(where) if self.folder.is_local else pa.BufferReader(self.folder.read_bytes(name))
            return pa.ipc.open_file(source)
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise UserError(where, "too many files are open to open this one", "Raise `ulimit -n`.") from error
            raise UserError(
                where,
                f"wanted an Arrow file, but {error}",
                "Delete that file and run the same prep.build command again.",
            ) from error


def open_store(path: Path | str) -> Store:
    """Open a finished store on the local disk or at a URL, checking that each file is there with its recorded size.

    Raises `UserError` when it is no store, is of another version, or a file is missing or of another size.
    """
    folder = Folder.of(path)
    manifest = read_manifest(folder)
    for column in manifest.columns.values():
        for file in column.files:
            size = folder.size(file.path)
            if size != file.num_bytes:
                came = "it is missing" if size is None else f"it has {size:,}"
                raise UserError(
                    f"{folder.url}/{file.path}",
                    f"wanted a file of {file.num_bytes:,} bytes, but {came}",
                    "Run the same prep.build command again: it rebuilds that file alone.",
                )
    return Store(folder, manifest)
