"""A folder that files are read out of by name, whatever the name: nothing outside it, no devices, within a limit."""

import errno
import os
import posixpath
import stat
from dataclasses import dataclass

from prep.errors import UserError
from prep.pairs import Reason
from prep.remote import filesystem, is_url, local_path, told
from prep.sources.names import has_control, readable

# What is wrong with the name, not with the disk.
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES})


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file was not read. The reasons are those of an image: IMAGE_MISSING, IMAGE_TOO_LARGE ..."""

    reason: Reason
    detail: str


class Root:
    """The files in a folder: a local path or a URL. Links within it are followed."""

    def __init__(self, url: str) -> None:
        self.url = url if is_url(url) else os.path.realpath(local_path(url))

    def read(self, name: str, limit: int) -> bytes | Refused:
        """The bytes of a file. name: relative to the folder, or absolute but in it; limit: in bytes, at most.

        Raises `UserError` when the disk or the network fails.
        """
        if has_control(name):
            return Refused(Reason.UNSAFE_NAME, f"control characters in the path {readable(name)[:200]}")
        if name.startswith(("http://", "https://")) and not name.startswith(self.url + "/"):
            return Refused(Reason.IMAGE_MISSING, f"{name[:200]} is a URL: python -m prep.fetch downloads images")
        return self._read_remote(name, limit) if is_url(self.url) else self._read_local(name, limit)

    def _read_local(self, name: str, limit: int) -> bytes | Refused:
        shown = readable(name)[:200]
        try:
            path = os.path.realpath(os.path.join(self.url, name))
            if os.path.commonpath([path, self.url]) != self.url:
                return Refused(Reason.UNSAFE_NAME, f"{shown} leads out of the folder")
            # Opening a device can have effects, so it is looked at first; a pipe put in its place would not block.
            if not stat.S_ISREG(os.stat(path).st_mode):
                return Refused(Reason.NOT_A_FILE, f"{shown} is not a file")
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                return file.read(size) if size <= limit else _too_large(shown, size, limit)
        except OSError as error:
            if error.errno in _NO_FILE:
                return Refused(Reason.IMAGE_MISSING, f"{shown}: {(error.strerror or 'no such file').lower()}")
            raise UserError(self.url, f"{shown} cannot be read: {error}", "Check the disk and run again.") from error

    def _read_remote(self, name: str, limit: int) -> bytes | Refused:
        shown = readable(name)[:200]
        inner = name.removeprefix(self.url + "/")
        if is_url(inner) or posixpath.normpath(inner).split("/")[0] in ("", ".."):
            return Refused(Reason.UNSAFE_NAME, f"{shown} leads out of the folder")
        fs, root = filesystem(self.url)
        path = f"{root.rstrip('/')}/{posixpath.normpath(inner)}"
        with told(self.url):
            try:
                info = fs.info(path)
                if info["type"] != "file":
                    return Refused(Reason.NOT_A_FILE, f"{shown} is not a file")
                if info["size"] is not None and info["size"] > limit:
                    return _too_large(shown, info["size"], limit)
                data: bytes = fs.cat_file(path) if info["size"] else b""
            except FileNotFoundError:
                return Refused(Reason.IMAGE_MISSING, f"{shown}: no such file")
        return _too_large(shown, len(data), limit) if len(data) > limit else data


def _too_large(shown: str, size: int, limit: int) -> Refused:
    return Refused(Reason.IMAGE_TOO_LARGE, f"{shown} has {size:,} bytes; at most {limit:,} are read")
