"""The header that nearly every member of a webdataset tar has, read several times as fast as tarfile reads it.

`plain_member` knows one kind: a file with a short name, whose checksum is right, with nothing before it but the times
that webdataset's writer puts into an extended header. For all else it knows nothing, and tarfile is asked.
"""

import re
import tarfile
from collections.abc import Callable

_BLOCK = tarfile.BLOCKSIZE
_OCTAL = re.compile(rb"[0-7]{11}[\0 ]")
_CHECKSUM = re.compile(rb"[0 ]*([0-7]{1,6})[\0 ]+")
# One record: its length, then what says nothing of the name, the size or the kind of the member.
_TIMES = re.compile(rb"(?:([0-9]{2}) [acm]time=[0-9]{1,12}(?:\.[0-9]{1,12})?\n)\0*")


def plain_member(peek: Callable[[int], bytes]) -> tuple[tarfile.TarInfo, int] | None:
    """The member and the number of bytes of its headers, or None for one that is not as plain as that.

    peek: gives that many of the next bytes, fewer at the end, and does not consume them.
    """
    start = 0
    block = peek(_BLOCK)
    if block[156:157] == tarfile.XHDTYPE:
        if not _is_sound(block) or int(block[124:135], 8) > _BLOCK:
            return None
        block = peek(3 * _BLOCK)
        times = _TIMES.fullmatch(block, _BLOCK, 2 * _BLOCK)
        if times is None or not int(times[1]) == int(block[124:135], 8) == len(times[0].rstrip(b"\0")):
            return None
        start, block = 2 * _BLOCK, block[2 * _BLOCK :]
    # A prefix is the front of a long name.
    if block[156:157] != tarfile.REGTYPE or not _is_sound(block) or block[345]:
        return None
    member = tarfile.TarInfo(block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape"))
    member.size = int(block[124:135], 8)
    return member, start + _BLOCK


def _is_sound(block: bytes) -> bool:
    """Whether a header's size is plain and its checksum right."""
    checksum = _CHECKSUM.fullmatch(block, 148, 156)
    if len(block) != _BLOCK or checksum is None or _OCTAL.fullmatch(block, 124, 136) is None:
        return False
    return sum(block) - sum(block[148:156]) + 8 * 32 == int(checksum[1], 8)
