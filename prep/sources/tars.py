"""Webdataset tars, as img2dataset and webdataset write them.

    000000000.jpg  000000000.json  000000000.txt  000000001.jpg  ...

Members that stand side by side and share a key (folder, and file name up to its first dot) are a group; every group
ends as exactly one `Pair` or one `Reject`. Its image is the first member with one of IMAGE_EXTENSIONS; its captions are
where the options say; other members are other columns and are passed over, and so are folders. A group whose key came
before is a DUPLICATE_KEY; so is, beside its group's end, each further member of one extension. Hidden files, such as
the `._` twin that macOS puts before each file, are rejects of their own and do not part a group. The intact pairs of a
cut tar are kept, and one SOURCE_CUT stands for the rest. What img2dataset could not download is in a parquet file
beside the tar; see `prep.sources.failures`.

Nothing is extracted or unpickled, no name is used as a path, and no member larger than its limit enters memory.
webdataset's own reader was not taken: unless told otherwise it unpickles members and runs `pipe:` URLs as commands, and
it takes a cut tar for a shorter one.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from prep.pairs import Pair, Reason, Reject
from prep.sources.failures import read_failures
from prep.sources.fields import CaptionFields, parse_facts, what_is_told
from prep.sources.names import IMAGE_EXTENSIONS, danger, readable
from prep.sources.parts import Part, SourceOptions
from prep.sources.tar import CutError, OpenTar, open_tar

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def read_tar(part: Part, options: SourceOptions) -> Iterator[Pair | Reject]:
    """Yield a tar's pairs and rejects in its order, then what img2dataset could not download.

    Raises `UserError` when the file cannot be opened or read at all; whatever it holds ends as a pair or a reject.
    """
    seen: set[str] = set()
    yield from _read_members(part, options, seen)
    for suffix in TAR_SUFFIXES:
        if part.url.endswith(suffix):
            yield from read_failures(part.url.removesuffix(suffix) + ".parquet", seen, readable(part.name))


def _read_members(part: Part, options: SourceOptions, seen: set[str]) -> Iterator[Pair | Reject]:
    source, fields = readable(part.name), CaptionFields(options.captions)
    group: _Group | None = None
    with open_tar(part.url) as archive:
        try:
            for member in archive.members():
                key, extension = key_and_extension(member.name)
                why = danger(member.name)
                if extension is None:
                    reason = Reason.UNSAFE_NAME if why else Reason.IMAGE_MISSING
                    yield Reject(key, reason, why or "a hidden file", source)
                    continue
                if group is None or key != group.key:
                    if group is not None:
                        yield group.end()
                    group = _Group(key, source, fields, options)
                    if why:
                        group.fault = Reason.UNSAFE_NAME, why
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
    """What is known of one key so far.

    texts: captions by extension, None for one that is too long. facts: the .json. fault: why there can be no pair.
    """

    key: str
    source: str
    fields: CaptionFields
    options: SourceOptions
    extensions: set[str] = field(default_factory=set)
    image: bytes | None = None
    texts: dict[str, bytes | None] = field(default_factory=dict)
    facts: bytes | None = None
    too_long: str = ""
    fault: tuple[Reason, str] | None = None

    @property
    def is_decided(self) -> bool:
        if self.fault is not None:
            return True
        return self.image is not None and self.fields.are_decided(self.texts, self.facts is not None)

    def add(self, extension: str, member: tarfile.TarInfo, archive: OpenTar) -> None:
        self.extensions.add(extension)
        if self.fault is not None:
            return
        max_text = self.options.max_caption_bytes
        if not member.isreg() or member.issparse():
            self.fault = Reason.NOT_A_FILE, f"{readable(member.name)} is a link, a device or sparse"
        elif extension in IMAGE_EXTENSIONS and self.image is None:
            if member.size > self.options.max_image_bytes:
                self.fault = Reason.IMAGE_TOO_LARGE, _too_large(member, self.options.max_image_bytes)
            else:
                self.image = archive.read(member)
        elif extension in self.fields.extensions:
            self.texts[extension] = archive.read(member) if member.size <= max_text else None
            if member.size > max_text:
                self.too_long = _too_large(member, max_text)
        elif extension == "json":
            self.facts = archive.read(member) if member.size <= max_text else b"{}"

    def end(self) -> Pair | Reject:
        """The pair, or why there is none."""
        if self.fault is not None:
            return Reject(self.key, *self.fault, self.source)
        is_json_needed = self.image is None or not self.fields.are_decided(self.texts, has_json=False)
        facts = parse_facts(self.facts) if self.facts and is_json_needed else {}
        captions = self.fields.collect(self.texts, facts)
        found = f"found only {', '.join(sorted(self.extensions))}{what_is_told(facts)}"
        if self.image is None:
            return Reject(self.key, Reason.IMAGE_MISSING, found, self.source)
        if not captions:
            reason = Reason.CAPTION_TOO_LONG if self.too_long else Reason.CAPTION_MISSING
            return Reject(self.key, reason, self.too_long or found, self.source)
        return Pair(self.key, self.image, captions, self.source)


def _too_large(member: tarfile.TarInfo, limit: int) -> str:
    return f"{readable(member.name)} has {member.size:,} bytes; at most {limit:,} are read"


def key_and_extension(name: str) -> tuple[str, str | None]:
    """(Folder and file name up to its first dot, the rest in lower case); a hidden file is all key."""
    name = readable(name)
    while name.startswith("./"):
        name = name[2:]
    folder, slash, base = name.rpartition("/")
    if base.startswith("."):
        return name, None
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()
