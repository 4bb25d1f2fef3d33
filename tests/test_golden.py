"""What must stay as it was: the losses of a short run, and the readability of every version of the store.

    golden/recipe.toml     a run of 14 steps in two stages, written out in full
    golden/losses.json     its losses on the store of conftest.py, on one CPU thread
    golden/store-v1/       a store of format version 1: six flat-coloured pictures at 16 px in two shards, one reject
    golden/store-v1.json   the token ids in it, and those that a loader gives at NUM_TOKENS

After a change that is meant to change them (the demo's drawings, the order of samples, the model), and on the pinned
libraries, `python -m tests.test_golden` in the repository's root writes losses.json anew. A new version of the store's
format gets a new folder beside the old ones, which stay: the same command makes it when it is not there.
"""

import io
import json
import tempfile
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.contract import Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.build import main as build_main
from prep.files import hash_file, write_json
from prep.store import FORMAT_VERSION, Store, open_store
from train.log import read_log
from train.run import main as train_main

from .conftest import make_demo_data, make_store
from .tar_files import tar_of

GOLDEN = Path(__file__).parent / "golden"
STORES = sorted(GOLDEN.glob("store-v*/"))
# Kernels without vector instructions move these losses by 1e-6; the least of CHANGES moves one of them by 8e-3.
TOLERANCE = 2e-3
CHANGES = [
    "seed=1",
    "stages.0.learning_rate=5.5e-3",
    "stages.0.warmup_samples=48",
    "stages.1.warmup_samples=48",
    "stages.0.budget.text_mask='truncate'",
    "stages.1.budget.text_tokens=11",
    "stages.0.augmentation.crop_area=[0.5, 1.0]",
    "optimizer.betas=[0.9, 0.98]",
    "shuffle_captions=true",
]
NUM_TOKENS = 6
# Key, colour and caption; the first four are in one tar, the others in a second.
PICTURES = [
    ("red", (200, 40, 40), "A bright red square on nothing at all"),
    ("green", (40, 160, 60), "green"),
    ("blue", (40, 60, 200), "The blue one, running away from the others"),
    ("yellow", (230, 210, 50), "Café jaune &amp; yellow — 12 pieces, free shipping!"),
    ("white", (250, 250, 250), "snow"),
    ("black", (10, 10, 10), "a black night " * 40),
]


def losses(store: Store, run: Path, *overrides: str) -> list[float]:
    places = ["--store", str(store.path), "--out", str(run), "--device", "cpu", "--threads", "1"]
    train_main([str(GOLDEN / "recipe.toml"), *overrides, *places])
    return [line.loss for line in read_log(run)]


def difference(store: Store, run: Path, *overrides: str) -> float:
    """The largest difference to the golden losses, step by step."""
    golden: list[float] = json.loads((GOLDEN / "losses.json").read_text())
    return max(abs(a - b) for a, b in zip(losses(store, run, *overrides), golden, strict=True))


def test_the_losses_of_a_short_run_are_what_they_were(store: Store, tmp_path: Path) -> None:
    assert difference(store, tmp_path / "run") < TOLERANCE


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_run_would_be_seen(store: Store, tmp_path: Path, change: str) -> None:
    assert difference(store, tmp_path / "run", change) > 2 * TOLERANCE


def plain_rows(store: Path, folder: str) -> list[dict[str, object]]:
    """All rows of a folder of a store, by pyarrow alone."""
    paths = sorted((store / folder).glob("*.arrow"))
    return [row for path in paths for row in pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_pylist()]


def stored_tokens(store: Path) -> dict[str, list[int]]:
    if store.name == "store-v1":
        rows, tokens = plain_rows(store, "16"), [row["tokens"] for row in plain_rows(store, "16")]
    else:
        rows = plain_rows(store, "tokens/original/clip")
        tokens = [row["tokens"][0] for row in rows]  # type: ignore[index]
    return {str(row["key"]): list(ids) for row, ids in zip(rows, tokens, strict=True)}  # type: ignore[call-overload]


