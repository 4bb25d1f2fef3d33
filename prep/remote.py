"""Files elsewhere than on the local disk, through fsspec, which is imported when the first URL is met.

A URL names the filesystem (`s3://bucket/pairs`, `gs://...`, `https://...`); what it needs to know besides (keys, the
address of a server of one's own) it finds where its tools look for it, such as AWS_PROFILE and AWS_ENDPOINT_URL, or in
the files and variables of fsspec's own configuration. Whatever goes wrong elsewhere is a `UserError`.
"""

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from prep.errors import UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# fsspec's filesystems come without types.
FileSystem = Any

_BLOCK_BYTES = 8 << 20
_UPLOAD = {"chunksize": 16 << 20, "max_concurrency": 4}
"""For S3. The defaults hold ten parts of 50 MiB in memory."""
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"})
"""Where an object has its name only once it is whole. Elsewhere an upload is given another name first."""


def is_url(place: str) -> bool:
    """Whether a place is a URL of something that is not on the local disk; `file://` is."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.\-]*(::|://)", place) is not None and not place.startswith("file://")


def local_path(place: str) -> str:
    """A local place as a path: without `file://`, `~` filled in."""
    return os.path.expanduser(place.removeprefix("file://"))


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn whatever a filesystem raises into a `UserError` about `url`. Only its own calls belong into the body."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        problem = f"no such file, folder or bucket: {error}"
        raise UserError(url, problem, "Check the URL; a bucket has to be made first.") from error
    except PermissionError as error:
        remedy = "Check the credentials (for S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret) and their rights."
        raise UserError(url, f"access denied: {error}", remedy) from error
    except Exception as error:
        # Each filesystem has errors of its own, of libraries that are not imported here.
        problem = f"{type(error).__name__}: {error}"
        raise UserError(url, problem, "Check the network, the URL and the credentials, and run again.") from error


def filesystem(url: str) -> tuple[FileSystem, str]:
    """The filesystem of a URL and the path there. Listings are not cached: others write there too.

    Raises `UserError` for an unknown protocol or one whose package is missing.
    """
    if "::" in url:
        # fsspec would take it for a chain of filesystems, and an object's name may hold it.
        raise UserError(url, "wanted one protocol, found a chain of them", "Give a plain URL, such as s3://bucket/x.")
    protocol = url.partition("://")[0]
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UserError(url, f"protocol {protocol} wants a package: {error}", "Install it with pip.") from error
    except ValueError as error:
        problem = f"protocol {protocol} is not known: {error}"
        raise UserError(url, problem, "Use one that fsspec has, such as s3, gs, abfs or https.") from error
    return fs, path


def url_of(fs: FileSystem, path: str) -> str:
    """The URL of a path that a filesystem gave."""
    return cast(str, fs.unstrip_protocol(path))


class _RemoteFile(io.RawIOBase):
    """A file elsewhere, read-only. Trouble on the way is told as such: never as the end or the damage of a file."""

    def __init__(self, url: str, file: BinaryIO) -> None:
        self._url, self._file = url, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        with told(self._url):
            return self._file.seek(position, whence)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        with told(self._url):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def open_remote(url: str) -> Iterator[BinaryIO]:
    """Open a URL for reading: seekable, fetched in blocks of 8 MiB as they are asked for."""
    fs, path = filesystem(url)
    with told(url):
        file = fs.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
    with io.BufferedReader(_RemoteFile(url, file), 1 << 16) as buffered:
        yield cast(BinaryIO, buffered)


@contextmanager
def uploaded(url: str) -> Iterator[BinaryIO]:
    """A local temporary file (in TMPDIR) that on leaving well is uploaded whole; before that nothing is visible."""
    fs, path = filesystem(url)
    with tempfile.NamedTemporaryFile(prefix="upload-") as file:
        yield cast(BinaryIO, file)
        file.flush()
        with told(url):
            _put(fs, url, file.name, path)


def _put(fs: FileSystem, url: str, local: str, path: str) -> None:
    protocol = url.partition("://")[0]
    if protocol in _OBJECT_STORES:
        fs.put_file(local, path, **(_UPLOAD if protocol in ("s3", "s3a") else {}))
        return
    folder, _, name = path.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    # Moving takes brackets in a name for a pattern.
    aside = f"{folder}/.{hashlib.sha256(name.encode()).hexdigest()[:16]}.{os.getpid()}.tmp"
    try:
        fs.put_file(local, aside)
        fs.mv(aside, path)
    finally:
        if fs.exists(aside):
            fs.rm_file(aside)
