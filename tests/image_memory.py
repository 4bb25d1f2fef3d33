"""How much memory decoding takes, and what happens when there is none: for a process that does nothing else."""

import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from prep.images import FORMATS, Encoding, ImageError, ImageLimits, cut, decode, encode, resize
from prep.pairs import Reason
from tests.image_files import LIMITS, photo, save

SIDE = 1200
# Of the process, not of an image: what the allocator holds back, and the codecs' tables.
SLACK = 6 << 20


def status(field: str) -> int:
    """Bytes of this process: its resident memory at its peak (VmHWM), or all that it may address (VmSize)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def large_images() -> Iterator[tuple[str, bytes]]:
    """The costly kinds of every format, each of SIDE x SIDE pixels."""
    image = photo(SIDE, SIDE)
    translucent = image.copy()
    translucent.putalpha(128)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg", save(image, "JPEG")
    yield "jpeg, turned", save(image, "JPEG", exif=exif)
    yield "jpeg, progressive", save(image, "JPEG", progressive=True, subsampling=0, exif=exif)
    yield "jpeg, progressive 4:2:0", save(image, "JPEG", progressive=True)
    yield "jpeg, cmyk", save(image.convert("CMYK"), "JPEG", progressive=True, exif=exif)
    yield "png", save(image, "PNG", compress_level=1, exif=exif)
    yield "png, alpha", save(translucent, "PNG", compress_level=1, exif=exif)
    yield "webp", save(image, "WEBP", method=0)
    yield "webp, lossless", save(translucent, "WEBP", lossless=True, method=0, quality=0, exif=exif)
    yield "gif", save(image.convert("P"), "GIF", transparency=3)
    yield "bmp", save(image, "BMP")
    strip = {278: SIDE, 0x0112: 6}
    yield "tiff", save(translucent, "TIFF", compression="tiff_lzw", tiffinfo=strip)
    yield "tiff, jpeg", save(image, "TIFF", compression="jpeg", tiffinfo=strip)
    gray16 = Image.fromarray(np.full((SIDE, SIDE), 7, np.uint16))
    yield "tiff, 16 bits", save(gray16, "TIFF", compression="tiff_lzw", tiffinfo=strip)
    if "avif" in FORMATS:
        yield "avif", save(translucent, "AVIF", speed=10, subsampling="4:4:4")


def is_allowed(data: bytes, max_memory: int) -> bool:
    try:
        decode(data, ImageLimits(max_memory=max_memory))
    except ImageError as error:
        return error.reason is not Reason.IMAGE_TOO_LARGE
    return True


def growths(images: list[tuple[str, bytes]]) -> dict[str, tuple[int, bool]]:
    """By how many bytes the peak of memory grows for each image, and whether the limits would let it in with less."""
    grown = {}
    for name, data in images:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = status("VmHWM")
        decode(data, LIMITS)
        growth = status("VmHWM") - before
        grown[name] = growth, is_allowed(data, growth - len(data) - SLACK)
    return grown


def starved(images: list[tuple[str, bytes]]) -> dict[str, list[str]]:
    """What becomes of each image, and of a copy, with more and more memory to be had.

    A GIF is left out: Pillow 13 frees a decoder whose context cannot be allocated before it has set all of its fields,
    which now and then ends the process (once in a thousand limits; a GIF's context, of 20 KB, is by far the largest).
    While preparing, a worker that dies so is one that crashed: its item is tried alone, and rejected by name.
    """
    pixels = decode(images[0][1], LIMITS).pixels
    resize(pixels, SIDE // 2)
    calls: dict[str, Callable[[], object]] = {
        name: partial(decode, data, LIMITS) for name, data in images if name != "gif"
    }
    calls["resize"] = partial(resize, pixels, SIDE - 1)
    calls["cut"] = partial(cut, pixels, (0, 0, SIDE, SIDE), SIDE - 1)
    calls["encode"] = partial(encode, pixels, Encoding("raw"))
    size, outcomes = status("VmSize"), {name: list[str]() for name in calls}
    for num_bytes in (1 << 20, 4 << 20, 12 << 20):
        for name, call in calls.items():
            resource.setrlimit(resource.RLIMIT_AS, (size + num_bytes, -1))
            try:
                call()
                outcomes[name].append("done")
            except ImageError as error:
                outcomes[name].append(error.reason)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    return outcomes
