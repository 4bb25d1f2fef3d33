"""Webdataset tars of a store's rows, in their order: the same options on the same store are the same bytes.

    out/export.json        what is exported, and into how many tars; written first
    out/00000.tar ...      `--rows-per-tar` rows each, the last fewer

A sample's files, in this order:

    000000017-cat.jpg      the copy of the view, byte for byte; .ppm (P6) for a raw view, the pixels as they are
    000000017-cat.txt      the chosen caption, UTF-8; empty when the image has none from that source
    000000017-cat.json     key, index, source, the original's format and size, the copy's size, a crop's box, and from
                           every caption source all captions, token ids and priorities (without their padding)

The name is the row's number and what is harmless of its key: a key may hold slashes, dots or control characters, and
readers split names at the first dot. The key itself is in the `.json`.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import xxhash

from prep.errors import UserError
from prep.export_rows import Selection, Tally, lists, read_batches
from prep.manifest import Column
from prep.places import Folder
from prep.store import Store

PLAN = "export.json"

_SLUG_LENGTH = 48
_OF_THE_COPY = ("key", "width", "height", "box")
_OF_THE_ORIGINAL = ("source", "original_format", "original_width", "original_height")
_TEXTS = ("captions", "tokens", "priorities")


@dataclass(frozen=True, slots=True)
class _Texts:
    """The columns of one caption source, as far as the store has them: {one of _TEXTS: folder}."""

    source: str
    folders: dict[str, str]


def write_tars(
    store: Store, selection: Selection, out: Folder, rows_per_tar: int, advance: Callable[[int], None]
) -> Tally:
    """Write the tars that are not there yet; `advance` is called with the number of rows done.

    Raises `UserError` when the folder holds something else, or another export. The Tally is of what was written now.
    """
    texts = _all_texts(store, selection)
    num_rows = store.manifest.num_samples
    with out.working():
        _adopt(out, _plan(store, selection, texts, rows_per_tar))
        out.remove_half_written()
        tally, there = Tally(), set(out.names())
        for tar in range(-(-num_rows // rows_per_tar)):
            name, first = f"{tar:05d}.tar", tar * rows_per_tar
            last = min(first + rows_per_tar, num_rows)
            if name not in there:
                _write_tar(out, name, _samples(store, selection, texts, first, last, tally), advance)
            else:
                advance(last - first)
    return tally


def _all_texts(store: Store, selection: Selection) -> list[_Texts]:
    """Of every caption source its columns; of another tagger or tokenizer than the chosen one, nothing."""
    manifest, texts = store.manifest, []
    tokenizer = selection.tokens.folder.split("/")[2]
    tagger = selection.priorities.folder.split("/")[3]
    for source in manifest.caption_sources:
        folders = (f"captions/{source}", f"tokens/{source}/{tokenizer}", f"priorities/{source}/{tokenizer}/{tagger}")
        texts.append(_Texts(source, {k: v for k, v in zip(_TEXTS, folders, strict=True) if v in manifest.columns}))
    return texts


def _plan(store: Store, selection: Selection, texts: list[_Texts], rows_per_tar: int) -> dict[str, Any]:
    folders = ["rows", selection.view.folder, *(folder for text in texts for folder in text.folders.values())]
    num_rows = store.manifest.num_samples
    return {
        "caption": selection.caption,
        "caption_source": selection.source,
        "columns": {folder: _digest(store.manifest.columns[folder]) for folder in folders},
        "num_rows": num_rows,
        "num_tars": -(-num_rows // rows_per_tar),
        "rows_per_tar": rows_per_tar,
        "view": selection.view.folder,
    }


def _digest(column: Column) -> str:
    """xxh3-64 over the recorded hashes of a column's files, 16 hex digits."""
    return xxhash.xxh3_64("".join(file.xxh3 for file in column.files).encode()).hexdigest()


def _adopt(out: Folder, plan: dict[str, Any]) -> None:
    """Write the plan into an empty folder, or go on with the same one."""
    if out.size(PLAN) is None:
        if out.names():
            raise UserError(out.url, "wanted a new or empty folder, found something else", "Choose another folder.")
        out.write_json(PLAN, plan)
        return
    was = out.read_json(PLAN)
    for field in sorted({*was, *plan}):
        if was.get(field) != plan.get(field):
            raise UserError(
                out.url,
                f"another export was begun in this folder: {field} was {was.get(field)}, is now {plan.get(field)}",
                "Give the same options to go on, or choose another folder.",
            )


def _write_tar(
    out: Folder, name: str, samples: Iterator[list[tuple[str, bytes]]], advance: Callable[[int], None]
) -> None:
    with out.written(name) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for members in samples:
            for member_name, content in members:
                member = tarfile.TarInfo(member_name)
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))
            advance(1)


def _samples(
    store: Store, selection: Selection, texts: list[_Texts], first: int, last: int, tally: Tally
) -> Iterator[list[tuple[str, bytes]]]:
    """The files of each row from `first` up to `last`."""
    folders = ["rows", selection.view.folder, *(folder for text in texts for folder in text.folders.values())]
    width = max(9, len(str(store.manifest.num_samples)))
    is_raw = selection.view.settings["encoding"] == "raw"
    for start, batches in read_batches(store, folders, first):
        if start >= last:
            return
        by_folder = dict(zip(folders, batches, strict=True))
        view = by_folder[selection.view.folder]
        images = view.column("image")
        records = _records(by_folder, selection, texts, start)
        for i in range(max(first - start, 0), min(last - start, len(view))):
            record = records[i]
            name = file_name(start + i, record["key"], width)
            captions = record["captions"][selection.source]
            tally.add(len(captions), selection.caption)
            text = captions[selection.caption % len(captions)] if captions else ""
            image = images[i].as_buffer().to_pybytes()
            if is_raw:
                image = b"P6 %d %d 255\n" % (record["width"], record["height"]) + image
            yield [
                (f"{name}.ppm" if is_raw else f"{name}.jpg", image),
                (f"{name}.txt", text.encode()),
                (f"{name}.json", json.dumps(record, sort_keys=True, ensure_ascii=False).encode()),
            ]


def file_name(row: int, key: str, width: int = 9) -> str:
    """A sample's name: letters, digits, `-` and `_` alone, the row's number first, at most 99 bytes with its ending."""
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", key[: 4 * _SLUG_LENGTH])[:_SLUG_LENGTH].strip("-")
    return f"{row:0{width}d}-{slug}".rstrip("-")


def _records(
    by_folder: dict[str, pa.RecordBatch], selection: Selection, texts: list[_Texts], start: int
) -> list[dict[str, Any]]:
    """What each row's `.json` holds."""
    facts = by_folder["rows"]
    view = by_folder[selection.view.folder]
    records: list[dict[str, Any]] = view.select([n for n in _OF_THE_COPY if n in view.schema.names]).to_pylist()
    for i, (record, fact) in enumerate(zip(records, facts.select(_OF_THE_ORIGINAL).to_pylist(), strict=True)):
        record |= {**fact, "index": start + i, "captions": {}, "tokens": {}, "priorities": {}}
    for text in texts:
        for kind, folder in text.folders.items():
            for record, found in zip(records, lists(by_folder[folder], kind), strict=True):
                record[kind][text.source] = found
    return records
