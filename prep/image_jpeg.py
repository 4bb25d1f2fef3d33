"""JPEG: strict decoding by TurboJPEG, at a fraction of the size where that is enough, and a file's own segments.

Strict mode is the one decoder that notices a damaged body. It does so at a fraction of the size too: the whole entropy
code is read either way, only the inverse transform is smaller. TurboJPEG scales by sixteen ratios; a half, a quarter
and an eighth are those that are as fast as they should be.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import simplejpeg

from prep.image_limits import ImageError, ImageLimits, Pixels, check_size
from prep.image_orientation import orientation_of, upright
from prep.pairs import Reason

MIN_SCALED_RATIO = 1.6
"""A scaled image has a short side of at least this many times the largest copy's. At 1.6 a copy of a sharp photograph,
once encoded, is half a decibel further from the ideal one than with a full decode; at 1.2, 1.6 dB; at 2, 0.2 dB."""

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOF0, _SOF1, _SOF2, _DHT, _DQT, _DRI, _SOS = 0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xDA
_APP0, _APP1, _COM = 0xE0, 0xE1, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, 0xCC}
_METADATA = frozenset({_COM, *range(_APP0, _APP0 + 16)})
# JFIF 1.01, no density, no thumbnail: three components are YCbCr, which is all that a reader needs to be told.
_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
_SEGMENT = re.compile(rb"\xff+[^\0\xff]..", re.DOTALL)  # fill bytes, marker, length
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")
# Metadata of 64 MiB is in some 1,000 segments; without a bound it could be in 16 million.
_MAX_SEGMENTS = 10_000
# In a few bytes each, the scans of a progressive JPEG ask for pass after pass over the whole image. Encoders write
# about 10; TurboJPEG's own TJFLAG_LIMITSCANS stops at 500.
_MAX_SCANS = 500
_SAMPLES_PER_PIXEL = {"422": 2.0, "440": 2.0, "420": 1.5, "411": 1.5, "Gray": 1.0}
_MAX_SCANNED_PIXELS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """What comes before the entropy code of a JPEG's first scan.

    process: the frame's marker less 0xFF00; 0xC0 is baseline. Zero where there is no frame header.
    in_one_scan: every component is in the first scan. exif: its APP1 segment's content, or empty.
    kept: the segments that decoding needs, in order, the scan's header last. start: where the entropy code starts.
    plain: there is no segment besides those of a baseline JPEG and its metadata.
    """

    process: int
    in_one_scan: bool
    exif: bytes
    kept: tuple[bytes, ...]
    start: int
    plain: bool


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, place, end) of each segment up to the first scan's header; it stops early at what is none."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        found = _SEGMENT.match(data, position)
        if not found:
            return
        marker, place = data[found.end() - 3], found.end() - 4
        position = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, place, position
        if marker == _SOS:
            return


def read_frame(data: bytes) -> Frame:
    """Walk the segments of a JPEG; what is damaged is left to the decoder to refuse."""
    process, num_components, in_one_scan, exif, start, plain = 0, 0, False, b"", len(data), True
    kept: list[bytes] = []
    for marker, place, end in _segments(data):
        body = place + 4
        if marker in _METADATA:
            if marker == _APP1 and not exif and data.startswith(b"Exif\0\0", body):
                exif = data[body:end]
            continue
        kept.append(data[place:end])
        plain = plain and marker in (_SOF0, _DHT, _DQT, _DRI, _SOS)
        if marker in _FRAMES and end - body >= 6:
            process, num_components = marker, data[body + 5]
        if marker == _SOS and end > body and end <= len(data):
            in_one_scan, start = data[body] == num_components, end
    return Frame(process, in_one_scan, exif, tuple(kept), start, plain)


def decode_jpeg(data: bytes, limits: ImageLimits, min_short_side: int | None) -> tuple[Pixels, int, int] | None:
    """Upright pixels, and the upright original's width and height; None where TurboJPEG has no name for the sampling.

    min_short_side: what the largest copy needs; None decodes at full size.
    Raises ImageError, and what TurboJPEG raises on damage.
    """
    frame = read_frame(data)
    try:
        height, width, colours, subsampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    progressive = not frame.in_one_scan or frame.process not in (_SOF0, _SOF1)
    orientation = orientation_of(frame.exif)
    divisor = 1
    if min_short_side is not None and frame.process in (_SOF0, _SOF1, _SOF2):
        wanted = max(1.0, MIN_SCALED_RATIO * min_short_side)
        # A last block may stand for a part of itself. Turned it would come first, where no reader expects it.
        fits = (d for d in (8, 4, 2) if orientation == 1 or width % d == height % d == 0)
        divisor = next((d for d in fits if min(width, height) // d >= wanted), 1)
    num_inks = 4 if colours in ("CMYK", "YCCK") else 3
    num_coefficients = _SAMPLES_PER_PIXEL.get(subsampling, num_inks) if progressive else 0
    # The coefficients, of two bytes, beside what comes of them; that beside its RGB; or RGB beside itself upright.
    decoding, converting, turning = num_inks, num_inks + 3 if num_inks == 4 else 0, 6 if orientation != 1 else 0
    cost = max(2 * num_coefficients + decoding / divisor**2, converting / divisor**2, turning / divisor**2)
    check_size(width, height, cost, limits)
    if progressive:
        _check_scans(data, width * height)
    size = {} if divisor == 1 else {"min_height": -(-height // divisor), "min_width": -(-width // divisor)}
    # CMYK and YCCK, too, with Adobe's inversion undone.
    pixels = upright(simplejpeg.decode_jpeg(data, "RGB", strict=True, **size), orientation)
    return (pixels, height, width) if orientation >= 5 else (pixels, width, height)


def _check_scans(data: bytes, num_pixels: int) -> None:
    num_scans = data.count(b"\xff\xda")
    if num_scans > min(_MAX_SCANS, max(20, _MAX_SCANNED_PIXELS // num_pixels)):
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{num_scans:,} scans of {num_pixels:,} pixels are too many to decode")


def without_metadata(data: bytes) -> bytes:
    """The same image without APPn and COM segments before its first scan, except Adobe's, which names the colours."""
    places = [(place, end) for marker, place, end in _segments(data) if marker in _METADATA]
    stripped, position = bytearray(), 0
    for place, end in places:
        is_adobe = data.startswith(b"Adobe", place + 4)
        stripped += data[position : end if is_adobe else place]
        position = end
    return bytes(stripped) + data[position:]


def plain_jpeg(data: bytes, max_bytes: int) -> bytes | None:
    """An upright baseline YCbCr JPEG of one scan, without a byte that is not image; None if `data` is no such image.

    max_bytes: of what is returned; longer is None, too. The pixels are the same to the last bit. `data` must have been
    decoded: nothing is validated here. What every fast decoder takes, hardware included, is what is returned: 8-bit
    Huffman code, 4:4:4, 4:2:2 or 4:2:0, a JFIF header and no other metadata, nothing behind the end.
    """
    frame = read_frame(data)
    if frame.process != _SOF0 or not (frame.plain and frame.in_one_scan) or orientation_of(frame.exif) != 1:
        return None
    try:
        _, _, colours, subsampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None  # as in decode_jpeg
    end = _MARKER.search(data, frame.start)
    if colours != "YCbCr" or subsampling not in ("444", "422", "420") or end is None or end[0] != _EOI:
        return None
    parts = (_SOI, _JFIF, *frame.kept, data[frame.start : end.end()])
    return b"".join(parts) if sum(map(len, parts)) <= max_bytes else None
