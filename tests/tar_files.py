"""Tars of every shape, made here, and how the tests of sources read them."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from prep.pairs import Pair, Reject
from prep.sources import Part, SourceOptions, read_part

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


def read(folder: Path, data: bytes | Members, options: SourceOptions | None = None) -> list[Pair | Reject]:
    """Write pairs.tar into the folder and read it, holding every result to what a store can hold."""
    path = folder / "pairs.tar"
    path.write_bytes(data if isinstance(data, bytes) else tar_of(data))
    return held(read_part(tar_part(path), options or SourceOptions()), "pairs.tar")


def tar_part(path: Path) -> Part:
    return Part("tar", str(path), path.name, 0)


def held(results: Iterable[Pair | Reject], source: str) -> list[Pair | Reject]:
    """The results, each fit for columns of UTF-8 and for a screen."""
    found = list(results)
    for result in found:
        assert (result.key.isprintable(), result.source) == (True, source)
        assert result.captions if isinstance(result, Pair) else result.detail.encode()
    return found


def outline(results: list[Pair | Reject]) -> list[tuple[str, str]]:
    return [(r.key, r.reason.value if isinstance(r, Reject) else "pair") for r in results]


def original(*captions: bytes) -> dict[str, tuple[bytes, ...]]:
    return {"original": captions}


def captions_of(results: list[Pair | Reject]) -> list[dict[str, tuple[bytes, ...]]]:
    return [result.captions for result in results if isinstance(result, Pair)]
