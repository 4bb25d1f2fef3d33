"""The DALI loader beside the torch loader, batch by batch, on every kind of view."""

import io
import json
import shutil
import sys
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipelines.contract import Batch, ColorJitter, Draws, TokenBudget
from pipelines.dali_loader import DaliLoader, decode_path
from pipelines.torch_loader import TorchLoader
from prep import build_options
from prep.build import build
from prep.errors import UserError
from prep.store import Store, open_store

from .conftest import once
from .damage import first_byte_of, flip, rewrite
from .tar_files import tar_of

pytest.importorskip("nvidia.dali")

NUM_ROWS, RES = 40, 24
VIEWS = [("online", "jpeg"), ("online", "raw"), ("bank", "jpeg"), ("bank", "raw")]
gpu = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


def picture(row: int) -> bytes:
    """Waves and a sharp-edged square, of a size of its own."""
    y, x = np.mgrid[0 : 44 + row % 7, 0 : 50 + row % 9]
    waves = [128 + 100 * np.sin(x / 5 + row) * np.cos(y / (4 + channel)) for channel in range(3)]
    pixels = np.stack(waves, axis=-1).astype(np.uint8)
    pixels[8:24, 10:30] = (255, row * 6, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def make_four_views(out: Path) -> str:
    members = []
    for row in range(NUM_ROWS):
        caption = {"original": f"a red square over waves, take {row}"}
        members += [(f"{row:02d}.png", picture(row)), (f"{row:02d}.json", json.dumps(caption).encode())]
    out.parent.mkdir(exist_ok=True, parents=True)
    tar = out.with_name(f"{out.name}.tar")
    tar.write_bytes(tar_of(members))
    common = ["--input", str(tar), "--out", str(out), "--captions", "original=json:original", "--tagger", "textblob"]
    for options in ([], ["--encoding", "raw"], ["--crops", "2"], ["--crops", "2", "--encoding", "raw"]):
        asked = build_options.parse([*common, "--res", str(RES), *options], "")
        engine = replace(asked.engine, limits=replace(asked.engine.limits, supervise=False))
        build(replace(asked, engine=engine))
    return "built"


@pytest.fixture(scope="session")
def four_views(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(once(tmp_path_factory, "four_views", make_four_views)[0])


def draws_of(*stores: Store, **changes: object) -> Draws:
    return replace(Draws(stores, TokenBudget(RES, 8), 12, seed=5, jitter=ColorJitter()), **changes)  # type: ignore[arg-type]


def take(draws: Draws, num: int, threads: int = 1, device: str = "cpu") -> list[Batch]:
    return list(islice(DaliLoader(draws, threads, device), num))


def assert_same_but_pixels(a: Batch, b: Batch) -> None:
    assert torch.equal(a.index, b.index)
    assert torch.equal(a.tokens, b.tokens)
    assert a.jitter is not None
    assert b.jitter is not None
    assert torch.equal(a.jitter, b.jitter)


def assert_same(a: Batch, b: Batch) -> None:
    assert_same_but_pixels(a, b)
    assert torch.equal(a.images, b.images)


@pytest.mark.parametrize("device", ["cpu", gpu])
@pytest.mark.parametrize(("crops", "encoding"), VIEWS)
def test_it_shows_what_the_torch_loader_shows(four_views: Store, crops: str, encoding: str, device: str) -> None:
    """Through three epochs, so that a bank of two comes round again."""
    mean, most = (0.0, 0) if crops == "bank" else (0.3, 13)
    if device == "cuda":
        mean, most = mean + 1, most + 8  # a guess: nobody has run it
    draws = draws_of(four_views, crops=crops, encoding=encoding)
    for a, b in zip(take(draws, 10, 2, device), islice(TorchLoader(draws), 10), strict=True):
        assert_same_but_pixels(a, b)
        assert (a.images.device.type, a.images.dtype, a.images.shape) == (device, torch.uint8, b.images.shape)
        assert a.images.stride() == b.images.stride()
        difference = (a.images.cpu().float() - b.images.float()).abs()
        assert difference.mean() <= mean
        assert difference.max() <= most


@pytest.mark.parametrize(("crops", "encoding"), VIEWS)
def test_ranks_and_resumed_runs_are_slices_of_one(four_views: Store, crops: str, encoding: str) -> None:
    draws = draws_of(four_views, crops=crops, encoding=encoding)
    whole = take(draws, 6)
    ranks = [take(replace(draws, samples_seen=24, rank=rank, world=3), 4, threads=rank) for rank in range(3)]
    for step, batch in enumerate(whole[2:]):
        parts = [rank[step] for rank in ranks]
        for name in ("images", "tokens", "index", "jitter"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_a_batch_that_is_held_is_not_written_over(four_views: Store) -> None:
    for crops, encoding in VIEWS:
        draws = draws_of(four_views, crops=crops, encoding=encoding)
        held = take(draws, 12)
        for number in (0, 1, 7):
            assert_same(held[number], take(replace(draws, samples_seen=12 * number), 1)[0])


def running() -> list[str]:
    """The names of DALI's threads in this process, and of ours."""
    tasks = [task / "comm" for task in Path("/proc/self/task").iterdir()]
    names = [task.read_text() for task in tasks if task.exists()]
    return [
        name
        for name in [*names, *(thread.name for thread in threading.enumerate())]
        if "DALI" in name or "loader" in name
    ]


def test_leaving_a_loader_ends_its_threads(four_views: Store) -> None:
    for crops, encoding in VIEWS:
        batches = iter(DaliLoader(draws_of(four_views, crops=crops, encoding=encoding), 3))
        next(batches)
        assert len(running()) > 3
        batches.close()  # type: ignore[attr-defined]
        assert running() == []


@pytest.fixture
def copied(four_views: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(four_views.path, tmp_path / "store"))


def test_reading_goes_on_while_a_step_lasts(copied: Path) -> None:
    """The third batch is drawn, and so a damaged row found, although only the first was asked for."""
    draws = draws_of(open_store(copied), encoding="jpeg", batch_size=4, replace_damaged=True)
    row = int(list(islice(TorchLoader(draws), 3))[2].index[0])
    flip(path := copied / "24" / "00000.arrow", first_byte_of(path, 0, row), 1)
    loader = DaliLoader(replace(draws, stores=(open_store(copied),)))
    batches = iter(loader)
    next(batches)
    for _ in range(3000):
        if loader._drawer._damaged:
            break
        time.sleep(0.01)
    assert loader._drawer._damaged


@pytest.mark.parametrize(("folder", "crops", "encoding"), [("24", "online", "jpeg"), ("24-raw-crop0", "bank", "raw")])
def test_a_damaged_row_ends_it_at_its_batch_or_is_replaced(
    copied: Path, folder: str, crops: str, encoding: str
) -> None:
    row = 17
    path = copied / folder / "00000.arrow"
    flip(path, first_byte_of(path, 0, row), 1)
    draws = draws_of(open_store(copied), crops=crops, encoding=encoding, batch_size=4)
    shown, judged = DaliLoader(draws), TorchLoader(draws)
    messages, counts = [], []
    for loader in (shown, judged):
        count: list[Batch] = []
        with pytest.raises(UserError, match=rf"^{path}, batch 0, row {row} of the batch") as raised:
            count.extend(loader)
        messages.append(str(raised.value))
        counts.append(len(count))
    assert messages[0] == messages[1]
    assert counts[0] == counts[1]
    loader = DaliLoader(replaced := replace(draws, replace_damaged=True))
    same = assert_same if encoding == "raw" else assert_same_but_pixels
    for a, b in zip(islice(loader, 20), islice(TorchLoader(replaced), 20), strict=True):
        same(a, b)
    assert loader.num_replaced > 0


def with_columns(table: pa.Table, **columns: list[object]) -> pa.Table:
    for name, values in columns.items():
        place, kind = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(place, kind, pa.array(values, kind.type))
    return table


def test_what_dali_cannot_decode_is_named_or_replaced(copied: Path) -> None:
    """The hashes fit: the store was built so, or is of format version 1, which had none."""

    def cut_two(table: pa.Table) -> pa.Table:
        images = table["image"].to_pylist()
        for row in (5, 6):
            images[row] = images[row][: len(images[row]) // 2]
        return with_columns(table, image=images)

    rewrite(copied, copied / "24" / "00000.arrow", cut_two)
    draws = draws_of(open_store(copied), encoding="jpeg", batch_size=NUM_ROWS)
    with pytest.raises(UserError, match=r"24/00000\.arrow, batch 0, row [56] of the batch"):
        take(draws, 1)
    replaced = replace(draws, replace_damaged=True)
    for a, b in zip(take(replaced, 3), islice(TorchLoader(replaced), 3), strict=True):
        assert_same_but_pixels(a, b)
        assert not {5, 6} & set(a.index.tolist())


def test_what_only_dali_cannot_show_names_the_store_and_the_rows(copied: Path) -> None:
    def shrink(table: pa.Table) -> pa.Table:
        return with_columns(table, width=[8] * NUM_ROWS, height=[8] * NUM_ROWS, image=[bytes(192)] * NUM_ROWS)

    rewrite(copied, copied / "24-raw-crop0" / "00000.arrow", shrink)
    draws = draws_of(open_store(copied), crops="bank", encoding="raw", batch_size=4)
    with pytest.raises(UserError, match=rf"{copied}: DALI failed at the batch of the rows \[( ?\d+,? ?){{4}}\]"):
        take(draws, 1)


def test_stores_that_are_part_raw_and_part_jpeg_are_refused(four_views: Store, copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["columns"]["24-raw"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    both = (four_views, open_store(copied))
    with pytest.raises(UserError, match="found raw views in some and JPEG in others"):
        DaliLoader(draws_of(*both))
    assert len(take(draws_of(*both, encoding="jpeg"), 1)[0].index) == 12


def test_decode_path_is_what_ran() -> None:
    assert decode_path("cpu") == "cpu"
    if torch.cuda.is_available():
        assert decode_path("cuda") in ("hardware", "hybrid")
    with pytest.raises(UserError, match=r"wanted one of cpu.*, found cuda:99"):
        decode_path("cuda:99")


def test_without_dali_it_says_what_to_install(four_views: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UserError, match="pip install 'nvidia-dali-cuda130"):
        DaliLoader(draws_of(four_views))