def expected(store: Path) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = json.loads(store.with_name(f"{store.name}.json").read_text())
    return found


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.name)
def test_a_store_of_every_version_is_read_by_the_loader(path: Path) -> None:
    store = open_store(path)
    assert store.manifest.num_samples == len(PICTURES)
    keys = [key for key, _, _ in PICTURES]
    batch = next(iter(TorchLoader(Draws((store,), TokenBudget(16, NUM_TOKENS), len(PICTURES), seed=0))))
    assert sorted(batch.index.tolist()) == list(range(len(PICTURES)))
    for row, tokens, image in zip(batch.index.tolist(), batch.tokens.tolist(), batch.images, strict=True):
        assert tokens == expected(path)["selected"][keys[row]]
        assert image.float().mean(dim=(1, 2)).tolist() == pytest.approx(PICTURES[row][1], abs=3)


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.name)
def test_a_store_of_every_version_is_read_by_plain_pyarrow(path: Path) -> None:
    rows = plain_rows(path, "16")
    assert [row["key"] for row in rows] == [key for key, _, _ in PICTURES]
    assert stored_tokens(path) == expected(path)["stored"]
    for row, (_, colour, _) in zip(rows, PICTURES, strict=True):
        assert isinstance(row["image"], bytes)
        with Image.open(io.BytesIO(row["image"])) as image:
            assert image.size == (row["width"], row["height"])
            assert image.getpixel((9, 9)) == pytest.approx(colour, abs=3)
    is_first = path.name == "store-v1"
    caption = (
        plain_rows(path, "text")[0]["caption"] if is_first else plain_rows(path, "captions/original")[0]["captions"]
    )
    assert caption == (PICTURES[0][2] if is_first else [PICTURES[0][2]])
    assert [row["reason"] for row in pq.read_table(path / "rejects" / "00001.parquet").to_pylist()] == ["image_format"]


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.name)
def test_a_store_of_every_version_is_as_it_was_written(path: Path) -> None:
    manifest = open_store(path).manifest
    files = {file for column in manifest.columns.values() for file in column.files} | set(manifest.reject_files)
    assert len(files) == (6 if path.name == "store-v1" else 12)
    assert {file.path: file.xxh3 for file in files} == {file.path: hash_file(path / file.path) for file in files}


def test_a_change_of_the_format_is_a_new_version(store: Store) -> None:
    """What is built now has the columns and the manifest's keys of the golden store of the same version."""
    golden = GOLDEN / f"store-v{FORMAT_VERSION}"
    for folder in ("16", "rows", "captions/original", "tokens/original/clip", "priorities/original/clip/spacy"):
        now, then = (
            pa.ipc.open_file(pa.memory_map(str(path / folder / "00000.arrow"))).schema for path in (store.path, golden)
        )
        assert now == then
    now, then = (json.loads((path / "manifest.json").read_text()) for path in (store.path, golden))
    assert now.keys() == then.keys()
    assert now["shards"][0].keys() == then["shards"][0].keys()


def flat(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
    return buffer.getvalue()


def make_golden_store(out: Path) -> None:
    members = [[(f"{key}.png", flat(colour)), (f"{key}.txt", caption.encode())] for key, colour, caption in PICTURES]
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate((members[:4], [*members[4:], [("no.jpg", b"no image"), ("no.txt", b"no")]])):
            (Path(folder) / f"{number:05d}.tar").write_bytes(tar_of([member for pair in part for member in pair]))
        build_main(["--input", f"{folder}/*.tar", "--out", str(out), "--res", "16", "--workers", "0"])
    batch = next(islice(TorchLoader(Draws((open_store(out),), TokenBudget(16, NUM_TOKENS), len(PICTURES), seed=0)), 1))
    stored = stored_tokens(out)
    selected = dict(zip((PICTURES[row][0] for row in batch.index.tolist()), batch.tokens.tolist(), strict=True))
    write_json(out.with_name(f"{out.name}.json"), {"stored": stored, "selected": selected})


def regenerate() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = make_demo_data(Path(folder) / "data")
        write_json(GOLDEN / "losses.json", losses(make_store(data, Path(folder) / "store"), Path(folder) / "run"))
    if not (GOLDEN / f"store-v{FORMAT_VERSION}").exists():
        make_golden_store(GOLDEN / f"store-v{FORMAT_VERSION}")


if __name__ == "__main__":
    regenerate()
