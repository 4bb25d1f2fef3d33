"""The loader on damaged files: a row that was changed is refused by file, batch and row; nothing crashes or lies.

Many bytes of a shard of five rows are changed, one at a time, in another process, which a crash would end: row data,
and the lengths and offsets by which Arrow finds it. SHORTCLIP_FLIPS=N changes 25 N bytes of each file, 50 by default;
each takes some milliseconds.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.contract import Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.files import write_json
from prep.store import open_store

from .damage import NUM_ROWS, first_byte_of, flip, rows_at, small_store

ROOT = Path(__file__).parents[1]
FILES = ("16", "16-raw-crop0", "tokens/original/clip", "priorities/original/clip/spacy")
NUM_FLIPS = 25 * int(os.environ.get("SHORTCLIP_FLIPS", 2))

PROGRAM = """
import json, os, random, sys
from pathlib import Path
import torch
from pipelines.contract import Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.store import open_store

torch.set_num_threads(1)
store, num_flips = Path(sys.argv[1]), int(sys.argv[2])

def batch(crops):
    opened = open_store(store)
    size = opened.manifest.num_samples
    loader = TorchLoader(Draws((opened,), TokenBudget(16, 8), size, seed=0, crops=crops, captions={"original": 1.0}), 0)
    found = next(iter(loader))
    return [found.images, found.tokens, found.index]

for folder in sys.argv[3:]:
    crops = "bank" if "crop" in folder else "online"
    path, whole, draw = store / folder / "00001.arrow", batch(crops), random.Random(folder)
    data = path.read_bytes()
    for offset in sorted(draw.sample(range(len(data)), min(num_flips, len(data)))):
        mask = draw.randrange(1, 256)
        print(json.dumps([folder, offset, mask]), flush=True)
        aside = path.with_name("aside")  # not in place: batches that are still mapped must not change
        aside.write_bytes(data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1:])
        os.replace(aside, path)
        try:
            said = "same" if all(map(torch.equal, batch(crops), whole)) else "other"
        except UserError as error:
            said = str(error)
        except Exception as error:
            said = f"raised {error!r}"
        print(json.dumps(said), flush=True)
    path.write_bytes(data)
"""


@pytest.fixture(scope="module")
def five_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second shard of the small store, as a store of its own for a loader."""
    store = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path_factory.mktemp("five_rows") / "store"))
    manifest = json.loads((store / "manifest.json").read_text())
    manifest |= {"shards": manifest["shards"][1:], "num_samples": NUM_ROWS[1]}
    for column in manifest["columns"].values():
        column["files"] = column["files"][1:]
    write_json(store / "manifest.json", manifest)
    return store


@pytest.fixture(scope="module")
def outcomes(five_rows: Path) -> list[tuple[str, int, int, str]]:
    """(folder, offset, mask, what the loader said) for many bytes of each of FILES."""
    command = [sys.executable, "-c", PROGRAM, str(five_rows), str(NUM_FLIPS), *FILES]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines: list[Any] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (ran.returncode, lines[-1:], ran.stderr)
    return [(*place, said) for place, said in zip(lines[::2], lines[1::2], strict=True)]


@pytest.mark.parametrize("folder", FILES)
def test_a_changed_byte_is_refused_or_harmless(
    five_rows: Path, outcomes: list[tuple[str, int, int, str]], folder: str
) -> None:
    path, num_refused = five_rows / folder / "00001.arrow", 0
    mine = [outcome for outcome in outcomes if outcome[0] == folder]
    for _, offset, mask, said in mine:
        place = rows_at(path, offset, mask)
        if place is None:
            assert said == "same" or said.startswith(str(path)), (offset, mask, said)
        else:
            refused = tuple(f"{path}, batch 0, row {row} of the batch: " for row in place[1])
            assert said.startswith(refused), (offset, mask, said)
            num_refused += 1
    assert num_refused > len(mine) // 4


@pytest.mark.parametrize("folder", FILES[:1] + FILES[2:])
def test_damage_in_a_later_batch_is_named(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, folder: str
) -> None:
    store = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))
    path = store / folder / "00000.arrow"
    flip(path, first_byte_of(path, 1, 2), 1)
    loader = TorchLoader(
        Draws((open_store(store),), TokenBudget(16, 8), sum(NUM_ROWS), 0, captions={"original": 1.0}), 0
    )
    with pytest.raises(UserError, match=rf"^{path}, batch 1, row 2 of the batch: .*the hash does not fit"):
        next(iter(loader))
