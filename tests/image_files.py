"""Images of every kind of file, made here, and what the tests of images ask of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from prep.images import FORMATS, Decoded, ImageError, ImageLimits, Pixels, decode
from prep.pairs import Reason

LIMITS = ImageLimits()
RED, GREEN, BLUE, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def quarters(width: int = 48, height: int = 32) -> Image.Image:
    """Red and green above, blue and black below: every way to turn it looks different."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    return Image.fromarray(pixels)


def photo(width: int = 80, height: int = 60) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def pixels_of(data: bytes, limits: ImageLimits = LIMITS) -> Pixels:
    pixels = decode(data, limits).pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    return pixels


def reason_of(data: bytes, limits: ImageLimits = LIMITS) -> Reason:
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert caught.value.detail
    return caught.value.reason


def attempt(data: bytes) -> Decoded | ImageError:
    try:
        return decode(data, ImageLimits(max_pixels=100_000))
    except ImageError as error:
        return error


def assert_close(pixels: Pixels, wanted: object, tolerance: int) -> None:
    difference = np.abs(pixels.astype(int) - np.asarray(wanted, int))
    assert difference.max() <= tolerance, f"off by {difference.max()}"


def assert_quarters(pixels: Pixels, corners: list[tuple[int, int, int]], tolerance: int = 12) -> None:
    """The mean colours of the upper left, upper right, lower left and lower right, away from the seams."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    inner = slice(4, -4)
    blocks = [pixels[:height, :width], pixels[:height, width:], pixels[height:, :width], pixels[height:, width:]]
    for block, colour in zip(blocks, corners, strict=True):
        assert_close(block[inner, inner].mean((0, 1)).round(), colour, tolerance)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def deflated_zeros(num_rows: int, row_bytes: int) -> bytes:
    deflate = zlib.compressobj(1)
    return b"".join(deflate.compress(bytes(row_bytes)) for _ in range(num_rows)) + deflate.flush()


def png(samples: NDArray[np.uint16], colour_type: int, *extra: bytes) -> bytes:
    """A 16-bit PNG of [height, width, channels], which Pillow does not write for colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png_of(samples.shape[1], samples.shape[0], 16, colour_type, zlib.compress(rows), *extra)


def png_of(width: int, height: int, num_bits: int, colour_type: int, deflated: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, num_bits, colour_type, 0, 0, 0)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", deflated), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    changed = bytearray(data)
    for position, value in changes:
        changed[position : position + len(value)] = value
    return bytes(changed)


def of_one_tile(width: int, height: int) -> bytes:
    """A TIFF of 64 x 64 pixels that are the corner of one deflated tile."""
    tile = deflated_zeros(height, width)
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, width), (323, height)]
    tags += [(324, 8 + 2 + 12 * 10 + 4), (325, len(tile))]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + tile


def jpeg_of_sampling_3x1(level: int) -> bytes:
    """A gray JPEG of 48 x 16 pixels with three samples of luma for one of chroma: legal, and nameless to TurboJPEG."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body

    tables = [
        segment(0xDB, bytes([0] + [8] * 64)),
        segment(0xC4, bytes([0x00, 1, 1] + [0] * 14 + [0, 7])),  # DC: "0" is no change, "10" a change of 7 bits
        segment(0xC4, bytes([0x10, 1] + [0] * 15 + [0])),  # AC: "0" ends the block
        segment(0xC0, struct.pack(">BHHB", 8, 16, 48, 3) + bytes([1, 0x31, 0, 2, 0x11, 0, 3, 0x11, 0])),
        segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
    ]
    bits = f"10{level - 128:07b}0" + "00" * (4 + 3 * 5)
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + b"".join(tables) + body + b"\xff\xd9"


def samples() -> dict[str, bytes]:
    """One small file of every kind of file."""
    image, gray16 = photo(), Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)
    translucent = image.copy()
    translucent.putalpha(128)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "jpeg": save(image, "JPEG", exif=exif),
        "jpeg, progressive": save(image, "JPEG", progressive=True),
        "jpeg, cmyk": save(image.convert("CMYK"), "JPEG"),
        "jpeg, gray": save(image.convert("L"), "JPEG"),
        "png": save(image, "PNG", exif=exif),
        "png, palette": save(image.convert("P"), "PNG", transparency=3),
        "png, alpha": save(translucent, "PNG"),
        "png, 16 bits": save(gray16, "PNG"),
        "webp": save(translucent, "WEBP"),
        "webp, lossless": save(image, "WEBP", lossless=True),
        "webp, moving": save(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "gif": save(image, "GIF"),
        "gif, moving": save(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        "bmp": save(image, "BMP"),
        "tiff": save(image, "TIFF"),
        "tiff, lzw": save(image, "TIFF", compression="tiff_lzw"),
        "tiff, deflate": save(image, "TIFF", compression="tiff_adobe_deflate"),
        "tiff, jpeg": save(image, "TIFF", compression="jpeg"),
    }
    if "avif" in FORMATS:
        made["avif"] = save(image, "AVIF")
    return made


SAMPLES = samples()


def webp_of_canvas(width: int, height: int) -> bytes:
    frame = save(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    header = bytes([2, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = bytes(6) + (15).to_bytes(3, "little") * 2 + bytes([100, 0, 0, 0]) + frame
    chunks = [(b"VP8X", header), (b"ANIM", bytes(6)), (b"ANMF", body)]
    data = b"WEBP" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in chunks)
    return b"RIFF" + struct.pack("<I", len(data)) + data
