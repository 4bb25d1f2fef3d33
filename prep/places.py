"""Places: where inputs are found and where a store lies, on the local disk or at any URL that fsspec knows.

`Folder` is a folder that programs write into; nothing half-written ever has a final name in it. On the local disk that
is `prep.files`' doing; elsewhere a file is written locally and uploaded whole. `expand` finds inputs, `open_input`
opens them.
"""

import fcntl
import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from prep import remote
from prep.errors import UserError
from prep.files import as_json, read_json, working_in, write_json, written_aside
from prep.remote import filesystem, is_url, local_path, told

_HALF_WRITTEN = re.compile(r"\..*\.tmp")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, there or not yet; `name`s are relative to it, with slashes. Make it with `Folder.of`; it pickles.

    Its methods raise `UserError` for what a filesystem elsewhere refuses, and OSError for what the local disk does.
    """

    url: str

    @classmethod
    def of(cls, place: str | Path) -> "Folder":
        """The folder at a local path or a URL. Nothing is looked up or made yet.

        Raises `UserError` for a protocol that is not known, or whose package is missing.
        """
        if isinstance(place, Path) or not is_url(place):
            return cls(str(Path(local_path(str(place)))))
        filesystem(place)
        return cls(place.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether it is on the local disk."""
        return not is_url(self.url)

    @property
    def path(self) -> Path:
        """Its path; only of a local one."""
        assert self.is_local, f"{self.url} has no local path"
        return Path(self.url)

    def at(self, name: str) -> str:
        """The local path or URL of a file in it. Raises `UserError` for a name that would leave the folder."""
        if name.startswith("/") or ".." in name.split("/"):
            raise UserError(self.url, f"the name {name!r} leads out of the folder", "Restore the file that names it.")
        return str(self.path / name) if self.is_local else f"{self.url}/{name}".rstrip("/")

    def size(self, name: str) -> int | None:
        """A file's size in bytes, or None when there is no such file."""
        return size_of(self.at(name))

    def sizes(self, subfolder: str = "") -> dict[str, int | None]:
        """The size of each file directly in a subfolder, and None for each folder, by name in order; {} without it.

        One request, where `size` takes one a file. What a killed program left half-written is passed over.
        """
        at = self.at(subfolder)
        found: dict[str, int | None]
        if self.is_local:
            entries = os.scandir(at) if os.path.isdir(at) else ()
            found = {entry.name: entry.stat().st_size if entry.is_file() else None for entry in entries}
        else:
            fs, path = filesystem(at)
            with told(at):
                try:
                    listed = fs.ls(path, detail=True)
                except FileNotFoundError:
                    listed = []
            # Some stores list a folder's own name in it.
            listed = [info for info in listed if info["name"].rstrip("/") != path.rstrip("/")]
            found = {
                info["name"].rstrip("/").rpartition("/")[2]: info["size"] if info["type"] == "file" else None
                for info in listed
            }
        return {name: found[name] for name in sorted(found) if not _HALF_WRITTEN.fullmatch(name)}

    def names(self, subfolder: str = "") -> list[str]:
        """The names of what lies directly in a subfolder, in order; none when it is not there."""
        return list(self.sizes(subfolder))

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for reading."""
        return open_input(self.at(name))

    def read_bytes(self, name: str) -> bytes:
        """A file's bytes."""
        with self.open(name) as file:
            return file.read()

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON object that this project wrote. Raises `UserError` when it is damaged."""
        if self.is_local:
            return read_json(self.path / name)
        try:
            value = json.loads(self.read_bytes(name))
        except ValueError as error:
            raise UserError(
                self.at(name), f"wanted a JSON object, but {error}", "Restore it or build again."
            ) from error
        if not isinstance(value, dict):
            raise UserError(self.at(name), f"wanted a JSON object, found a {type(value).__name__}", "Build again.")
        return value

    def write_json(self, name: str, value: object) -> None:
        """Write JSON atomically; see `prep.files.as_json`."""
        if self.is_local:
            write_json(self.path / name, value)
            return
        with self.written(name) as file:
            file.write(as_json(value))

    def written(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for writing. It has its name once it is whole: on leaving well, not on an error."""
        at = self.at(name)
        return written_aside(Path(at)) if self.is_local else remote.uploaded(at)

    def remove_half_written(self) -> None:
        """Remove what killed programs left behind. Only for whoever holds `working`."""
        if self.is_local:
            for folder, _, names in os.walk(self.path):
                for name in names:
                    if _HALF_WRITTEN.fullmatch(name):
                        os.unlink(os.path.join(folder, name))
            return
        fs, path = filesystem(self.url)
        with told(self.url):
            for found in fs.find(path):
                if _HALF_WRITTEN.fullmatch(found.rpartition("/")[2]):
                    fs.rm_file(found)

    def working(self) -> AbstractContextManager[None]:
        """Hold the folder for one program at a time; the system lets go of it however the program ends.

        A folder elsewhere is held through a lock file in this machine's TMPDIR, named after the URL. That keeps out
        this user's other programs on this machine; it cannot keep out another machine, or another spelling of the URL.
        Raises `UserError` when another program holds it.
        """
        return working_in(self.path) if self.is_local else _working_at(self.url)


