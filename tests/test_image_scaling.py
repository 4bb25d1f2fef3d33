"""JPEG decoded at a fraction of its size: when, how well, and that nothing else about the image changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prep.image_jpeg import MIN_SCALED_RATIO
from prep.image_quality import psnr, reference_resize
from prep.images import ImageLimits, decode, resize
from tests.image_files import BLACK, BLUE, GREEN, LIMITS, RED, assert_quarters, patched, photo, quarters, save


@pytest.mark.parametrize(
    ("short_side", "min_short_side", "divisor"),
    [(320, 201, 1), (320, 200, 1), (320, 100, 2), (320, 101, 1), (320, 50, 4), (320, 51, 2), (320, 25, 8), (320, 1, 8)],
)
def test_a_large_jpeg_is_decoded_at_a_fraction(short_side: int, min_short_side: int, divisor: int) -> None:
    data = save(photo(short_side * 2, short_side), "JPEG")
    decoded = decode(data, LIMITS, min_short_side)
    assert (decoded.width, decoded.height) == (short_side * 2, short_side)
    assert decoded.pixels.shape == (short_side // divisor, short_side * 2 // divisor, 3)
    assert divisor == 1 or short_side / divisor >= MIN_SCALED_RATIO * min_short_side


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_in_full(kind: str) -> None:
    assert decode(save(photo(320, 240), kind), LIMITS, 16).pixels.shape == (240, 320, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 100}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_can_be_scaled(mode: str, options: dict[str, object]) -> None:
    decoded = decode(save(quarters(480, 320).convert(mode), "JPEG", **options), LIMITS, 50)
    assert decoded.pixels.shape == (80, 120, 3)
    if mode != "L":
        assert_quarters(decoded.pixels, [RED, GREEN, BLUE, BLACK])


@pytest.mark.parametrize(("size", "shape"), [((480, 320), (120, 80, 3)), ((479, 320), (479, 320, 3))])
def test_a_turned_jpeg_is_scaled_where_no_block_is_cut(size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(save(quarters(*size), "JPEG", exif=exif), LIMITS, 50)
    assert decoded.pixels.shape == shape
    assert (decoded.width, decoded.height) == size[::-1]
    assert_quarters(decoded.pixels, [BLUE, RED, BLACK, GREEN])


def test_a_process_that_cannot_be_scaled_is_not() -> None:
    """A lossless frame (0xC3) has no blocks to scale; TurboJPEG must never be asked to. This one is damaged, too."""
    data = save(photo(320, 240), "JPEG")
    lossless = patched(data, (data.index(b"\xff\xc0"), b"\xff\xc3"))
    for min_short_side in (None, 16):
        with pytest.raises(Exception, match=r"jpeg|sampl") as caught:
            decode(lossless, LIMITS, min_short_side)
        assert type(caught.value).__name__ == "ImageError"


@settings(max_examples=40, deadline=None)
@given(st.integers(200, 330), st.integers(200, 330), st.sampled_from([20, 40]))
def test_a_copy_of_a_fraction_lies_where_a_copy_of_the_whole_does(width: int, height: int, short_side: int) -> None:
    """Whatever part of its last block an image fills. Not allowed for, that costs 10 to 20 dB here."""
    data = save(photo(width, height), "JPEG", quality=95, subsampling=0)
    decoded = decode(data, LIMITS, short_side)
    assert decoded.pixels.shape[0] <= -(-height // 2)
    copy = resize(decoded.pixels, short_side, (decoded.width, decoded.height))
    whole = decode(data, LIMITS).pixels
    assert copy.shape == resize(whole, short_side).shape
    assert psnr(copy, reference_resize(whole, copy.shape[:2])) > 45


def test_a_fraction_needs_less_memory() -> None:
    data = save(photo(1600, 1200), "JPEG")
    limits = ImageLimits(max_memory=2_000_000)
    assert decode(data, limits, 50).pixels.shape == (150, 200, 3)
    with pytest.raises(Exception, match="of 1"):
        decode(data, limits)
    assert np.ptp(decode(data, limits, 50).pixels) > 100
