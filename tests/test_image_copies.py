"""Copies: antialiased, never enlarged but for crops, encoded as asked."""

import io
from typing import Literal

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prep.image_quality import psnr, reference_resize
from prep.images import Encoding, cut, encode, resize
from tests.image_files import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    assert_close,
    assert_quarters,
    photo,
    pixels_of,
    quarters,
    save,
)


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


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.data())
def test_a_cut_is_its_box_stretched_or_shrunk(width: int, height: int, res: int, data: st.DataObject) -> None:
    """Of a box inside a frame of another colour, nothing of the frame is seen."""
    left, top = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))
    box = np.array(photo(width, height))
    pixels = np.full((height + 40, width + 40, 3), 255, np.uint8)
    pixels[top : top + height, left : left + width] = box
    crop = cut(pixels, (left, top, width, height), res)
    assert crop.shape == (res, res, 3)
    assert crop.flags.c_contiguous
    assert psnr(crop, reference_resize(box, (res, res))) > 45
    flat = cut(np.full_like(pixels, 77), (left, top, width, height), res)
    assert (flat == 77).all()


@pytest.mark.parametrize("box", [(0, 0, 81, 60), (-1, 0, 10, 10), (0, 51, 10, 10), (0, 0, 0, 10)])
def test_a_box_that_sticks_out_is_a_mistake(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(AssertionError):
        cut(np.array(photo(80, 60)), box, 16)


def test_raw_is_the_pixels() -> None:
    pixels = np.array(photo(30, 20))
    assert encode(pixels, Encoding("raw")) == pixels.tobytes()


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_encode_subsamples_as_asked(subsampling: Literal["444", "422", "420"]) -> None:
    data = encode(np.array(photo(149, 112)), Encoding(subsampling=subsampling))
    assert simplejpeg.decode_jpeg_header(data) == (112, 149, "YCbCr", subsampling)


def test_encode_writes_baseline_jpeg_without_subsampling() -> None:
    pixels = np.array(photo(149, 112))
    data = encode(pixels, Encoding())
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert "progressive" not in image.info
    assert b"\xff\xc0" in data
    assert simplejpeg.decode_jpeg_header(data) == (112, 149, "YCbCr", "444")
    assert np.abs(pixels_of(data).astype(int) - pixels).mean() < 1
    assert len(encode(pixels, Encoding(quality=50))) < len(data)


def test_a_copy_reads_back_as_it_was_stored() -> None:
    copy = encode(resize(pixels_of(save(quarters(480, 320), "PNG")), 112), Encoding())
    assert_quarters(pixels_of(copy), [RED, GREEN, BLUE, BLACK])
