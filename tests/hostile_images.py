"""A seeded corpus of hostile images, and the process that decodes it: what crashes it, crashes nothing else.

`python -m tests.hostile_images NUM_MUTATIONS` prints JSON, a value a line: before an image is decoded its name and what
is wanted of it, its outcome after; at the end by how many bytes the peak of memory grew, and what `tests.image_memory`
has to say.
"""

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from prep.images import FORMATS, ImageError, ImageLimits, decode
from tests.image_files import (
    SAMPLES,
    WHITE,
    chunk,
    deflated_zeros,
    of_one_tile,
    patched,
    photo,
    png,
    png_of,
    save,
    webp_of_canvas,
)
from tests.image_memory import growths, large_images, starved, status

Colour = tuple[int, int, int]

RUST = (200, 60, 30)
PLAIN = Image.new("RGB", (64, 48), RUST)
OTHER = Image.new("RGB", (64, 48), (0, 255, 0))


@dataclass(frozen=True, slots=True)
class Hostile:
    """One image. wanted: the mean colour it must have, the reason of its rejection, or None where either may be.

    whole: the sample that it was made of, when whatever is kept of it must be all of that.
    """

    name: str
    data: bytes
    wanted: Colour | str | None = None
    whole: str | None = None


_LIES = (b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\xff", b"\xff\0\0\1", b"\0\0\0\1", b"\xff\xff")


def mutations(num: int) -> Iterator[Hostile]:
    """`num` seeded mutations of every kind of file, kind after kind."""
    rng = np.random.default_rng(0)
    names = list(SAMPLES)
    for i in range(num):
        name, how = names[i % len(names)], i // len(names) % 6
        data = SAMPLES[name]
        start, end = sorted(rng.integers(len(data), size=2).tolist())
        if how == 0:
            mutated = data[:start]
        elif how == 1:
            bit = int(rng.integers(8 * len(data)))
            mutated = patched(data, (bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8])))
        elif how == 2:
            mutated = patched(data, *((int(rng.integers(len(data))), rng.bytes(2)) for _ in range(5)))
        elif how == 3:
            mutated = patched(data, (int(rng.integers(min(len(data), 200))), _LIES[rng.integers(len(_LIES))]))
        elif how == 4:
            mutated = data[:start] + data[end:]
        else:
            mutated = data[:end] + data[start:]
        # A cut file gives nothing or everything. So does any damaged PNG: it has checksums.
        yield Hostile(f"{i}: {name}, {how}", mutated, whole=name if how == 0 or name.startswith("png") else None)


def _exif(tags: list[tuple[int, int, int, int]], next_directory: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_directory)


def _strange_exif() -> dict[str, bytes]:
    overlapping = [(0x8000 + i, 1, 60_000, 8) for i in range(5000)]
    return {
        "5,000 overlapping tags": _exif(overlapping),
        "directories in a ring": _exif([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)], next_directory=8),
        "a directory beyond its end": b"MM\0*\xff\xff\xff\xff",
        "orientation 0": _exif([(0x0112, 3, 1, 0)]),
        "orientation 9": _exif([(0x0112, 3, 1, 9)]),
        "orientation of kind text": _exif([(0x0112, 2, 4, 0x41414141)]),
        "more tags than there are": b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
    }


