"""Our `.beton` files, read back by FFCV itself, and held against FFCV's own writer.

SHORTCLIP_LARGE=1 adds a file of more than 4 GiB, on the disk for half a minute: addresses past 32 bits.
"""

import gc
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prep.beton import PAGE_SIZE, BetonRows, write_beton
from prep.errors import UserError
from prep.export import main as export_main
from prep.store import open_store

from .conftest import once
from .varied_store import make_varied_store

# Torch can do uint16 by now.
pytestmark = pytest.mark.filterwarnings("ignore:Pytorch currently doesn't support uint16")


@pytest.fixture
def quiet_finalizers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Numba's complain, harmlessly, when a loader's compiled functions are thrown away."""
    yield
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    gc.collect()


def ffcv(module: str = "ffcv.loader") -> Any:
    return pytest.importorskip(module, reason="ffcv is not there: ./shortclip ffcv adds it", exc_type=ImportError)


def random_rows(images: list[bytes], sizes: list[tuple[int, int]], seed: int = 0) -> BetonRows:
    """sizes: (width, height)."""
    rng = np.random.default_rng(seed)
    widths, heights = np.array(sizes, np.uint16).reshape(-1, 2).T
    tokens = rng.integers(0, 49_408, (len(images), 77)).astype(np.uint16)
    return BetonRows(images, widths, heights, tokens, rng.integers(0, 256, tokens.shape).astype(np.uint8))


def cut_up(rows: BetonRows, size: int) -> Iterator[BetonRows]:
    for first in range(0, len(rows.images), size):
        part = slice(first, first + size)
        yield BetonRows(
            rows.images[part], rows.widths[part], rows.heights[part], rows.tokens[part], rows.priorities[part]
        )


def written(path: Path, rows: BetonRows, encoding: str, page_size: int = PAGE_SIZE, batch_size: int = 7) -> Path:
    with path.open("wb") as file:
        write_beton(file, cut_up(rows, batch_size), len(rows.images), encoding, page_size)
    return path


def picture(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """A smooth picture with some noise on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.01, 0.2, (3, 3))]
    noisy = 128 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 4, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def read_all(path: Path, **options: Any) -> list[NDArray[Any]]:
    """Each field of all samples, by FFCV's plain loader. Its buffers are used again: they are copied at once."""
    loader = ffcv().Loader(str(path), batch_size=16, num_workers=1, drop_last=False, **options)
    batches = [[field.numpy().copy() for field in batch] for batch in loader]
    return [np.concatenate(field) for field in zip(*batches, strict=True)]


@pytest.mark.usefixtures("quiet_finalizers")
def test_ffcv_reads_every_jpeg_in_order(tmp_path: Path) -> None:
    pictures = [picture(seed, 320, 160) for seed in range(100)]
    jpegs = [simplejpeg.encode_jpeg(pixels, 95, "RGB", ("444", "420")[i % 2]) for i, pixels in enumerate(pictures)]
    jpegs[5] = simplejpeg.encode_jpeg(np.ascontiguousarray(pictures[5][..., :1]), 90, "GRAY")
    rows = random_rows(jpegs, [(320, 160)] * 100)
    path = written(tmp_path / "a.beton", rows, "jpeg", page_size=2 << 20)
    assert path.stat().st_size > 3 * (2 << 20)  # a page before the data, and two of data
    images, tokens, priorities, index = read_all(path)
    np.testing.assert_array_equal(index[:, 0], np.arange(100))
    np.testing.assert_array_equal(tokens, rows.tokens)
    np.testing.assert_array_equal(priorities, rows.priorities)
    # FFCV decodes by the fast, less accurate transform.
    fast = [simplejpeg.decode_jpeg(data, "RGB", fastdct=True, fastupsample=False) for data in jpegs]
    assert np.abs(images.astype(int) - fast).max() <= 1
    assert np.abs(images.astype(int) - [simplejpeg.decode_jpeg(data) for data in jpegs]).mean() < 3


@pytest.mark.usefixtures("quiet_finalizers")
def test_ffcv_reads_an_exported_store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    folder = once(tmp_path_factory, "varied", lambda out: str(make_varied_store(out)))[0] / "store"
    options = ["--view", "16-raw-crop1", "--captions", "synthetic", "--caption-number", "1"]
    export_main([str(folder), "--ffcv", str(tmp_path / "a.beton"), *options])
    images, tokens, priorities, index = read_all(tmp_path / "a.beton", os_cache=False)
    store = open_store(folder)
    assert index[:, 0].tolist() == list(range(store.manifest.num_samples))
    row = 0
    for shard in store.manifest.shards:
        names = ("16-raw-crop1", "tokens/synthetic/clip", "priorities/synthetic/clip/textblob")
        columns = [store.open_shard(name, shard.shard).read_all().to_pylist() for name in names]
        for view, ids, classes in zip(*columns, strict=True):
            assert images[row].tobytes() == view["image"]
            count = len(ids["tokens"])
            assert tokens[row].tolist() == (ids["tokens"][1 % count] if count else [0] * 77)
            assert priorities[row].tolist() == (classes["priorities"][1 % count] if count else [255] * 77)
            row += 1


