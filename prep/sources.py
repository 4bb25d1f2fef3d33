"""Sources: each is a generator of `Pair | Reject`. Here: webdataset tars, as img2dataset and webdataset write them.

    000000000.jpg  000000000.json  000000000.txt  000000001.jpg  ...

Members that stand side by side and share a key (folder, and file name up to its first dot) are a group; every group
ends as exactly one `Pair` or one `Reject`. Its image is the first member with one of IMAGE_EXTENSIONS; its caption is
the .txt, or without one the "caption" of the .json; other members are other columns and are passed over, and so are
folders. A group whose key came before is a DUPLICATE_KEY; so is, beside its group's end, each further member of one
extension. Hidden files, such as the `._` twin that macOS puts before each file, are rejects of their own and do not
part a group. The intact pairs of a cut tar are kept, and one SOURCE_CUT stands for the rest.

Nothing is extracted or unpickled, no name is used as a path, and no member larger than its limit enters memory.
webdataset's own reader was not taken: unless told otherwise it unpickles members and runs `pipe:` URLs as commands, and
it takes a cut tar for a shorter one.
"""

import glob
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prep.errors import UserError
from prep.pairs import Pair, Reason, Reject
from prep.tar import CutError, OpenTar, open_tar

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def list_tars(patterns: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that the patterns (`*`, `?`, `[...]`, `**`, `~`) match, each once, in natural order: 2 before 10.

    Raises `UserError` for a pattern that matches nothing or something other than files, and for no pattern at all.
    """
    patterns = [patterns] if isinstance(patterns, str | Path) else patterns
    found = {path for pattern in patterns for path in _expand(os.path.expanduser(pattern))}
    if not found:
        raise UserError("the input", "wanted at least one tar, got none", "Name tars, such as 'pairs/*.tar'.")
    return sorted(found, key=lambda path: (_natural(str(path)), str(path)))


def _expand(pattern: str) -> list[Path]:
    # A name may hold brackets without being a pattern.
    names = [pattern] if os.path.lexists(pattern) else glob.glob(pattern, recursive=True)
    if not names:
        raise UserError(pattern, "wanted tars, but nothing matches", "Check the path, and that tars lie there.")
    for name in names:
        if not os.path.isfile(name):
            kind = "a folder" if os.path.isdir(name) else "not a file"
            raise UserError(pattern, f"wanted tars, but {name} is {kind}", "Name files, such as 'pairs/*.tar'.")
    return [Path(name) for name in names]


def _natural(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def read_tar(path: Path, max_image_bytes: int = 64 << 20, max_caption_bytes: int = 1 << 20) -> Iterator[Pair | Reject]:
    """Yield a tar's pairs and rejects in its order. max_caption_bytes holds for a .txt and for a .json.

    Raises `UserError` when the file cannot be opened or read at all; whatever it holds ends as a pair or a reject.
    """
    source = _readable(path.name)
    seen: set[str] = set()
    group: _Group | None = None
    with open_tar(path) as archive:
        try:
            for member in archive.members():
                key, extension = _key_and_extension(member.name)
                danger = _danger(member.name)
                if extension is None:
                    reason = Reason.UNSAFE_NAME if danger else Reason.IMAGE_MISSING
                    yield Reject(key, reason, danger or "a hidden file", source)
                    continue
                if group is None or key != group.key:
                    if group is not None:
                        yield group.end()
                    group = _Group(key, source, max_image_bytes, max_caption_bytes)
                    if danger:
                        group.fault = Reason.UNSAFE_NAME, danger
                    elif key in seen:
                        group.fault = Reason.DUPLICATE_KEY, "came before; the members of a pair must stand side by side"
                    seen.add(key)
                if extension in group.extensions:
                    yield Reject(key, Reason.DUPLICATE_KEY, f"a further member with extension {extension!r}", source)
                else:
                    group.add(extension, member, archive)
        except CutError as cut:
            if group is not None and group.is_decided:
                yield group.end()
                group = None
            yield Reject(group.key if group else "", Reason.SOURCE_CUT, str(cut), source)
            return
    if group is not None:
        yield group.end()


@dataclass(slots=True)
class _Group:
    """What is known of one key so far. fault: why it can be no pair, if so."""

    key: str
    source: str
    max_image_bytes: int
    max_caption_bytes: int
    extensions: set[str] = field(default_factory=set)
    image: bytes | None = None
    caption: bytes | None = None
    facts: bytes = b"{}"
    fault: tuple[Reason, str] | None = None

    @property
    def is_decided(self) -> bool:
        return self.fault is not None or (self.image is not None and self.caption is not None)

    def add(self, extension: str, member: tarfile.TarInfo, archive: OpenTar) -> None:
        self.extensions.add(extension)
        if self.fault is not None:
            return
        if not member.isreg() or member.issparse():
            self.fault = Reason.NOT_A_FILE, f"{_readable(member.name)} is a link, a device or sparse"
        elif extension in IMAGE_EXTENSIONS and self.image is None:
            self.image = self._read(member, archive, self.max_image_bytes, Reason.IMAGE_TOO_LARGE)
        elif extension == "txt":
            self.caption = self._read(member, archive, self.max_caption_bytes, Reason.CAPTION_TOO_LONG)
        elif extension == "json" and member.size <= self.max_caption_bytes:
            self.facts = archive.read(member)

    def _read(self, member: tarfile.TarInfo, archive: OpenTar, limit: int, reason: Reason) -> bytes | None:
        if member.size > limit:
            self.fault = reason, f"{_readable(member.name)} has {member.size:,} bytes; at most {limit:,} are read"
            return None
        return archive.read(member)

    def end(self) -> Pair | Reject:
        """The pair, or why there is none; what the other members leave open is looked for in the .json."""
        if not self.is_decided:
            try:
                facts = json.loads(self.facts)
                if not isinstance(facts, dict):
                    raise ValueError(f"wanted an object, found a {type(facts).__name__}")
            except (ValueError, RecursionError) as error:
                # Its own damage is no reason by itself: it becomes the detail of what is missing for it.
                facts = {"error_message": f"the .json is damaged: {error}"}
            self._complete(facts)
        if self.fault is None and self.image is not None and self.caption is not None:
            return Pair(self.key, self.image, (self.caption,), self.source)
        assert self.fault is not None
        return Reject(self.key, *self.fault, self.source)

    def _complete(self, facts: dict[str, object]) -> None:
        found = ", ".join(sorted(self.extensions))
        told = "".join(f"; {name} {facts[name]!r:.200}" for name in ("status", "error_message") if facts.get(name))
        caption = facts.get("caption")
        if self.image is None:
            self.fault = Reason.IMAGE_MISSING, f"found only {found}{told}"
        elif isinstance(caption, str):
            # JSON can spell a lone surrogate, which UTF-8 cannot: it stays wrong, for whoever decodes the caption.
            self.caption = caption.encode("utf-8", "surrogatepass")
        else:
            self.fault = Reason.CAPTION_MISSING, f"found only {found}{told}"


def _readable(name: str) -> str:
    """A name fit for a column and for a screen: bytes that are not UTF-8 and control characters are spelt out."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _key_and_extension(name: str) -> tuple[str, str | None]:
    """(Folder and file name up to its first dot, the rest in lower case); a hidden file is all key."""
    name = _readable(name)
    while name.startswith("./"):
        name = name[2:]
    folder, slash, base = name.rpartition("/")
    if base.startswith("."):
        return name, None
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def _danger(name: str) -> str | None:
    """Why this name would be unsafe as a path. Nothing here uses it as one, but keys travel on."""
    parts = re.split(r"[/\\]", name)
    if _CONTROL.search(name):
        return "control characters in a member's name"
    if ".." in parts:
        return "a member's name climbs out of its folder"
    if len(parts) > 1 and re.fullmatch(r"([A-Za-z]:)?", parts[0]):
        return "a member's name is absolute"
    return None
