"""Every format but JPEG, by Pillow: damage refused, memory bounded, no more of a file opened than its first picture.

Pillow holds four bytes a pixel, and so does each conversion. So a loaded image is converted in stripes, straight into
the array that is returned; and what a decoder takes at its peak, as measured, is held against the limits first.
"""

import ctypes
import io
import logging
import struct
import warnings
import zlib

import numpy as np
from PIL import AvifImagePlugin, Image, TiffImagePlugin, _imaging

from prep.image_limits import ImageError, ImageLimits, Pixels, check_size
from prep.image_orientation import orientation_of, upright
from prep.pairs import Reason

# Modes whose samples are 8 bits or fewer. Floats and 32-bit integers have no known range to scale by.
_MODES_OF_8_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
# At the peak, from the encoded bytes to upright RGB, as measured.
_BYTES_PER_PIXEL = {"jpeg": 14.0, "png": 8.0, "webp": 20.0, "gif": 8.0, "bmp": 8.0, "tiff": 16.0, "avif": 20.0}
_PIXELS_PER_STRIPE = 1 << 18
# What of a PNG makes its picture. The rest is where texts, colour profiles and further frames are, and bombs of them.
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_MAX_PNG_CHUNKS = 100_000

# One image is decoded on one core: parallelism is over shards.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Pillow logs what it also raises, and its libtiff prints; a reject says it once.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_set_libtiff_printer = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
if _set_libtiff_printer is not None:
    _set_libtiff_printer(None)


def decode_with_pillow(data: bytes, kind: str, limits: ImageLimits) -> Pixels:
    """Upright, opaque RGB [height, width, 3]. Raises ImageError, and what Pillow raises on damage.

    kind: one of the keys of _BYTES_PER_PIXEL, as sniffed. A JPEG is expected to be without metadata.
    """
    cost = _BYTES_PER_PIXEL[kind]
    if kind == "png":
        data = _picture_of_png(data)
    size = (0, 0)
    if kind == "webp":
        size = _canvas_of_webp(data)
        check_size(*size, cost, limits)  # Pillow allocates the canvas to open it
    try:
        pixels, exif = _loaded(data, kind, limits, cost)
    except OSError:
        # libwebp does not say whether it is the image or the memory: this raises MemoryError.
        np.empty(round(cost * size[0] * size[1]), np.uint8)
        raise
    return upright(pixels, orientation_of(exif))


def _loaded(data: bytes, kind: str, limits: ImageLimits, cost: float) -> tuple[Pixels, bytes]:
    """RGB as it lies in the file, and the EXIF that says how to turn it."""
    # Pillow warns of what the limits and the typed errors already say.
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=[kind]) as image:
        check_size(image.width, image.height, cost, limits)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # A tile is decoded whole, however small the image that it sticks out of.
            tile_size = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0), image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
            if tile_size[0] * tile_size[1] > min(limits.max_pixels, limits.max_memory // cost):
                raise ImageError(Reason.IMAGE_TOO_LARGE, f"tiles of {tile_size[0]:,} x {tile_size[1]:,} pixels")
        try:
            image.load()
        except RuntimeError:
            np.empty(round(cost * image.width * image.height), np.uint8)  # nor does libavif
            raise
        # A TIFF has been turned upright by loading it.
        return _rgb_of(image), b"" if kind == "tiff" else image.info.get("exif", b"")


def _picture_of_png(data: bytes) -> bytes:
    """The same PNG with only the chunks that make its picture. They must be whole, which Pillow does not check."""
    view = memoryview(data)
    kept, position = [view[:8]], 8
    for _ in range(_MAX_PNG_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError(f"cut in its chunk {name!r}")
        # Of all chunks: one that makes the picture may bear the damaged name of one that does not.
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"a wrong checksum of its chunk {name!r}")
        if name in _PNG_CHUNKS:
            kept.append(view[position:end])
        if name == b"IEND":
            return data if sum(map(len, kept)) == len(data) else b"".join(kept)
        position = end
    raise ImageError(Reason.IMAGE_TOO_LARGE, f"over {_MAX_PNG_CHUNKS:,} chunks")


def _canvas_of_webp(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    (num_bytes,) = struct.unpack_from("<I", data, 4)
    if len(data) < max(30, 8 + num_bytes):
        raise ValueError(f"{len(data):,} bytes of {8 + num_bytes:,}")
    name = data[12:16]
    if name == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if name == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _rgb_of(image: Image.Image) -> Pixels:
    """A loaded image of any mode on white."""
    wide = image.mode.startswith("I;16")
    if not wide and image.mode not in _MODES_OF_8_BITS:
        raise ImageError(Reason.IMAGE_FORMAT, f"samples of Pillow's mode {image.mode} have no known range")
    width, height = image.size
    transparent = image.has_transparency_data
    pixels = np.empty((height, width, 3), np.uint8)
    num_rows = max(1, _PIXELS_PER_STRIPE // width)
    for top in range(0, height, num_rows):
        bottom = min(height, top + num_rows)
        stripe = image.crop((0, top, width, bottom))
        if wide:
            pixels[top:bottom] = _gray_of_16_bits(stripe, image)[:, :, None]
            continue
        if transparent:
            with_alpha = stripe.convert("RGBA")
            stripe = Image.new("RGB", stripe.size, "white")
            stripe.paste(with_alpha, mask=with_alpha.getchannel("A"))
        pixels[top:bottom] = np.asarray(stripe.convert("RGB"))
    return pixels


def _gray_of_16_bits(stripe: Image.Image, image: Image.Image) -> Pixels:
    """[height, width] of 8 bits, rounded, of some rows of `image`."""
    samples, num_bits, white_is_zero = np.asarray(stripe), 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        (num_bits,) = image.tag_v2[TiffImagePlugin.BITSPERSAMPLE]
        white_is_zero = image.tag_v2[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] == 0
    peak = 2**num_bits - 1
    gray: Pixels = ((samples.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8)
    if white_is_zero:
        gray = 255 - gray
    if "transparency" in image.info:
        gray[samples == image.info["transparency"]] = 255
    return gray