def _plain_of_every_mode() -> Iterator[Hostile]:
    """Pictures of one known colour in every format and mode that can hold it."""
    for kind in FORMATS:
        yield Hostile(f"plain {kind}", save(PLAIN, kind.upper()), RUST)
        yield Hostile(f"{kind} and 100 bytes more", save(PLAIN, kind.upper()) + b"\xa5" * 100, RUST)
    gray16 = np.full((48, 64, 1), 77 * 257, np.uint16)
    yield Hostile("16-bit gray png", png(gray16, 0), (77, 77, 77))
    yield Hostile("16-bit png", png(np.full((48, 64, 3), np.array(RUST) * 257, np.uint16), 2), RUST)
    yield Hostile("16-bit gray tiff", save(Image.fromarray(gray16[:, :, 0]), "TIFF"), (77, 77, 77))
    for kind in ("JPEG", "TIFF"):
        yield Hostile(f"cmyk {kind}", save(PLAIN.convert("CMYK"), kind), RUST)
        yield Hostile(f"gray {kind}", save(Image.new("L", (64, 48), 77), kind), (77, 77, 77))
    yield Hostile("ycbcr tiff", save(PLAIN.convert("YCbCr"), "TIFF"), RUST)
    for mode in ("P", "RGBA"):
        yield Hostile(f"png, {mode}", save(PLAIN.convert(mode), "PNG"), RUST)
    for kind in ("PNG", "TIFF", "WEBP", *(["AVIF"] if "avif" in FORMATS else [])):
        yield Hostile(f"invisible {kind}", save(Image.new("RGBA", (64, 48), (0, 0, 0, 0)), kind), WHITE)
    yield Hostile("invisible gray", save(Image.new("LA", (64, 48), (0, 0)), "PNG"), WHITE)
    yield Hostile("bmp, its rows from the top", patched(save(PLAIN, "BMP"), (22, struct.pack("<i", -48))), RUST)
    for size in ((1, 5000), (60_000, 20), (20, 60_000)):
        for kind in ("JPEG", "PNG"):
            yield Hostile(f"{kind} of {size}", save(Image.new("RGB", size, RUST), kind), "image_aspect")


def _with_metadata() -> Iterator[Hostile]:
    """Bombs beside the picture, which stays what it was."""
    jpeg, flat_png = save(PLAIN, "JPEG"), save(PLAIN, "PNG")
    for name, exif in _strange_exif().items():
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
        yield Hostile(f"jpeg, exif of {name}", jpeg[:2] + segment + jpeg[2:], RUST)
        yield Hostile(f"png, exif of {name}", flat_png[:33] + chunk(b"eXIf", exif) + flat_png[33:], RUST)
        yield Hostile(f"webp, exif of {name}", save(PLAIN, "WEBP", exif=b"Exif\0\0" + exif, lossless=True), RUST)
    yield Hostile("jpeg, 4 MB of fill bytes", jpeg[:2] + b"\xff" * 4_000_000 + jpeg[2:], RUST)
    yield Hostile("jpeg, a million segments", jpeg[:2] + b"\xff\xe5\0\2" * 1_000_000 + jpeg[2:], RUST)
    bomb = deflated_zeros(100, 1 << 20)
    for name, body in {"zTXt": b"a\0\0", "iCCP": b"a\0\0", "iTXt": b"a\0\1\0\0\0"}.items():
        yield Hostile(f"png, {name} bomb", flat_png[:33] + chunk(name.encode(), body + bomb) + flat_png[33:], RUST)
    yield Hostile("png, 50,000 empty chunks", flat_png[:33] + 50_000 * chunk(b"IDAT", b"") + flat_png[33:], RUST)
    too_many = flat_png[:33] + 120_000 * chunk(b"teXt", b"") + flat_png[33:]
    yield Hostile("png, 120,000 texts", too_many, "image_too_large")


