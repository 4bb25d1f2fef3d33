"""Images: every format and fault comes out as the right pixels or as a typed reason, quietly and in bounded memory."""

import io
import resource
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from prep.images import FORMATS, Decoded, ImageError, ImageLimits, Pixels, decode, encode, resize
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


def test_samples_without_a_known_range_are_refused() -> None:
    for mode in ("F", "I"):
        assert reason_of(save(Image.new(mode, (32, 32), 1), "TIFF")) is Reason.IMAGE_FORMAT


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


@pytest.mark.parametrize(
    "data", [b"", b"a caption, named x.jpg", b"<html>404</html>", b"%PDF-1.7", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"]
)
def test_what_is_no_image_is_named_so(data: bytes) -> None:
    assert reason_of(data) is Reason.IMAGE_FORMAT


def test_a_name_says_nothing_the_bytes_do() -> None:
    """Nothing but the allow-list is tried: Pillow itself would open this one."""
    assert reason_of(save(quarters(), "PPM")) is Reason.IMAGE_FORMAT


def webp_of_canvas(width: int, height: int) -> bytes:
    frame = save(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    header = bytes([2, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = bytes(6) + (15).to_bytes(3, "little") * 2 + bytes([100, 0, 0, 0]) + frame
    chunks = [(b"VP8X", header), (b"ANIM", bytes(6)), (b"ANMF", body)]
    data = b"WEBP" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in chunks)
    return b"RIFF" + struct.pack("<I", len(data)) + data


def bombs() -> dict[str, Callable[[], bytes]]:
    small = quarters()
    jpeg, gif, bmp = (save(small, kind) for kind in ("JPEG", "GIF", "BMP"))
    size = struct.pack("<HH", 48, 32)
    return {
        "a real png of 20,000 x 20,000": lambda: png_of(20_000, 20_000, 1, 0, deflated_zeros(20_000, 2501)),
        "jpeg": lambda: patched(jpeg, (jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000))),
        "gif": lambda: gif.replace(size, struct.pack("<HH", 60_000, 60_000)),
        "bmp": lambda: patched(bmp, (18, struct.pack("<II", 60_000, 60_000))),
        "webp": lambda: webp_of_canvas(16_000, 16_000),
        "tiff of one tile": lambda: of_one_tile(10_000, 10_000),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_decompression_bomb_is_refused_from_its_header(name: str) -> None:
    data = bombs()[name]()
    assert len(data) < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reason_of(data) is Reason.IMAGE_TOO_LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # kilobytes


def test_an_ordinary_tile_is_read() -> None:
    assert_close(pixels_of(of_one_tile(64, 64)), 0, 0)


def test_a_progressive_jpeg_of_countless_scans_is_refused() -> None:
    data = save(photo(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert reason_of(data[:-2] + 600 * scan + data[-2:]) is Reason.IMAGE_TOO_LARGE


def test_limits_on_bytes_pixels_aspect_and_side() -> None:
    data = save(photo(80, 60), "PNG")
    assert reason_of(data, ImageLimits(max_bytes=len(data) - 1)) is Reason.IMAGE_TOO_LARGE
    assert reason_of(data, ImageLimits(max_pixels=80 * 60 - 1)) is Reason.IMAGE_TOO_LARGE
    assert reason_of(data, ImageLimits(max_aspect=1.33)) is Reason.IMAGE_ASPECT
    assert reason_of(data, ImageLimits(min_side=61)) is Reason.IMAGE_TOO_SMALL
    assert pixels_of(data, ImageLimits(len(data), 80 * 60, 80 / 60, 60)).shape == (60, 80, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_one_by_five_thousand_and_tracking_pixels(kind: str) -> None:
    assert reason_of(save(Image.new("RGB", (1, 5000)), kind)) is Reason.IMAGE_ASPECT
    assert reason_of(save(Image.new("RGB", (5000, 1)), kind)) is Reason.IMAGE_ASPECT
    assert reason_of(save(Image.new("RGB", (1, 1)), kind)) is Reason.IMAGE_TOO_SMALL


def test_a_trashed_jpeg_body_is_noticed() -> None:
    """Pillow takes this file; strict TurboJPEG does not."""
    data = save(photo(500, 375), "JPEG", quality=90)
    trash = np.random.default_rng(0).integers(0, 255, 600, np.uint8).tobytes()  # and no marker among it
    trashed = patched(data, (len(data) // 2, trash))
    with Image.open(io.BytesIO(trashed)) as image:
        image.load()
    assert reason_of(trashed) is Reason.IMAGE_DAMAGED


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_rejected_or_loses_nothing(name: str, cut: float) -> None:
    data = SAMPLES[name]
    outcome = attempt(data[: int(cut * len(data))])
    if isinstance(outcome, ImageError):
        assert outcome.reason in (Reason.IMAGE_DAMAGED, Reason.IMAGE_FORMAT)
    else:
        np.testing.assert_array_equal(outcome.pixels, pixels_of(data))


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3)), min_size=1))
def test_damage_never_escapes_as_anything_but_an_image_error(name: str, places: list[tuple[float, bytes]]) -> None:
    data = SAMPLES[name]
    damaged = patched(data, *((int(at * at * len(data)), value) for at, value in places))[: len(data)]
    first, again = attempt(damaged), attempt(bytes(bytearray(damaged)))
    if isinstance(first, ImageError):
        assert str(first) == str(again)  # byte-identical stores hold byte-identical rejects
    else:
        assert first.pixels.shape == (first.height, first.width, 3)


def test_nothing_is_printed_or_warned_about(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True, action="always") as warned:
        for data in SAMPLES.values():
            for _ in range(40):
                places = [(int(rng.integers(len(data) - 8)), rng.bytes(4)) for _ in range(3)]
                attempt(patched(data, *places))
                attempt(data[: places[0][0]])
    assert warned == []
    assert capfd.readouterr() == ("", "")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize(
    ("size", "short_side", "wanted"),
    [
        ((500, 375), 178, (237, 178)),
        ((375, 500), 178, (178, 237)),
        ((64, 64), 16, (16, 16)),
        ((1000, 17), 16, (941, 16)),
        ((500, 375), 1, (1, 1)),
    ],
)
def test_resize_gives_the_short_side(size: tuple[int, int], short_side: int, wanted: tuple[int, int]) -> None:
    pixels = resize(np.array(photo(*size)), short_side)
    assert pixels.shape == (wanted[1], wanted[0], 3)
    assert pixels.flags.c_contiguous


def test_resize_never_enlarges() -> None:
    pixels = np.array(photo(80, 60))
    assert resize(pixels, 60) is pixels
    assert resize(pixels, 61) is pixels


def test_resize_is_antialiased_bicubic() -> None:
    image = photo(500, 375)
    wanted = image.resize((149, 112), Image.Resampling.BICUBIC)
    assert_close(resize(np.array(image), 112), wanted, 2)
    checkers = np.indices((512, 512)).sum(0)[:, :, None].repeat(3, axis=2) % 2 * 255
    assert_close(resize(checkers.astype(np.uint8), 96), 127.5, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_resize_keeps_a_flat_colour_and_the_aspect(width: int, height: int, short_side: int, level: int) -> None:
    resized = resize(np.full((height, width, 3), level, np.uint8), short_side)
    scale = min(1, short_side / min(width, height))
    assert min(resized.shape[:2]) == min(short_side, width, height)
    assert np.abs(np.array(resized.shape[:2]) - np.array([height, width]) * scale).max() <= 0.5
    assert (resized == level).all()


def test_encode_writes_baseline_jpeg_without_subsampling() -> None:
    pixels = np.array(photo(149, 112))
    data = encode(pixels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert "progressive" not in image.info
    assert b"\xff\xc0" in data
    assert simplejpeg.decode_jpeg_header(data) == (112, 149, "YCbCr", "444")
    assert np.abs(pixels_of(data).astype(int) - pixels).mean() < 1
    assert len(encode(pixels, quality=50)) < len(data)


def test_a_copy_reads_back_as_it_was_stored() -> None:
    copy = encode(resize(pixels_of(save(quarters(480, 320), "PNG")), 112))
    assert_quarters(pixels_of(copy), [RED, GREEN, BLUE, BLACK])
