"""Preprocessing against torchvision's transforms on Pillow images, put together as open_clip puts them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from eval.preprocess import Preprocess, check_kind, kind_of, thumbnail
from prep.errors import UserError
from prep.images import ImageLimits, decode
from train.models import MODELS

PEERS = {
    "centre": lambda res: Compose([Resize(res, InterpolationMode.BICUBIC), CenterCrop(res)]),
    "square": lambda res: Resize((res, res), InterpolationMode.BILINEAR),
}


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise on slopes, with an edge: what shows a shift of half a pixel, and ringing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    pixels = np.stack([255 * x, 255 * y, 128 * (x + y > 0.7)], axis=2) + rng.normal(0, 40, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def by_peer(pixels: NDArray[np.uint8], res: int, kind: str) -> NDArray[np.int64]:
    return np.asarray(PEERS[kind](res)(Image.fromarray(pixels))).astype(np.int64)


@pytest.mark.parametrize("kind", ["centre", "square"])
@settings(max_examples=40)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 64), st.integers(0, 1000))
def test_no_level_is_off_by_more_than_one(kind: str, height: int, width: int, res: int, seed: int) -> None:
    if max(height, width) > 16 * min(height, width):
        return
    pixels = photo(height, width, seed)
    ours = Preprocess(res, kind).apply(pixels)
    assert (ours.shape, ours.dtype) == ((3, res, res), torch.uint8)
    off = np.abs(ours.permute(1, 2, 0).numpy().astype(np.int64) - by_peer(pixels, res, kind))
    assert off.mean() < 0.6
    # Of an image twice as tall as wide Pillow 13 resizes the columns first, older ones and torch the rows: what is cut
    # off at 0 and 255 in between is not the same.
    assert off.max() <= (40 if height > 2 * width else 2 if kind == "centre" else 1)
    # Bicubic rounds after each direction and overshoots: here and there both differ.
    assert (off > 1).sum() <= 4 or height > 2 * width


def test_on_the_whole_a_level_is_hardly_ever_off() -> None:
    for kind in PEERS:
        off = [
            np.abs(
                Preprocess(32, kind).apply(photo(*size, seed)).permute(1, 2, 0).numpy()
                - by_peer(photo(*size, seed), 32, kind)
            )
            for seed, size in enumerate([(90, 120), (120, 90), (200, 100), (64, 64), (20, 31)])
        ]
        assert np.mean(off) < 0.1


def test_the_kinds_differ_by_far_more_than_that() -> None:
    pixels = photo(90, 150)
    ours = Preprocess(32, "square").apply(pixels).permute(1, 2, 0).numpy().astype(np.int64)
    assert np.abs(ours - by_peer(pixels, 32, "centre")).max() > 30
    shifted = Preprocess(32).apply(np.ascontiguousarray(pixels[:, 3:])).permute(1, 2, 0).numpy().astype(np.int64)
    assert np.abs(shifted - by_peer(pixels, 32, "centre")).max() > 10


@pytest.mark.parametrize("kind", ["centre", "square"])
def test_a_jpeg_file_as_open_clip_opens_it(tmp_path: Path, kind: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    Image.fromarray(photo(120, 170)).save(tmp_path / "x.jpg", quality=92)
    mode = {"centre": "shortest", "square": "squash"}[kind]
    interpolation = {"centre": "bicubic", "square": "bilinear"}[kind]
    transform = open_clip.image_transform(
        48, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    theirs = transform(Image.open(tmp_path / "x.jpg")) * 255
    pixels = decode((tmp_path / "x.jpg").read_bytes(), ImageLimits()).pixels
    off = (Preprocess(48, kind).apply(pixels).float() - theirs).abs()
    # Two decoders of one library: the chroma of a JPEG may be rounded otherwise.
    assert (float(off.max()) <= 2.01, float(off.mean()) < 0.2) == (True, True)


def test_pixels_that_may_not_be_written_to_are_left_as_they_are() -> None:
    pixels = photo(20, 30)
    kept = pixels.copy()
    pixels.flags.writeable = False
    for kind in PEERS:
        Preprocess(20, kind).apply(pixels).zero_()
    assert np.array_equal(pixels, kept)


def test_a_very_long_image_costs_no_more_than_a_long_one() -> None:
    pixels = np.zeros((1, 60_000, 3), np.uint8)
    pixels[:, 29_000:31_000] = 200
    # All of it at 224 px would take nine gigabytes.
    assert (Preprocess(224).apply(pixels) == 200).all()


def test_what_is_the_default() -> None:
    assert {kind_of(MODELS["l14_v2"]), kind_of(MODELS["b16_v1"])} == {"square", "centre"}
    for kind in (None, "centre", "square"):
        check_kind(kind)
    with pytest.raises(UserError, match="centre, square, found 'center'"):
        check_kind("center")


def test_a_thumbnail_is_the_middle() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    drawn = thumbnail(pixels, 10)
    assert drawn.shape == (10, 10, 3)
    assert (drawn[:, 1:-1] == 255).all()
    # What lies beside the middle shines through at its edge, as where torchvision resizes before it cuts.
    assert (drawn[:, [0, -1]] > 200).all()