@contextmanager
def _working_at(url: str) -> Iterator[None]:
    name = f"shortclip-{os.getuid()}-{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock"
    # A link of this name would be somebody else's trap.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(os.path.join(tempfile.gettempdir(), name), flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(url, "another program is at work in this folder", "Wait for it to end.") from error
        yield
    finally:
        os.close(descriptor)


def size_of(url: str) -> int | None:
    """The size in bytes of the file at a local path or a URL, or None when there is no such file."""
    if not is_url(url):
        return os.path.getsize(url) if os.path.isfile(url) else None
    fs, path = filesystem(url)
    with told(url):
        try:
            info = fs.info(path)
        except FileNotFoundError:
            return None
    return int(info["size"]) if info["type"] == "file" else None


def open_input(url: str) -> AbstractContextManager[BinaryIO]:
    """Open a local path or a URL for reading: seekable, streaming. Raises `UserError` when it cannot be opened."""
    return remote.open_remote(url) if is_url(url) else _open_local(local_path(url))


@contextmanager
def _open_local(path: str) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise UserError(path, f"wanted a file that can be read, but {error}", "Check it and run again.") from error
        yield file


def expand(patterns: Sequence[str]) -> list[tuple[str, int | None]]:
    """What the patterns (`*`, `?`, `[...]`, `**`, `~`; URLs too) match: (path or URL, size in bytes; None: a folder).

    Each once, in natural order: 2 before 10. Raises `UserError` for a pattern that matches nothing or something other
    than files and folders, and for no pattern at all.
    """
    found = dict(entry for pattern in patterns for entry in (_expand_url if is_url(pattern) else _expand)(pattern))
    if not found:
        raise UserError("the input", "wanted at least one input, got none", "Name tars, such as 'pairs/*.tar'.")
    return sorted(found.items(), key=lambda entry: (natural(entry[0]), entry[0]))


def _expand(pattern: str) -> Iterator[tuple[str, int | None]]:
    place = local_path(pattern)
    # A name may hold brackets without being a pattern.
    names = [place] if os.path.lexists(place) else glob.glob(place, recursive=True)
    if not names:
        raise UserError(pattern, "nothing matches", "Check the path, and that the inputs lie there.")
    for name in names:
        if not os.path.isfile(name) and not os.path.isdir(name):
            raise UserError(pattern, f"wanted files or folders, but {name} is not a file", "Name files and folders.")
        yield os.path.abspath(name), None if os.path.isdir(name) else os.path.getsize(name)


def _expand_url(pattern: str) -> Iterator[tuple[str, int | None]]:
    fs, path = filesystem(pattern)
    with told(pattern):
        if any(sign in path for sign in "*?[") and not fs.exists(path):
            listed = list(fs.glob(path, detail=True).values())
        else:
            listed = [{**fs.info(path), "name": path}]
    if not listed:
        raise UserError(pattern, "nothing matches", "Check the URL, and that the inputs lie there.")
    for info in listed:
        url = remote.url_of(fs, info["name"])
        if info["type"] != "directory" and info.get("size") is None:
            raise UserError(url, "its server does not tell its size", "Copy it to a local folder first.")
        yield url.rstrip("/"), None if info["type"] == "directory" else int(info["size"])


def natural(text: str) -> list[tuple[int, str]]:
    """A key to sort by in which numbers count as numbers: 2 before 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]
