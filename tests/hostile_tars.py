"""A seeded corpus of tars that were damaged or made by an enemy, and what must become of each."""

import gzip
import os
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.tar_files import Members, info, raw, tar_of

KEYS = ["set/4f9a", "set/b2c7", "set/61e0", "set/d835", "set/0c1d", "set/97ab"]
"""No few changed bytes make one of another."""


def _bodies(key: str) -> Members:
    random = np.random.default_rng([ord(letter) for letter in key])
    image = b"\xff\xd8" + random.bytes(int(random.integers(50, 1500)))
    return [
        (f"{key}.jpg", image),
        (f"{key}.json", b'{"status": "success"}'),
        (f"{key}.txt", f"caption of {key}".encode()),
    ]


MEMBERS: Members = [member for key in KEYS for member in _bodies(key)]
PAIRS = {key: (_bodies(key)[0][1], _bodies(key)[2][1]) for key in KEYS}
WHOLE = tar_of(MEMBERS)


@dataclass(frozen=True, slots=True)
class Case:
    """One tar. kept: keys that must come out as they went in. touched: keys that may come out otherwise.

    outcomes: what must become of some keys, as `outline` tells it. is_told: whether a lost key must have left a trace.
    """

    kind: str
    data: bytes
    kept: frozenset[str] = frozenset(KEYS)
    touched: frozenset[str] = frozenset()
    outcomes: dict[str, str] = field(default_factory=dict)
    is_told: bool = True


def _spans() -> list[tuple[str, int, int]]:
    """(key, first byte, byte after the last) of each member of WHOLE."""
    spans, at = [], 0
    for name, body in MEMBERS:
        end = at + 512 + len(body) + -len(body) % 512
        spans.append((name.partition(".")[0], at, end))
        at = end
    return spans


SPANS = _spans()
END = SPANS[-1][2]


def _case(kind: str, data: bytes, places: list[int], is_told: bool = True) -> Case:
    """A case in which WHOLE was changed at some places: what was before the first of them must be kept."""
    kept = {key for key in KEYS if all(end <= min(places) for own, _, end in SPANS if own == key)}
    touched = {own for own, first, end in SPANS if any(first <= place < end for place in places)}
    return Case(kind, data, frozenset(kept), frozenset(touched), is_told=is_told)


def _flips(random: np.random.Generator) -> Iterator[Case]:
    for _ in range(120):
        data, places = bytearray(WHOLE), random.integers(0, END + 1024, random.integers(1, 9)).tolist()
        for place in places:
            data[place] ^= 1 << int(random.integers(8))
        yield _case("bits flipped", bytes(data), places)
    for _ in range(30):
        squeezed = bytearray(gzip.compress(WHOLE, 1, mtime=0))
        for place in random.integers(0, len(squeezed), random.integers(1, 4)):
            squeezed[place] ^= 1 << int(random.integers(8))
        yield Case("bits of a gzip flipped", bytes(squeezed), frozenset(), frozenset(KEYS))


