"""COCO and Flickr30k as Karpathy split them: one JSON file of captions beside a folder of images.

    {"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000391895.jpg", "split": "test",
                 "sentences": [{"raw": "A man with a red helmet on a small moped on a dirt road."}, ...]}, ...]}

`filepath` may be missing; other keys are passed over. Nothing outside of the folder of images is opened: a name that is
absolute, climbs out, or leads out over a link is counted and named like an image that is not there.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.captioned_set import CaptionedFiles, Listing, checked, with_words
from eval.labelled_folder import read_pixels
from eval.labelled_set import Job, Unreadable, digest, stamp
from prep.errors import UserError
from prep.files import as_json
from prep.labelled_files import readable

_SHAPE = (
    'Wanted {"images": [{"filename": ..., "split": ..., "sentences": [{"raw": ...}]}]}, as dataset_coco.json has it.'
)


@dataclass(frozen=True, slots=True)
class _Files:
    files: tuple[Path, ...]

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        return (partial(read_pixels, self.files[place]) for place in places)

    def named(self, place: int) -> Path:
        return Path(readable(str(self.files[place])))


def open_karpathy(path: Path, images: Path | None = None, split: str = "test", which: str = "all") -> CaptionedFiles:
    """List one split's images and captions. images: the folder of images; None: the one that the JSON lies in.

    which: of `eval.captioned_set.CAPTIONS`. Raises `UserError` when the file is not of this shape, has no such split
    (the message lists those that it has), the folder is none, or no image with a caption is there.
    """
    folder = (images or path.parent).resolve()
    if not folder.is_dir():
        raise UserError(str(folder), "wanted the folder of the images, found none", "Name it with --images.")
    entries = _entries(path)
    splits = Counter(str(entry.get("split")) for entry in entries)
    inside = [entry for entry in entries if entry.get("split") == split]
    if not inside:
        held = ", ".join(f"{name} ({num:,} images)" for name, num in sorted(splits.items())) or "none"
        raise UserError(str(path), f"wanted the split {split!r}, but it holds {held}", "Choose one with --split.")
    files: list[Path] = []
    names: list[str] = []
    texts: list[tuple[str, ...]] = []
    faults: list[Unreadable] = []
    num_empty = lost = 0
    for entry in inside:
        captions, empty = with_words(_sentences(entry), which)
        num_empty += empty
        file = _file(folder, entry)
        problem = file if isinstance(file, str) else "" if captions else "has no caption"
        if isinstance(file, str) or problem:
            faults.append(Unreadable(_name(entry), problem))
            lost += len(captions)
            continue
        files.append(file)
        names.append(_name(entry))
        texts.append(captions)
    parts = [part for file, own in zip(files, texts, strict=True) for part in (str(file), stamp(file), *own)]
    sizes = [str(file.stat().st_size) for file in files]
    told = zip(names, sizes, map(as_json, texts), strict=True)
    content = digest(["karpathy", *(part for image in told for part in image)])
    listing = Listing(tuple(texts), tuple(faults), num_empty, lost)
    opened = CaptionedFiles(path, listing, _Files(tuple(files)), digest(["karpathy", *parts]), content)
    return checked(opened, f"images of the split {split!r} under {folder}")


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(str(path), f"wanted a JSON file of captions, but {error}", _SHAPE) from error
    entries = value.get("images") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(str(path), "wanted a list of objects under the key images, found none", _SHAPE)
    if not any("sentences" in entry for entry in entries):
        raise UserError(str(path), f"none of its {len(entries):,} images has the key sentences", _SHAPE)
    return entries


def _sentences(entry: dict[str, Any]) -> list[str]:
    """The captions; what is none counts as an empty one."""
    sentences = entry.get("sentences")
    if not isinstance(sentences, list):
        return []
    raw = [sentence.get("raw") if isinstance(sentence, dict) else None for sentence in sentences]
    return [text if isinstance(text, str) else "" for text in raw]


def _name(entry: dict[str, Any]) -> str:
    folder, name = entry.get("filepath", ""), entry.get("filename")
    return readable(f"{folder}/{name}" if folder else f"{name}")


def _file(folder: Path, entry: dict[str, Any]) -> Path | str:
    """The image's file, or why there is none. folder: resolved."""
    if not isinstance(entry.get("filename"), str) or not isinstance(entry.get("filepath", ""), str):
        return "has no file name"
    try:
        file = (folder / entry.get("filepath", "") / entry["filename"]).resolve()
        if not file.is_relative_to(folder):
            return f"leads out of {folder}"
        return file if file.is_file() else "is not there"
    except (OSError, ValueError, RuntimeError) as error:
        return f"is no name of a file: {error}"
