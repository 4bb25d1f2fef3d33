"""Originals kept as copies: the same pixels, no metadata, and only what every decoder takes."""

import io
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prep.images import Encoding, decode, keep
from tests.image_files import LIMITS, jpeg_of_sampling_3x1, patched, photo, pixels_of, save

JPEG = save(photo(320, 240), "JPEG")


def kept(data: bytes, short_side: int = 240, encoding: Encoding = Encoding()) -> bytes | None:  # noqa: B008
    return keep(data, decode(data, LIMITS, short_side), short_side, encoding)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(("short_side", "is_kept"), [(213, False), (214, True), (240, True), (1000, True)])
def test_an_original_little_larger_than_its_copy_or_smaller_is_kept(short_side: int, is_kept: bool) -> None:
    assert (kept(JPEG, short_side) is not None) == is_kept


@settings(max_examples=40, deadline=None)
@given(
    st.integers(16, 90),
    st.integers(16, 90),
    st.integers(30, 95),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 3),
    st.binary(max_size=40),
)
def test_what_is_kept_has_the_same_pixels_in_every_decoder(
    width: int, height: int, quality: int, subsampling: int, restart_rows: int, behind: bytes
) -> None:
    image = photo(width, height)
    data = save(image, "JPEG", quality=quality, subsampling=subsampling, restart_marker_rows=restart_rows)
    own = kept(data + behind, min(width, height))
    assert own is not None
    assert (pixels_of(own) == pixels_of(data)).all()
    with Image.open(io.BytesIO(own)) as read, Image.open(io.BytesIO(data)) as original:
        assert (np.asarray(read) == np.asarray(original)).all()
    assert own.endswith(b"\xff\xd9")


def test_metadata_goes() -> None:
    secret = [segment(marker, b"here I live") for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE)]
    exif = Image.Exif()
    exif[0x0112] = 1
    data = save(photo(320, 240), "JPEG", exif=exif, icc_profile=b"here I live" * 9, comment=b"here I live")
    own = kept(data[:2] + b"".join(secret) + data[2:] + b"here I live")
    assert own is not None
    assert b"here I live" not in own
    assert b"Exif" not in own
    assert own[:11] == b"\xff\xd8\xff\xe0\x00\x10JFIF\0"
    assert own == kept(JPEG)
    assert own == kept(own)


def test_what_some_decoder_would_not_take_is_encoded_again() -> None:
    image = photo(320, 240)
    exif = Image.Exif()
    exif[0x0112] = 3
    two_scans = save(image, "JPEG", progressive=True)
    adobe_rgb = save(image, "JPEG", keep_rgb=True)
    comment_behind = JPEG[:-2] + segment(0xFE, b"here I live") + JPEG[-2:]
    number_of_lines = JPEG[:2] + segment(0xDC, b"\0\xf0") + JPEG[2:]
    for name, data in {
        "progressive": two_scans,
        "turned": save(image, "JPEG", exif=exif),
        "gray": save(image.convert("L"), "JPEG"),
        "cmyk": save(image.convert("CMYK"), "JPEG"),
        "rgb": adobe_rgb,
        "extended": patched(JPEG, (JPEG.index(b"\xff\xc0"), b"\xff\xc1")),
        "a comment behind the scan": comment_behind,
        "a segment of another kind": number_of_lines,
        "png": save(image, "PNG"),
        "4:1:1": simplejpeg.encode_jpeg(np.array(image), 90, "RGB", "411"),
    }.items():
        assert kept(data) is None, name
    assert kept(jpeg_of_sampling_3x1(200)) is None
    assert kept(JPEG, encoding=Encoding("raw")) is None


def test_a_file_that_is_mostly_padding_is_encoded_again() -> None:
    start = JPEG.index(b"\xff\xda")
    assert kept(JPEG[:start] + b"\xff" * 200_000 + JPEG[start:]) == kept(JPEG)
    assert kept(JPEG[:-2] + b"\xff" * 200_000 + JPEG[-2:]) is None
    assert kept(JPEG[:start] + segment(0xDD, b"\0\0") * 40_000 + JPEG[start:]) is None
