"""Shrinking what was fetched, for those who would rather not keep the originals."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from prep.fetch_guard import FetchError
from prep.fetch_image import _IMAGE, shrink
from prep.images import FORMATS

from .image_files import GREEN, RED, WHITE, assert_close, photo, quarters, save


def opened(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert not image.getexif()
        return np.asarray(image)


def test_a_shrunken_image_is_upright_and_told_with_its_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    data, *sizes = shrink(save(quarters(480, 320), "JPEG", quality=95, exif=exif), 64)
    assert sizes == [64, 96, 320, 480]
    pixels = opened(data)
    assert pixels.shape == (96, 64, 3)
    assert_close(pixels[12, 52], RED, 12)
    assert_close(pixels[84, 52], GREEN, 12)


def test_alpha_lies_on_white() -> None:
    data = save(Image.new("RGBA", (100, 100), (255, 0, 0, 0)), "PNG")
    assert_close(opened(shrink(data, 32)[0])[16, 16], WHITE, 2)


def test_what_is_small_or_of_16_bits_stays_as_it_is() -> None:
    small, deep = save(quarters(480, 320), "PNG"), save(Image.new("I;16", (100, 90)), "PNG")
    assert shrink(small, 320) == (small, 480, 320, 480, 320)
    assert shrink(deep, 32) == (deep, 100, 90, 100, 90)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damage_and_bombs_are_refused() -> None:
    with pytest.raises(FetchError, match="image_damaged"):
        shrink(save(photo(480, 320), "JPEG")[:-2000], 64)
    with pytest.raises(FetchError, match="too_large"):
        shrink(save(Image.new("1", (10_000, 10_000)), "PNG"), 64)


@pytest.mark.parametrize("kind", FORMATS)
def test_whatever_prep_images_decodes_passes_for_an_image(kind: str) -> None:
    assert _IMAGE.match(save(photo(), kind))
