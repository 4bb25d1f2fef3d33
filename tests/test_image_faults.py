"""Every fault of an image comes out as a typed reason, quietly and in bounded memory."""

import io
import resource
import struct
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from prep.images import ImageError, ImageLimits, decode
from prep.pairs import Reason
from tests.image_files import (
    LIMITS,
    SAMPLES,
    assert_close,
    attempt,
    deflated_zeros,
    of_one_tile,
    patched,
    photo,
    pixels_of,
    png_of,
    quarters,
    reason_of,
    save,
    webp_of_canvas,
)

SCALE_OF = {None: 1, 100: 2, 50: 4, 25: 8}


def test_samples_without_a_known_range_are_refused() -> None:
    for mode in ("F", "I"):
        assert reason_of(save(Image.new(mode, (32, 32), 1), "TIFF")) is Reason.IMAGE_FORMAT


@pytest.mark.parametrize(
    "data", [b"", b"a caption, named x.jpg", b"<html>404</html>", b"%PDF-1.7", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"]
)
def test_what_is_no_image_is_named_so(data: bytes) -> None:
    assert reason_of(data) is Reason.IMAGE_FORMAT


def test_a_name_says_nothing_the_bytes_do() -> None:
    """Nothing but the allow-list is tried: Pillow itself would open this one."""
    assert reason_of(save(quarters(), "PPM")) is Reason.IMAGE_FORMAT


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


@pytest.mark.parametrize(("name", "other"), [(b"PLTE", b"pLTE"), (b"tRNS", b"tRNs")])
def test_a_png_chunk_of_a_damaged_name_is_not_taken_for_metadata(name: bytes, other: bytes) -> None:
    data = save(photo().convert("P"), "PNG", transparency=3)
    assert data.count(name) == 1
    assert reason_of(data.replace(name, other)) is Reason.IMAGE_DAMAGED


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


@pytest.mark.parametrize("min_short_side", [None, 100, 50, 25])
def test_a_trashed_jpeg_body_is_noticed_at_every_scale(min_short_side: int | None) -> None:
    """Pillow takes this file; strict TurboJPEG does not."""
    data = save(photo(500, 375), "JPEG", quality=90)
    trash = np.random.default_rng(0).integers(0, 255, 600, np.uint8).tobytes()  # and no marker among it
    trashed = patched(data, (len(data) // 2, trash))
    with Image.open(io.BytesIO(trashed)) as image:
        image.load()
    assert decode(data, LIMITS, min_short_side).pixels.shape[0] == -(-375 // SCALE_OF[min_short_side])
    with pytest.raises(ImageError) as caught:
        decode(trashed, LIMITS, min_short_side)
    assert caught.value.reason is Reason.IMAGE_DAMAGED


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
