"""Images and their labels in webdataset tars: KEY.jpg beside KEY.cls, a whole number, or KEY.txt, a class's name.

A tar is passed over once for its headers and labels, and again for the images that are wanted. What `prep.sources.tars`
says of hostile tars holds here too: members are groups that stand side by side, nothing is extracted, no name is used
as a path, and no member larger than its limit enters memory.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prep.errors import UserError
from prep.image_limits import ImageLimits
from prep.sources.names import IMAGE_EXTENSIONS, danger, readable
from prep.sources.tar import CutError, OpenTar, open_tar
from prep.sources.tars import key_and_extension

LABEL_EXTENSIONS = ("cls", "txt")
_MAX_LABEL_BYTES = 4096
_MAX_IMAGE_BYTES = ImageLimits().max_bytes


@dataclass(frozen=True, slots=True)
class LabelledMember:
    """An image of a tar. member: its place among the members that are no folders. labels: its texts by extension."""

    key: str
    member: int
    labels: dict[str, str]


@dataclass(slots=True)
class _Group:
    key: str
    extensions: set[str]
    labels: dict[str, str]
    image: int | None = None
    fault: str = ""


def list_tar(url: str) -> tuple[list[LabelledMember], list[tuple[str, str]]]:
    """The images of a tar in its order; and what is none, as (key, why), each named once.

    Raises `UserError` when the tar cannot be opened or read at all.
    """
    images: list[LabelledMember] = []
    faults: list[tuple[str, str]] = []
    group: _Group | None = None
    seen: set[str] = set()
    last_is_image = False

    def end(group: _Group | None) -> None:
        if group is not None and not group.fault and group.image is None:
            group.fault = f"no image: found only {', '.join(sorted(group.extensions))}"
        if group is not None and group.fault:
            faults.append((group.key, group.fault))
        elif group is not None and group.image is not None:
            images.append(LabelledMember(group.key, group.image, group.labels))

    with open_tar(url) as archive:
        try:
            for place, member in enumerate(archive.members()):
                key, extension = key_and_extension(member.name)
                if extension is None:
                    faults.append((key, "a hidden file"))
                    continue
                if group is None or key != group.key:
                    end(group)
                    group = _Group(key, set(), {}, fault=danger(member.name) or ("comes again" if key in seen else ""))
                    seen.add(key)
                last_is_image = _add(group, place, member, extension, archive)
        except CutError as cut:
            if group is not None and last_is_image:
                group.fault = "the tar breaks in it or after it"
            end(group)
            return images, [*faults, ("", f"the tar is {cut}; what follows is lost")]
    end(group)
    return images, faults


def _add(group: _Group, place: int, member: tarfile.TarInfo, extension: str, archive: OpenTar) -> bool:
    """Note one member; whether it is the group's image, whose bytes were not looked at."""
    if extension in group.extensions:
        group.fault = group.fault or f"a further member with extension {extension!r}"
    group.extensions.add(extension)
    is_image = extension in IMAGE_EXTENSIONS and group.image is None
    if not is_image and extension not in LABEL_EXTENSIONS:
        return False
    limit = _MAX_IMAGE_BYTES if is_image else _MAX_LABEL_BYTES
    if not member.isreg() or member.issparse():
        group.fault = group.fault or f"{readable(member.name)} is a link, a device or sparse"
    elif member.size > limit:
        group.fault = group.fault or f"{readable(member.name)} has {member.size:,} bytes; at most {limit:,} are read"
    elif is_image:
        group.image = place
    else:
        group.labels[extension] = readable(archive.read(member).decode("utf-8", "surrogateescape").strip())
    return is_image


def read_members(url: str, members: Sequence[int]) -> Iterator[bytes]:
    """The bytes of these members, whose places are ascending, as `list_tar` gave them.

    Raises `UserError` when the tar is not the one that was listed any more.
    """
    wanted = iter(members)
    place = next(wanted, None)
    try:
        with open_tar(url) as archive:
            for number, member in enumerate(archive.members()):
                if number != place:
                    continue
                if not member.isreg() or member.size > _MAX_IMAGE_BYTES:
                    break
                yield archive.read(member)
                if (place := next(wanted, None)) is None:
                    return
    except CutError as cut:
        raise UserError(url, f"it is {cut}, and was not before", "Restore it and run again.") from cut
    if place is not None:
        raise UserError(url, "it has changed since it was listed", "Run again.")
