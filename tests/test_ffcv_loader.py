"""FFCV behind the contract: every view as TorchLoader gives it, and no file that is not its store's."""

import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import torch

from pipelines.contract import Batch, ColorJitter, Draws, Loader, TokenBudget
from pipelines.ffcv_loader import JPEG_TOLERANCE, FfcvLoader
from pipelines.torch_loader import TorchLoader
from prep import build_options
from prep.build import build
from prep.errors import UserError
from prep.export import main as export_main
from prep.store import open_store

from .conftest import once
from .damage import rewrite
from .tar_files import tar_of

NUM_ROWS = 96

VIEWS = {  # the folders of each (crops, encoding)
    ("online", "jpeg"): ["32"],
    ("online", "raw"): ["32-raw"],
    ("bank", "jpeg"): ["32-crop0", "32-crop1"],
    ("bank", "raw"): ["32-raw-crop0", "32-raw-crop1"],
}

SAMPLES = 24 + 4 * 1041
ROW_17 = SAMPLES + 17 * 40
"""Where a .beton tells of the first sample, and of one more; see prep.beton."""


@pytest.fixture
def ffcv() -> None:
    pytest.importorskip("ffcv.loader", reason="ffcv is not there: ./shortclip ffcv adds it", exc_type=ImportError)


def picture(row: int) -> bytes:
    """Waves with some noise on them, and a block of a strong colour, as a JPEG file."""
    rng = np.random.default_rng(row)
    height, width = 60 + row % 7, 60 + row % 5
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.05, 0.6, (3, 3))], axis=-1)
    pixels = (128 + 90 * waves + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)
    pixels[20:40, 20:40] = rng.integers(0, 2, 3) * 255
    data: bytes = simplejpeg.encode_jpeg(pixels, 95, "RGB", "444")
    return data


def make_exported(out: Path) -> str:
    """A store in all four views, and an export of each; in this process: starting others would take the most time."""
    members = []
    for row in range(NUM_ROWS):
        members += [(f"{row}.jpg", picture(row)), (f"{row}.txt", f"a red thing that runs {row % 7} miles".encode())]
    out.mkdir()
    (out / "pairs.tar").write_bytes(tar_of(members))
    raw, bank = ["--encoding", "raw"], ["--crops", "2"]
    for options in ([], raw, bank, bank + raw):
        common = ["--input", str(out / "pairs.tar"), "--out", str(out / "store"), "--res", "32", "--tagger", "textblob"]
        asked = build_options.parse([*common, *options], "")
        engine = replace(asked.engine, limits=replace(asked.engine.limits, supervise=False))
        build(replace(asked, engine=engine))
    for folder in (folder for folders in VIEWS.values() for folder in folders):
        export(out, folder)
    return "built"


def export(out: Path, folder: str) -> None:
    export_main([str(out / "store"), "--ffcv", str(out / f"{folder}.beton"), "--view", folder])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with store/ and a .beton of each of its views."""
    return once(tmp_path_factory, "exported", make_exported)[0]


def draws(folder: Path, view: tuple[str, str], **more: Any) -> Draws:
    asked = {"batch_size": 40, "seed": 3, "jitter": ColorJitter(), **more}
    return Draws((open_store(folder / "store"),), TokenBudget(32, 8), crops=view[0], encoding=view[1], **asked)


def betons(folder: Path, view: tuple[str, str]) -> list[Path]:
    return [folder / f"{name}.beton" for name in VIEWS[view]]


def take(loader: Loader, num: int) -> list[Batch]:
    return list(islice(iter(loader), num))


def same(a: Batch, b: Batch, view: tuple[str, str] = ("", "raw")) -> bool:
    """Whether all but pixels is equal, and these are too, or near enough in a JPEG view."""
    most, mean = JPEG_TOLERANCE if view[1] == "jpeg" else (0, 0.1)
    away = (a.images.int() - b.images.int()).abs()
    near = a.images.shape == b.images.shape and away.max() <= most and away.float().mean() < mean
    pairs = (a.tokens, b.tokens), (a.index, b.index), (a.jitter, b.jitter)
    return bool(near) and all(x is not None and y is not None and torch.equal(x, y) for x, y in pairs)


@pytest.mark.usefixtures("ffcv")
@pytest.mark.parametrize("view", VIEWS, ids="-".join)
def test_it_gives_what_the_reference_gives(exported: Path, view: tuple[str, str]) -> None:
    """Over five epochs, so that a bank's crops come in turn, in batches that lie across two of them."""
    asked = draws(exported, view)
    found, wanted = take(FfcvLoader(asked, betons(exported, view), 2), 12), take(TorchLoader(asked, 1), 12)
    assert all(same(a, b, view) for a, b in zip(found, wanted, strict=True))
    assert {batch.images.stride() for batch in found} == {batch.images.stride() for batch in wanted}


