"""Files that are whole or not there: written aside, synced, renamed. And the JSON and the hashes that go with them."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from prep.errors import UserError


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of `path` for writing; fsync and rename it into place, or remove it on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique among the machines that share a disk, too.
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """Make a temporary neighbour of the folder `path`; sync and rename it into place, or remove it on an error.

    Raises `UserError` when there is something of that name already, other than an empty folder.
    """
    path = path.resolve()
    if path.exists() and not is_empty(path):
        raise UserError(str(path), "wanted a new or empty folder, found something in it", "Choose another --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    aside.mkdir()
    try:
        yield aside
        for file in aside.rglob("*"):
            if file.is_dir():
                sync_folder(file)
        sync_folder(aside)
        shutil.rmtree(path, ignore_errors=True)
        aside.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold a folder (made if need be) for one program at a time; the system lets go of it however the program ends.

    Raises `UserError` when another program holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(str(folder), "another program is at work in this folder", "Wait for it to end.") from error
        yield
    finally:
        os.close(descriptor)


def is_empty(folder: Path) -> bool:
    """Whether a path is a folder with nothing in it but what a killed `written_aside` may have left."""
    return folder.is_dir() and all(
        path.name.startswith(".") and path.name.endswith(".tmp") for path in folder.iterdir()
    )


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_json(value: object) -> bytes:
    """The bytes of a JSON file: keys sorted, so that equal values are equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; see `as_json`."""
    with written_aside(path) as file:
        file.write(as_json(value))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that this project wrote. Raises `UserError` when it is damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(str(path), f"wanted a JSON object, but {error}", "Restore the file or build again.") from error
    if not isinstance(value, dict):
        raise UserError(str(path), f"wanted a JSON object, found a {type(value).__name__}", "Build again.")
    return value


def hash_file(path: Path) -> str:
    """xxh3-64 of a file's bytes as 16 hex digits."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
