"""The members of a tar, as a stream, none of them lost in silence.

The standard library's tarfile parses the headers (`tar_headers` those of the commonest kind), but its TarFile is not
iterated: that takes a damaged or missing header for the end of the archive. Here a tar is whole only if it ends with
two blocks of zeros, as POSIX wants and every writer does, and then nothing but padding; anything else is a `CutError`,
raised after the members before it. Plain and gzipped tars are read, however long, in little memory, from the disk or a
URL; one made by an enemy costs no more than an error.
"""

import gzip
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from prep.errors import UserError
from prep.places import open_input
from prep.sources.tar_headers import plain_member

# For one member's header with all its extensions; the longest path is 4 KiB. tarfile's memory and, before Python
# 3.11.10 and 3.12.6, its time (CVE-2024-6232) grow with the square of it.
_MAX_HEADER_BYTES = 32 << 10
# Deflate shrinks zeros 1,032-fold, JPEG not at all, short captions in their 512-byte blocks some tens of times.
_MAX_EXPANSION = 100
# tarfile pads to 10 KiB. Megabytes of zeros are a file whose space was reserved and whose download stopped.
_MAX_PADDING_BYTES = 1 << 20


class CutError(Exception):
    """The tar ends or breaks where it must not. The message tells the offset of the broken member, uncompressed."""


class _Reader(io.BufferedIOBase):
    """A tar's bytes, uncompressed. A read that is not whole or not allowed raises, and so does a seek beyond `end`."""

    def __init__(self, file: BinaryIO, end: int, beyond: str) -> None:
        self._file, self._end, self._beyond = file, end, beyond
        self._peeked = b""
        self.allowance = 0

    def tell(self) -> int:
        return self._file.tell() - len(self._peeked)

    def peek(self, size: int) -> bytes:
        """The next bytes, up to a few blocks, or fewer at the end; they will be read again."""
        if len(self._peeked) < size:
            self._peeked += self._file.read(size - len(self._peeked))
        return self._peeked

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        if position > self._end:
            raise tarfile.ReadError(self._beyond)
        self._peeked = b""
        return self._file.seek(position, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.allowance:
            raise tarfile.ReadError(f"{size} bytes are asked for, where {self.allowance:,} are allowed")
        self.allowance -= size
        peeked, self._peeked = self._peeked[:size], self._peeked[size:]
        data = peeked + self._file.read(size - len(peeked)) if peeked else self._file.read(size)
        if len(data) < size:
            raise tarfile.ReadError("the file ends early")
        return data

    def check_end(self) -> None:
        """Raise unless the second block of zeros and a sensible amount of padding follow, and then nothing."""
        if any(self.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("one block of zeros, where two end an archive")
        num_bytes = 0
        while chunk := self._file.read(1 << 16):
            num_bytes += len(chunk)
            if any(chunk):
                raise tarfile.ReadError("more data follow the end of the archive")
            if num_bytes > _MAX_PADDING_BYTES:
                raise tarfile.ReadError("zeros follow the end of the archive, as where a download stopped")


class OpenTar:
    """The members of an open tar, one after the other. Everything that is wrong with it is a `CutError`."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        # What tarfile's parser keeps between headers. It is opened on an empty archive because it reads ahead.
        self._parser = tarfile.TarFile(
            fileobj=io.BytesIO(bytes(2 * tarfile.BLOCKSIZE)), encoding="utf-8", errors="surrogateescape"
        )
        self._parser.fileobj, self._parser.offset = reader, 0
        self._offset = 0

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Every member but folders, in order; returns at a proper end. In names, bytes not UTF-8 are surrogates."""
        while member := self._next():
            if not member.isdir():
                yield member

    def read(self, member: tarfile.TarInfo) -> bytes:
        """The bytes of the latest of `members`; once."""
        with self._checked():
            self._reader.allowance = member.size
            return self._reader.read(member.size)

    def _next(self) -> tarfile.TarInfo | None:
        self._offset = self._parser.offset
        with self._checked():
            self._reader.allowance = _MAX_HEADER_BYTES
            self._reader.seek(self._offset)
            plain = None if self._parser.pax_headers else plain_member(self._reader.peek)
            if plain is not None:
                member, num_bytes = plain
                self._reader.read(num_bytes)
                self._parser.offset = self._offset + num_bytes + member.size + -member.size % tarfile.BLOCKSIZE
                return member
            try:
                member = tarfile.TarInfo.fromtarfile(self._parser)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
                self._reader.check_end()
                return None
            if self._parser.offset <= self._offset:
                raise tarfile.ReadError("a member of negative size")
            if "size" in self._parser.pax_headers:
                # tarfile reads by it and goes on by the members' own.
                raise tarfile.ReadError("a size for all members")
            return member

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (UserError, MemoryError):
            raise  # the network's trouble, or this process's
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's trouble, not the tar's
            # Damage is told by TarError, EOFError, zlib.error, ValueError and more, out of tarfile and gzip.
            raise CutError(f"broken at byte {self._offset:,}: {type(error).__name__}: {error}") from error


@contextmanager
def open_tar(url: str) -> Iterator[OpenTar]:
    """Open a tar or a gzipped tar: a path or a URL. Raises `UserError` when it cannot be opened or read at all."""
    try:
        with open_input(url) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if is_gzip:
                with gzip.open(file) as inflated:
                    end = _MAX_EXPANSION * size + (64 << 20)
                    yield OpenTar(_Reader(cast(BinaryIO, inflated), end, f"it grows more than {_MAX_EXPANSION}-fold"))
            else:
                yield OpenTar(_Reader(file, size, "a member reaches beyond the end of the file"))
    except OSError as error:
        raise UserError(url, f"wanted a tar that can be read, but {error}", "Check it and run again.") from error