@pytest.mark.usefixtures("ffcv")
@pytest.mark.parametrize("view", VIEWS, ids="-".join)
def test_ranks_threads_and_where_it_starts_change_nothing(exported: Path, view: tuple[str, str]) -> None:
    files = betons(exported, view)
    whole = take(FfcvLoader(draws(exported, view), files, 0), 6)
    ranks = [take(FfcvLoader(draws(exported, view, rank=rank, world=2), files, 3), 6) for rank in range(2)]
    for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        assert torch.equal(batch.images, torch.cat([part.images for part in parts]))
        assert torch.equal(batch.index, torch.cat([part.index for part in parts]))
    resumed = take(FfcvLoader(draws(exported, view, samples_seen=160), files), 2)
    assert all(same(a, b) for a, b in zip(whole[4:], resumed, strict=True))


@pytest.mark.usefixtures("ffcv")
def test_nothing_is_left_behind(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No threads, nothing in shared memory; and torch keeps its threads, which importing ffcv sets to one."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ffcv"]:
        monkeypatch.delitem(sys.modules, name)
    num_threads, before, view = torch.get_num_threads(), threading.active_count(), ("bank", "raw")
    torch.set_num_threads(2)
    try:
        iterator = iter(FfcvLoader(draws(exported, view), betons(exported, view), 3))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(num_threads)
    next(iterator)
    assert threading.active_count() > before
    del iterator
    assert threading.active_count() == before
    shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm" in line]
    assert all(line.endswith("(deleted)") for line in shared)  # a lock without a name, of importing ffcv


def put(at: int, value: bytes) -> Callable[[bytearray], None]:
    """Overwrite bytes of a file. Of a row's 40 the mode is at 0, width at 1, address at 5, index at 32."""
    return lambda data: data.__setitem__(slice(at, at + len(value)), value)


def change_image(data: bytearray) -> None:
    data[int.from_bytes(data[ROW_17 + 5 : ROW_17 + 13], "little") + 50] ^= 1


DAMAGE: dict[str, tuple[Callable[[bytearray], None], str]] = {  # what is done to a file's bytes, and said of it
    "cut short": (lambda data: data.__delitem__(slice(-24, None)), "wanted a whole .beton file, but "),
    "no header": (put(0, bytes(24)), "wanted a whole .beton file, but file format mismatch"),
    "killed writer": (
        put(SAMPLES, bytes(40 * NUM_ROWS)),
        "wanted row (0 with the mode raw|95 with the index 95), found ",
    ),
    "image": (change_image, "wanted the bytes of row 17 as the store has them, found others"),
    "width": (put(ROW_17 + 1, b"\x09\0"), r"wanted row 17 with the width \d+, found 9"),
    "mode": (put(ROW_17, b"\x02"), "wanted row 17 with the mode (jpeg|raw), found 2"),
    "address": (put(ROW_17 + 5, b"\xff" * 8), "wanted the image of row 17, found a place that is none of its own"),
    "index": (put(ROW_17 + 32, b"\x12"), "wanted row 17 with the index 17, found 18"),
    "fields": (put(30, b"n"), "wanted the fields image, tokens, priorities, index of prep"),
}