def _of_many_frames() -> Iterator[Hostile]:
    gif = save(PLAIN, "GIF", save_all=True, append_images=[OTHER], duration=50)
    frame = gif.rindex(b"\x21\xf9")
    yield Hostile("gif, 20,000 frames", gif[:frame] + gif[frame:-1] * 20_000 + gif[-1:], RUST)
    webp = save(PLAIN, "WEBP", save_all=True, append_images=[OTHER], lossless=True)
    frame = webp.rindex(b"ANMF")
    webp = webp[:frame] + webp[frame:] * 20_000
    yield Hostile("webp, 20,000 frames", patched(webp, (4, struct.pack("<I", len(webp) - 8))), RUST)
    yield Hostile("apng", save(PLAIN, "PNG", save_all=True, append_images=[OTHER] * 20), RUST)
    if "avif" in FORMATS:
        yield Hostile("avif, moving", save(PLAIN, "AVIF", save_all=True, append_images=[OTHER] * 5), RUST)
    tiff = save(PLAIN, "TIFF")
    first = struct.unpack_from("<I", tiff, 4)[0]
    (num_tags,) = struct.unpack_from("<H", tiff, first)
    directory, link = tiff[first : first + 2 + 12 * num_tags], first + 2 + 12 * num_tags
    yield Hostile("tiff, a ring of directories", patched(tiff, (link, struct.pack("<I", first))), RUST)
    chain = bytearray(tiff)
    for _ in range(20_000):
        struct.pack_into("<I", chain, link, len(chain))
        link = len(chain) + len(directory)
        chain += directory + bytes(4)
    yield Hostile("tiff, 20,000 directories", bytes(chain), RUST)
    greedy = [struct.unpack_from("<HHII", directory, 2 + 12 * i) for i in range(num_tags)]
    greedy += [(0x9000 + i, 1, 500_000, 8) for i in range(5000)]
    tags = _exif(greedy)[8:]
    yield Hostile(
        "tiff, 5,000 greedy tags", patched(tiff, (4, struct.pack("<I", len(tiff)))) + tags + bytes(500_000), RUST
    )


def _bombs() -> Iterator[Hostile]:
    jpeg, gif, bmp = (save(PLAIN, kind) for kind in ("JPEG", "GIF", "BMP"))
    bombs = {
        "png": png_of(20_000, 20_000, 1, 0, deflated_zeros(20_000, 2501)),
        "jpeg": patched(jpeg, (jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000))),
        "gif": gif.replace(struct.pack("<HH", 64, 48), struct.pack("<HH", 60_000, 60_000)),
        "bmp": patched(bmp, (18, struct.pack("<II", 60_000, 60_000))),
        "webp": webp_of_canvas(13_000, 13_000),
        "tiff of one tile": of_one_tile(10_000, 10_000),
    }
    if "avif" in FORMATS:
        avif = save(PLAIN, "AVIF")
        bombs["avif"] = patched(avif, (avif.index(b"ispe") + 8, struct.pack(">II", 8000, 8000)))
    for name, data in bombs.items():
        yield Hostile(f"bomb, {name}", data, "image_too_large")
    scans = save(photo(), "JPEG", progressive=True)
    scan = scans[scans.rindex(b"\xff\xda") : -2]
    yield Hostile("jpeg of 600 scans", scans[:-2] + 600 * scan + scans[-2:], "image_too_large")
    yield Hostile("jpeg of a scan too many", scans[:-2] + scan + scans[-2:], "image_damaged")
    for name, data in {
        "nothing": b"",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"/>',
        "html": b"<html>404</html>",
        "pdf": b"%PDF-1.7",
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    }.items():
        yield Hostile(name, data, "image_format")


def corpus(num_mutations: int) -> Iterator[Hostile]:
    """Everything, the mutations last."""
    for part in (_plain_of_every_mode, _with_metadata, _of_many_frames, _bombs):
        yield from part()
    yield from mutations(num_mutations)


def outcome_of(data: bytes, min_short_side: int | None) -> dict[str, object]:
    try:
        decoded = decode(data, ImageLimits(), min_short_side)
    except ImageError as error:
        return {"reason": error.reason, "detail": error.detail}
    return {"size": [decoded.width, decoded.height], "mean": decoded.pixels.mean((0, 1)).tolist()}


def main() -> None:
    for data in SAMPLES.values():
        outcome_of(data, None)  # what libraries allocate once is no image's fault
    images = list(large_images())
    grown, outcomes = growths(images), starved(images)  # before anything has left holes in the heap
    before = status("VmHWM")
    for i, hostile in enumerate(corpus(int(sys.argv[1]))):
        print(json.dumps([hostile.name, hostile.wanted, hostile.whole]), flush=True)
        print(json.dumps(outcome_of(hostile.data, 16 if i % 2 else None)))
    print(json.dumps(status("VmHWM") - before))
    print(json.dumps(grown))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