@pytest.mark.usefixtures("quiet_finalizers")
def test_copies_of_many_sizes_are_cut_by_its_decoders(tmp_path: Path) -> None:
    decoder = ffcv("ffcv.fields.decoders").CenterCropRGBImageDecoder((48, 48), ratio=1)
    sizes = [(48 + 9 * (i % 5), 48) if i % 2 else (48, 48 + 31 * (i % 7)) for i in range(30)]
    pictures = [picture(seed, *size) for seed, size in enumerate(sizes)]
    rows = random_rows([simplejpeg.encode_jpeg(pixels, 95) for pixels in pictures], sizes)
    image = [decoder, ffcv("ffcv.transforms").ToTensor()]
    pipelines = {"image": image, "tokens": None, "priorities": None, "index": None}
    (cut,) = read_all(written(tmp_path / "a.beton", rows, "jpeg"), pipelines=pipelines)
    for found, pixels in zip(cut, pictures, strict=True):
        top, left = (pixels.shape[0] - 48) // 2, (pixels.shape[1] - 48) // 2
        wanted = pixels[top : top + 48, left : left + 48].astype(int)
        assert np.abs(found - wanted).mean() < 6


def test_its_own_writer_makes_the_same_file(tmp_path: Path) -> None:
    ffcv()
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.writer import DatasetWriter

    pictures = [picture(seed, 120, 100) for seed in range(120)]
    rows = random_rows([p.tobytes() for p in pictures], [(120, 100)] * 120)
    samples = [(*sample, i) for i, sample in enumerate(zip(pictures, rows.tokens, rows.priorities, strict=True))]
    texts = [NDArrayField(np.dtype(kind), (77,)) for kind in ("<u2", "u1")]
    fields = {"image": RGBImageField("raw"), "tokens": texts[0], "priorities": texts[1], "index": IntField()}
    theirs = tmp_path / "theirs.beton"
    DatasetWriter(str(theirs), fields, page_size=2 << 20, num_workers=1).from_indexed_dataset(samples)
    ours = written(tmp_path / "ours.beton", rows, "raw", page_size=2 << 20)
    assert ours.read_bytes() == theirs.read_bytes()


HEADER = np.dtype([("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("samples", "<u8"), ("table", "<u8")])


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=60), st.integers(1, 20))
def test_every_sample_lies_in_one_page_and_nothing_overlaps(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], batch_size: int
) -> None:
    images = [bytes([i % 255 + 1]) * size for i, size in enumerate(sizes)]
    rows = random_rows(images, [(1, 1)] * len(images))
    path = tmp_path_factory.getbasetemp() / "pages.beton"
    data = written(path, rows, "jpeg", page_size=1 << 14, batch_size=batch_size).read_bytes()
    header = np.frombuffer(data, HEADER, 1)[0]
    assert (header["version"], header["fields"], header["page"], header["samples"]) == (2, 4, 1 << 14, len(images))
    table = np.frombuffer(data[header["table"] :], np.dtype(("<u8", 3)))
    assert header["table"] % (1 << 14) == 0
    regions = [(start, start + size) for _, start, size in table.tolist()]
    assert all(end <= start for (_, end), (start, _) in pairwise(regions))
    assert regions[0][0] % (1 << 14) == 0
    for i, image in enumerate(images):
        mine = table[3 * i : 3 * i + 3].tolist()
        assert {sample for sample, *_ in mine} == {i}
        assert len({start >> 14 for _, start, _ in mine} | {(start + size - 1) >> 14 for _, start, size in mine}) == 1
        found = [data[start : start + size] for _, start, size in mine]
        assert found == [image, rows.tokens[i].tobytes(), rows.priorities[i].tobytes()]


def test_a_sample_larger_than_a_page_is_named(tmp_path: Path) -> None:
    page = 1 << 14
    for over in (0, 1):
        rows = random_rows([b"x" * 9, b"x" * (page - 231 + over)], [(1, 1)] * 2)
        if over:
            with pytest.raises(UserError, match=r"row 1: wanted samples that fit into a page of 16,384 bytes"):
                written(tmp_path / "a.beton", rows, "jpeg", page)
        else:
            written(tmp_path / "a.beton", rows, "jpeg", page)


@pytest.mark.skipif("SHORTCLIP_LARGE" not in os.environ, reason="writes 4.5 GB; SHORTCLIP_LARGE=1 runs it")
def test_addresses_past_32_bits(tmp_path: Path) -> None:
    side, count = 1000, 1500
    pixels = [picture(seed, side, side).tobytes() for seed in range(3)]
    rows = random_rows([pixels[i % 3] for i in range(count)], [(side, side)] * count)
    path = written(tmp_path / "large.beton", rows, "raw")
    try:
        assert path.stat().st_size > 1 << 32
        last = range(count - 20, count)
        images, tokens, _, index = read_all(path, indices=last)
        assert index[:, 0].tolist() == list(last)
        np.testing.assert_array_equal(tokens, rows.tokens[-20:])
        assert [image.tobytes() == pixels[i % 3] for i, image in zip(last, images, strict=True)] == [True] * 20
    finally:
        path.unlink()