@pytest.mark.usefixtures("ffcv")
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused(exported: Path, tmp_path: Path, encoding: str, damage: str) -> None:
    (whole,), path = betons(exported, ("online", encoding)), tmp_path / "damaged.beton"
    change, said = DAMAGE[damage]
    data = bytearray(whole.read_bytes())
    change(data)
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"^{path}: {said}"):
        take(FfcvLoader(draws(exported, ("online", encoding), replace_damaged=True), [path]), 3)


@pytest.mark.usefixtures("ffcv")
def test_files_of_something_else_are_refused(exported: Path, tmp_path: Path) -> None:
    def refused(view: tuple[str, str], files: list[Path], match: str) -> None:
        with pytest.raises(UserError, match=match):
            take(FfcvLoader(draws(exported, view), files), 3)

    one, two = betons(exported, ("bank", "raw"))
    refused(("bank", "raw"), [two, one], r"wanted the bytes of row \d+ as the store has them, found others")
    refused(("bank", "raw"), [one], "a .beton of each of 32-raw-crop0, 32-raw-crop1, in this order, found 1 files")
    refused(("online", "raw"), betons(exported, ("online", "jpeg")), "with the mode raw, found jpeg")
    refused(("online", "raw"), [one], r"wanted row \d+ with the (width|height) \d+, found 32")
    refused(("online", "raw"), [tmp_path / "none.beton"], "wanted a whole .beton file, but .*No such file")
    data = one.read_bytes()
    (tmp_path / "less.beton").write_bytes(data[:8] + bytes([NUM_ROWS - 1]) + data[9:])
    refused(("online", "raw"), [tmp_path / "less.beton"], "wanted the 96 rows of .*, found 95")


def test_several_stores_and_a_missing_ffcv_are_refused(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, files = draws(exported, ("online", "raw")), betons(exported, ("online", "raw"))
    with pytest.raises(UserError, match="wanted one store, found 2"):
        FfcvLoader(replace(asked, stores=asked.stores * 2), files)
    for name in ("ffcv", "ffcv.libffcv", "ffcv.reader", "ffcv.types"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"wanted the library ffcv(.|\n)*\./shortclip ffcv"):
        FfcvLoader(asked, files)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda image: image[: len(image) // 2],  # FFCV alone takes no notice
    "of another size": lambda _: bytes(simplejpeg.encode_jpeg(np.zeros((24, 24, 3), np.uint8))),
    "empty": lambda _: b"",
}


@pytest.mark.usefixtures("ffcv")
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_stored_image_that_does_not_decode_is_named_or_replaced(
    exported: Path, tmp_path: Path, encoding: str, change: str
) -> None:
    view = ("online", encoding)
    store, (folder,) = Path(shutil.copytree(exported / "store", tmp_path / "store")), VIEWS[view]

    def changed(table: pa.Table) -> pa.Table:
        images, place = table["image"].to_pylist(), table.schema.get_field_index("image")
        images[5] = CHANGES[change](images[5])
        return table.set_column(place, table.schema.field(place), pa.array(images, pa.large_binary()))

    rewrite(store, store / folder / "00000.arrow", changed)
    export(tmp_path, folder)
    asked, files = draws(tmp_path, view, replace_damaged=True), betons(tmp_path, view)
    with pytest.raises(UserError, match=rf"^{store / folder}/00000.arrow, batch 0, row 5 of the batch: "):
        take(FfcvLoader(draws(tmp_path, view), files), 3)
    loaders = FfcvLoader(asked, files), TorchLoader(asked)
    found, wanted = (take(loader, 4) for loader in loaders)
    assert all(same(a, b, view) for a, b in zip(found, wanted, strict=True))
    assert [loader.num_replaced > 0 for loader in loaders] == [True, True]
