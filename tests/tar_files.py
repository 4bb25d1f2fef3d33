"""Tars of every shape, made here, and how the tests of sources read them."""

import io
import tarfile
from pathlib import Path

from prep.pairs import Pair, Reject
from prep.sources import read_tar

Members = list[tuple[str, bytes]]
PAIRS: Members = [("0.jpg", b"\xff\xd8 zero"), ("0.txt", b"zero"), ("1.png", b"\x89PNG one"), ("1.txt", b"one")]


def info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


def tar_of(members: Members, encoding: str = "utf-8", kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", encoding=encoding, format=kind, errors="surrogateescape") as archive:
        for name, body in members:
            archive.addfile(info(name, len(body)), io.BytesIO(body))
    return file.getvalue()


def raw(header: tarfile.TarInfo, body: bytes = b"") -> bytes:
    """One member, without an archive around it; GNU headers can hold what no archive should."""
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + body + bytes(-len(body) % 512)


def read(folder: Path, data: bytes | Members, **limits: int) -> list[Pair | Reject]:
    """Write pairs.tar into the folder and read it, holding every result to what a store can hold."""
    path = folder / "pairs.tar"
    path.write_bytes(data if isinstance(data, bytes) else tar_of(data))
    results = list(read_tar(path, **limits))
    for result in results:
        assert (result.key.isprintable(), result.source) == (True, "pairs.tar")
        assert isinstance(result, Pair) or result.detail.encode()  # fit for a column of UTF-8
    return results


def outline(results: list[Pair | Reject]) -> list[tuple[str, str]]:
    return [(r.key, r.reason.value if isinstance(r, Reject) else "pair") for r in results]