def _cuts(random: np.random.Generator) -> Iterator[Case]:
    for cut in random.integers(0, END + 1024, 60).tolist():
        yield _case("cut", WHOLE[:cut], [cut])
        yield _case("cut and gzipped", gzip.compress(WHOLE[:cut], 1, mtime=0), [cut])
        squeezed = gzip.compress(WHOLE, 1, mtime=0)
        yield Case("a gzip cut", squeezed[: cut * len(squeezed) // len(WHOLE)], frozenset())
    for _ in range(40):
        first, last = sorted(random.integers(0, END, 2).tolist())
        yield _case("a piece missing", WHOLE[:first] + WHOLE[last:], list(range(first, last + 1)), is_told=False)
        yield _case(
            "a piece of zeros", WHOLE[:first] + bytes(last - first) + WHOLE[last:], list(range(first, last + 1))
        )


def _sealed(header: bytearray) -> bytes:
    """A header with its checksum put right."""
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    return bytes(header)


def _lies(random: np.random.Generator) -> Iterator[Case]:
    sizes = [b"%011o" % int(size) for size in random.integers(0, 1 << 33, 20)] + [
        b"%011o" % n for n in range(0, 4000, 97)
    ]
    sizes += [b"\xff" * 11, b"\x80" + b"\xff" * 10, b"\x80" + bytes(9) + b"\x07", b"-0000000512", b"\0" * 11, b"9" * 11]
    for size in sizes:
        _, first, _ = SPANS[random.integers(len(SPANS))]
        header = bytearray(WHOLE[first : first + 512])
        header[124:135] = size
        yield _case("a lying size", WHOLE[:first] + _sealed(header) + WHOLE[first + 512 :], [first], is_told=False)
    for _ in range(60):
        _, first, _ = SPANS[random.integers(len(SPANS))]
        header = bytearray(WHOLE[first : first + 512])
        for place in random.integers(0, 512, random.integers(1, 4)):
            header[place] = random.integers(256)
        yield _case("a lying header", WHOLE[:first] + _sealed(header) + WHOLE[first + 512 :], [first], is_told=False)


def _names() -> Iterator[Case]:
    unsafe = ["../../x", "/etc/x", "a/../../x", "C:\\x", "\\\\host\\x", "a\nb", "\x1b[2J", "x" * 90 + "/../y"]
    for name in unsafe:
        shown = name.encode("unicode_escape").decode().replace("\\\\", "\\")
        for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            members = [(f"{name}.jpg", b"image"), (f"{name}.txt", b"text"), *MEMBERS]
            yield Case("an unsafe name", tar_of(members, kind=kind), outcomes={shown: "unsafe_name"})
    for name in ("CON", "é/日本", "caf\udce9", "~root", "$(touch x)", "%s%n", "a" * 3000, "x/" * 500 + "y", " ", "-rf"):
        shown = name.replace("\udce9", "\\xe9")
        members = [(f"{name}.jpg", b"image"), (f"{name}.txt", b"text"), *MEMBERS]
        yield Case("a strange name", tar_of(members), outcomes={shown: "pair"})


def _kinds() -> Iterator[Case]:
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V", b"M", b"\x80"]
    for kind in kinds:
        for target in ("/etc/passwd", "../../../etc/passwd", "set/4f9a.jpg", "x.jpg"):
            link = info("x.jpg", kind=kind)
            link.linkname = target
            yield Case(
                "a link or device", raw(link) + raw(info("x.txt", 1), b"x") + WHOLE, outcomes={"x": "not_a_file"}
            )
    for version in ("0.0", "0.1", "1.0"):
        sparse = info("x.jpg", 512)
        major, minor = version.split(".")
        sparse.pax_headers = {"GNU.sparse.major": major, "GNU.sparse.minor": minor, "GNU.sparse.realsize": str(1 << 50)}
        sparse.pax_headers |= {
            "GNU.sparse.size": str(1 << 50),
            "GNU.sparse.map": f"{1 << 49},512",
            "GNU.sparse.name": "../x",
        }
        header = sparse.tobuf(tarfile.PAX_FORMAT)
        yield Case("sparse", header + bytes(512) + WHOLE, frozenset(), is_told=False)


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pickled",)


def _contents() -> Iterator[Case]:
    attack = pickle.dumps(_Attack())
    for extension in (
        "pkl",
        "pickle",
        "pth",
        "pt",
        "npy",
        "pyd",
        "py",
        "ten",
        "tar",
        "zip",
        "json",
        "yaml",
        "mp",
        "cbor",
    ):
        members = [("x.jpg", b"image"), (f"x.{extension}", attack), ("x.txt", b"text"), *MEMBERS]
        yield Case("a pickle", tar_of(members), outcomes={"x": "pair"})
    for key in KEYS:
        for again in ([(f"{key}.jpg", b"other"), (f"{key}.txt", b"other")], [(f"{key}.txt", b"other")]):
            yield Case("a key again", tar_of([*MEMBERS, *again]), outcomes={f"{key} again": "duplicate_key"})
    captions = [b"", b" ", b"\xff\xfe", b"caf\xe9", b"\0" * 100, b"\x1b[2J\x07", b"\xed\xa0\x80", b"a" * 5000]
    captions += ["\u202e\u2066".encode(), b"\xf0\x9f\x98\x80" * 900, b"\r\n", b"<script>", "e\u0301".encode() * 999]
    for caption in captions:
        yield Case(
            "a strange caption", tar_of([("x.jpg", b"image"), ("x.txt", caption), *MEMBERS]), outcomes={"x": "pair"}
        )
    huge = tar_of([("x.jpg", b"image"), ("x.txt", b"a" * (2 << 20)), *MEMBERS])
    yield Case("a huge caption", huge, outcomes={"x": "caption_too_long"})
    for facts in (
        b"",
        b"{",
        b"[" * 9999,
        b'{"caption": 7}',
        b'{"caption": {}}',
        b"\xff",
        b"nul",
        b"1e999",
        b'{"caption": NaN}',
    ):
        members = [("x.jpg", b"image"), ("x.json", facts), *MEMBERS]
        yield Case("no caption", tar_of(members), outcomes={"x": "caption_missing"})


def _headers(random: np.random.Generator) -> Iterator[Case]:
    for size in (1 << 15, 1 << 16, 1 << 20):
        for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"X"):
            for letter in (b"1", b"\0", b"a"):
                giant = raw(info("x", size, kind), letter * size)
                yield Case("a giant header", giant + WHOLE, frozenset(), is_told=size > 1 << 15)
    for record in (
        b"99 path=x\n",
        b"10 size=-1\n",
        b"-5 a=b\n",
        b"0 \n",
        b"12 path=../x\n",
        b"20 hdrcharset=BINARY\n",
        b"9 a\n",
    ):
        for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            yield Case(
                "a lying extension", raw(info("x", len(record), kind), record) + WHOLE, frozenset(), is_told=False
            )
    yield Case("many headers", 400 * raw(info("x", 0, tarfile.XHDTYPE)) + WHOLE, frozenset())
    zeros = gzip.compress(bytes(10 << 20), 9, mtime=0)
    for num in (3, 20):
        bomb = gzip.compress(raw(info("x.npy", num * (10 << 20))), mtime=0) + num * zeros
        bomb += gzip.compress(WHOLE, mtime=0)
        kept = frozenset(KEYS) if num == 3 else frozenset[str]()
        yield Case("a gzip bomb", bomb, kept)
    for _ in range(30):
        noise = random.bytes(int(random.integers(1, 5000)))
        yield Case("noise", noise, frozenset())
        yield Case("noise behind", WHOLE[:END] + noise + bytes(1024), is_told=False)
    nested = tar_of([("x.tar", WHOLE), *MEMBERS])
    yield Case("a tar in a tar", nested, outcomes={"x": "image_missing"})


def corpus() -> list[Case]:
    """All cases, the same ones each time."""
    random = np.random.default_rng(0)
    made = [_flips(random), _cuts(random), _lies(random), _names(), _kinds(), _contents(), _headers(random)]
    return [case for cases in made for case in cases]
