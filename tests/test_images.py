"""Every kind of image comes out as the right pixels: upright, opaque, 8-bit RGB."""

import io
import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from prep.images import FORMATS, decode
from tests.image_files import (
    BLACK,
    BLUE,
    GREEN,
    LIMITS,
    RED,
    WHITE,
    assert_close,
    assert_quarters,
    chunk,
    jpeg_of_sampling_3x1,
    patched,
    pixels_of,
    png,
    quarters,
    save,
)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_its_pixels_size_and_name(kind: str) -> None:
    decoded = decode(save(quarters(), kind.upper()), LIMITS)
    assert (decoded.format, decoded.width, decoded.height) == (kind, 48, 32)
    assert_quarters(decoded.pixels, [RED, GREEN, BLUE, BLACK])


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("gif", "bmp")])
@pytest.mark.parametrize(
    ("orientation", "corners"),
    [
        (1, [RED, GREEN, BLUE, BLACK]),
        (2, [GREEN, RED, BLACK, BLUE]),
        (3, [BLACK, BLUE, GREEN, RED]),
        (4, [BLUE, BLACK, RED, GREEN]),
        (5, [RED, BLUE, GREEN, BLACK]),
        (6, [BLUE, RED, BLACK, GREEN]),
        (7, [BLACK, GREEN, BLUE, RED]),
        (8, [GREEN, BLACK, RED, BLUE]),
    ],
)
def test_exif_orientation_is_applied(kind: str, orientation: int, corners: list[tuple[int, int, int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "tiff" else {"exif": exif}
    decoded = decode(save(quarters(), kind.upper(), **options), LIMITS)
    assert (decoded.width, decoded.height) == ((48, 32) if orientation < 5 else (32, 48))
    assert_quarters(decoded.pixels, corners)


def test_exif_is_found_behind_other_segments_and_garbage_in_it_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = save(quarters(), "JPEG")
    comment = b"\xff\xfe\x00\x06Exif"
    segment = b"\xff\xff\xe1" + struct.pack(">H", len(exif.tobytes()) + 2) + exif.tobytes()  # with a fill byte
    assert_quarters(pixels_of(plain[:2] + comment + segment + plain[2:]), [BLACK, BLUE, GREEN, RED])
    garbage = b"\xff\xe1" + struct.pack(">H", 2 + 6 + 9) + b"Exif\0\0" + b"\xa5" * 9
    assert_quarters(pixels_of(plain[:2] + garbage + plain[2:]), [RED, GREEN, BLUE, BLACK])


def test_cmyk_jpeg_is_not_a_negative() -> None:
    data = save(quarters().convert("CMYK"), "JPEG", quality=95)
    assert_quarters(pixels_of(data), [RED, GREEN, BLUE, BLACK])
    # Pillow writes no YCCK. Relabelled as YCC and K the same numbers mean other colours, which decoders must agree on.
    relabelled = patched(data, (data.index(b"Adobe") + 11, b"\x02"))
    assert [simplejpeg.decode_jpeg_header(jpeg)[2] for jpeg in (data, relabelled)] == ["CMYK", "YCCK"]
    for jpeg in (data, relabelled):
        with Image.open(io.BytesIO(jpeg)) as image:
            assert_close(pixels_of(jpeg), image.convert("RGB"), 2)


def test_cmyk_tiff_is_not_inverted() -> None:
    assert_quarters(pixels_of(save(quarters().convert("CMYK"), "TIFF")), [RED, GREEN, BLUE, BLACK], tolerance=0)


def test_gray_jpeg_and_unusual_sampling() -> None:
    assert_close(pixels_of(save(Image.new("L", (40, 30), 77), "JPEG")), 77, 1)
    data = jpeg_of_sampling_3x1(200)
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg_header(data)
    assert_close(pixels_of(data), 200, 0)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_16_bit_png_is_scaled_not_clipped(colour_type: int, channels: int) -> None:
    ramp = np.linspace(0, 65535, 64 * 32).round().astype(np.uint16).reshape(32, 64, 1).repeat(channels, axis=2)
    # Pillow reads 16-bit colour as its upper bytes: at most one below the nearest.
    assert_close(pixels_of(png(ramp, colour_type)), (ramp / 257).round(), 0 if channels == 1 else 1)


@pytest.mark.parametrize(("colour_type", "channels"), [(4, 2), (6, 4)])
def test_16_bit_png_with_alpha_lies_on_white(colour_type: int, channels: int) -> None:
    half = np.full((32, 32, channels), 0x8080, np.uint16)
    assert_close(pixels_of(png(half, colour_type)), 128 * 128 / 255 + 255 * 127 / 255, 1)


def test_16_bit_gray_with_a_transparent_level_lies_on_white() -> None:
    gray = np.full((32, 32, 1), 0x4000, np.uint16)
    gray[:16] = 0x8000
    pixels = pixels_of(png(gray, 0, chunk(b"tRNS", struct.pack(">H", 0x8000))))
    assert_close(pixels[:16], 255, 0)
    assert_close(pixels[16:], 64, 0)


def test_16_bit_tiff_of_both_polarities_and_byte_orders() -> None:
    gray = np.full((32, 32), 0x4000, np.uint16)
    little = save(Image.fromarray(gray), "TIFF")
    assert_close(pixels_of(little), 64, 0)
    black_is_zero = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert little.count(black_is_zero) == 1
    assert_close(pixels_of(little.replace(black_is_zero, struct.pack("<HHIHH", 262, 3, 1, 0, 0))), 255 - 64, 0)
    big = save(Image.frombytes("I;16B", (32, 32), gray.astype(">u2").tobytes()), "TIFF")
    assert big.startswith(b"MM")
    assert_close(pixels_of(big), 64, 0)


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_transparent_palette_lies_on_white(kind: str) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([*BLACK, *BLUE, *RED])
    image.paste(2, (0, 0, 40, 20))
    pixels = pixels_of(save(image, kind.upper(), transparency=2))
    assert_close(pixels[:20], WHITE, 0)
    assert_close(pixels[20:], BLUE, 0)


def test_partial_transparency_of_palettes_colour_keys_and_alpha_lies_on_white() -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([*BLACK, *BLUE])
    assert_close(pixels_of(save(image, "PNG", transparency=bytes([255, 51]))), (204, 204, 255), 0)
    assert_close(pixels_of(save(Image.new("RGB", (40, 40), GREEN), "PNG", transparency=GREEN)), WHITE, 0)
    for kind in ("PNG", "TIFF"):
        assert_close(pixels_of(save(Image.new("RGBA", (40, 40), (0, 0, 255, 51)), kind)), (204, 204, 255), 0)
        assert_close(pixels_of(save(Image.new("LA", (40, 40), (0, 51)), kind)), 204, 0)
    assert_close(
        pixels_of(save(Image.new("RGBA", (40, 40), (0, 0, 255, 51)), "WEBP", lossless=True)), (204, 204, 255), 0
    )


def test_one_bit_gray_and_palette_become_rgb() -> None:
    for mode in ("1", "L", "P"):
        assert_close(pixels_of(save(quarters().convert("L").convert(mode), "PNG"))[0, 0], 76 if mode != "1" else 0, 0)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", *(["AVIF"] if "avif" in FORMATS else [])])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    later = [Image.new("RGB", (48, 32), colour) for colour in (WHITE, RED)]
    data = save(quarters(), kind, save_all=True, append_images=later, duration=100)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert_quarters(pixels_of(data), [RED, GREEN, BLUE, BLACK])
