"""The judge of quality is right, and what it says of the copies that are stored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from prep.image_quality import ENCODINGS, psnr, quality_rows, reference_resize
from prep.images import Encoding, encode


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_the_reference_is_pillows_filter_in_double_precision(width: int, height: int, wide: int, high: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    wanted = [
        np.asarray(Image.fromarray(pixels[:, :, i].astype(np.float32)).resize((wide, high), Image.Resampling.BICUBIC))
        for i in range(3)
    ]
    np.testing.assert_allclose(reference_resize(pixels, (high, wide)), np.stack(wanted, axis=2), atol=1e-3)


def test_psnr() -> None:
    zeros = np.zeros((4, 4, 3))
    assert psnr(zeros, zeros + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(zeros, zeros + 255) == 0
    assert psnr(zeros, zeros - 9) == float("inf")  # below black is black


def sharp_photo(seed: int, width: int, height: int) -> bytes:
    """Detail of every size, as in a photograph: the finer, the fainter; sharpened, in JPEG."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for step in (2, 4, 8, 16, 32):
        noise = Image.fromarray(rng.integers(0, 256, (height // step, width // step, 3), np.uint8))
        pixels += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) * step / 62
    image = Image.fromarray(pixels.round().astype(np.uint8)).filter(ImageFilter.SHARPEN)
    return encode(np.array(image), Encoding(quality=90, subsampling="420"))


def test_our_copies_are_as_good_as_pillows_and_better_than_img2datasets() -> None:
    jpegs = [sharp_photo(seed, *size) for seed, size in enumerate([(900, 601), (643, 800)])]
    table = {(row.way, row.short_side): row for row in quality_rows(jpegs, (112, 178))}
    for short_side in (112, 178):
        full, fraction, pillow = (
            table[way, short_side]
            for way in ("ours, decoded in full", "ours, decoded as for the largest copy", "Pillow, bicubic")
        )
        assert full.num_images == 2
        assert full.copy_db > 55
        assert full.copy_db > pillow.copy_db - 0.5
        assert fraction.copy_db > 42
        assert set(full.encoded_db) == set(ENCODINGS)
        for encoding in ENCODINGS:
            assert full.encoded_db[encoding] > pillow.encoded_db[encoding] - 0.1
        assert fraction.encoded_db["q95 4:4:4"] > full.encoded_db["q95 4:4:4"] - 0.6
        # Chroma is what is lost at these sizes, at fewer bytes.
        assert full.encoded_db["q90 4:4:4"] > full.encoded_db["q95 4:2:0"]
        area = table.get(("OpenCV, area", short_side))  # what img2dataset uses, with q95 4:2:0
        if area is not None:
            assert full.copy_db > area.copy_db + 3
            assert fraction.encoded_db["q95 4:4:4"] > area.encoded_db["q95 4:2:0"] + 1
