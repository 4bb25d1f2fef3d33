"""A folder of images, with their captions in files beside them.

    cats/one.jpg  cats/one.txt  cats/two.v2.png  cats/two.v2.json  ...

A key is an image's path in the folder without its last extension. Files whose names go on after the key and a dot
belong to the image: those that hold captions (`SourceOptions.captions`; usually the .txt, or "caption" in the .json)
are read, the others passed over. What belongs to no image is a reject: a caption without its image, a hidden file or
folder, a second image of one key. Links are followed to files in the folder, never out of it; links to folders are not
followed. A folder's own files come first, sorted by name, then those of its folders.

A part names a range of these items, so that listing costs time in each part but memory only for one folder's names. For
many millions of images, pack tars.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from prep.errors import UserError
from prep.pairs import Pair, Reason, Reject
from prep.remote import filesystem, is_url, told
from prep.sources.fields import CaptionFields, parse_facts, what_is_told
from prep.sources.names import IMAGE_EXTENSIONS, has_control, readable
from prep.sources.parts import Part, SourceOptions
from prep.sources.roots import Refused, Root


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_folder: bool
    is_link: bool
    size: int


@dataclass(slots=True)
class _Item:
    """An image and what belongs to it, or something that is a reject already. files: names by extension."""

    key: str
    image: str = ""
    files: dict[str, str] = field(default_factory=dict)
    num_bytes: int = 0
    fault: tuple[Reason, str] | None = None


def list_folder(url: str, options: SourceOptions) -> Iterator[Part]:
    """The parts of a folder of images, `rows_per_shard` items each."""
    items, name, first = _walk(url), url.rstrip("/").rpartition("/")[2], 0
    while batch := [item.num_bytes for item in islice(items, options.rows_per_shard)]:
        yield Part("folder", url, name, sum(batch), first, first + len(batch))
        first += len(batch)


def read_folder(part: Part, options: SourceOptions) -> Iterator[Pair | Reject]:
    """Yield the pairs and rejects of a part. Raises `UserError` when the disk or the network fails."""
    source, fields, root = readable(part.name), CaptionFields(options.captions), Root(part.url)
    num_read = 0
    for item in islice(_walk(part.url), part.first, part.last):
        num_read += 1
        yield _read(item, root, fields, options, source)
    if part.last is not None and num_read < part.last - part.first:
        problem = f"files that were there when the work began are gone: {part.last - part.first - num_read:,} fewer"
        raise UserError(part.url, problem, "Put them back, or build a new store.")


def _read(item: _Item, root: Root, fields: CaptionFields, options: SourceOptions, source: str) -> Pair | Reject:
    key = readable(item.key)
    if item.fault is not None:
        return Reject(key, *item.fault, source)
    texts: dict[str, bytes | None] = {}
    too_long, facts = "", dict[str, object]()
    for extension in sorted(fields.extensions & item.files.keys()):
        text = root.read(item.files[extension], options.max_caption_bytes)
        if isinstance(text, Refused) and text.reason is Reason.IMAGE_TOO_LARGE:
            texts[extension], too_long = None, text.detail
        elif isinstance(text, Refused):
            return Reject(key, _of_a_caption(text.reason), text.detail, source)
        else:
            texts[extension] = text
    if "json" in item.files and not fields.are_decided(texts, has_json=False):
        data = root.read(item.files["json"], options.max_caption_bytes)
        facts = {"error_message": data.detail} if isinstance(data, Refused) else parse_facts(data)
    captions = fields.collect(texts, facts)
    if not captions:
        reason = Reason.CAPTION_TOO_LONG if too_long else Reason.CAPTION_MISSING
        found = f"found only {', '.join(sorted(item.files))}{what_is_told(facts)}"
        return Reject(key, reason, readable(too_long or found), source)
    image = root.read(item.image, options.max_image_bytes)
    if isinstance(image, Refused):
        return Reject(key, image.reason, image.detail, source)
    return Pair(key, image, captions, source)


def _of_a_caption(reason: Reason) -> Reason:
    return Reason.CAPTION_MISSING if reason is Reason.IMAGE_MISSING else reason


def _walk(url: str) -> Iterator[_Item]:
    """Every item of a folder, in order."""
    waiting = [""]  # relative paths of folders, with a slash behind, the next one last
    while waiting:
        folder = waiting.pop()
        entries = sorted(_entries(url, folder), key=lambda entry: entry.name)
        yield from _items(folder, [entry for entry in entries if not entry.is_folder])
        inner = []
        for entry in entries:
            path = folder + entry.name
            if entry.is_folder and entry.is_link:
                yield _Item(path, fault=(Reason.NOT_A_FILE, "a link to a folder; these are not followed"))
            elif entry.is_folder and entry.name.startswith("."):
                yield _Item(path, fault=(Reason.IMAGE_MISSING, "a hidden folder"))
            elif entry.is_folder:
                inner.append(f"{path}/")
        waiting += reversed(inner)


def _items(folder: str, entries: list[_Entry]) -> Iterator[_Item]:
    """The items among the files of one folder, sorted by their first file's name."""
    items: dict[str, _Item] = {}
    strays: list[_Item] = []
    for entry in entries:
        key, _, extension = entry.name.rpartition(".")
        path = folder + entry.name
        if entry.name.startswith("."):
            strays.append(_Item(path, fault=(Reason.IMAGE_MISSING, "a hidden file")))
        elif has_control(entry.name):
            strays.append(_Item(path, fault=(Reason.UNSAFE_NAME, "control characters in a file's name")))
        elif key and extension.lower() in IMAGE_EXTENSIONS:
            if key in items:
                detail = f"{readable(entry.name)} comes beside {readable(items[key].image)}"
                strays.append(_Item(folder + key, fault=(Reason.DUPLICATE_KEY, detail)))
            else:
                items[key] = _Item(folder + key, path, {extension.lower(): path}, entry.size)
    for entry in entries:
        if entry.name.startswith(".") or has_control(entry.name):
            continue
        if entry.name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS and entry.name.rpartition(".")[0]:
            continue
        owner, extension = _owner(entry.name, items)
        own = items.setdefault(owner, _Item(folder + owner))
        own.files.setdefault(extension, folder + entry.name)
        own.num_bytes += entry.size
    for item in items.values():
        if not item.image:
            found = ", ".join(sorted(readable(extension) or "no extension" for extension in item.files))
            item.fault = Reason.IMAGE_MISSING, f"found only {found}"
    yield from sorted([*items.values(), *strays], key=lambda item: (item.key, item.fault is not None, item.fault or ()))


def _owner(name: str, items: dict[str, _Item]) -> tuple[str, str]:
    """(The key, the extension) of a file that is no image: the longest key of an image that its name goes on from."""
    end = len(name)
    while (end := name.rfind(".", 0, end)) > 0:
        if name[:end] in items and items[name[:end]].image:
            return name[:end], name[end + 1 :].lower()
    stem, dot, extension = name.rpartition(".")
    return (stem, extension.lower()) if dot else (name, "")


def _entries(url: str, folder: str) -> Iterator[_Entry]:
    if not is_url(url):
        with os.scandir(os.path.join(url, folder)) as found:
            for entry in found:
                size = entry.stat(follow_symlinks=False).st_size
                yield _Entry(entry.name, entry.is_dir(), entry.is_symlink(), size)
        return
    fs, root = filesystem(url)
    path = f"{root.rstrip('/')}/{folder}".rstrip("/")
    with told(url):
        listed = fs.ls(path, detail=True)
    for info in listed:
        name = info["name"].rstrip("/").rpartition("/")[2]
        if info["name"].rstrip("/") != path:
            yield _Entry(name, info["type"] == "directory", False, int(info.get("size") or 0))
