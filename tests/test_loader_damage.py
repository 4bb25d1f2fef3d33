"""The loader on damaged files: a row that was changed is refused by file, batch and row; nothing crashes or lies.

Many bytes of a shard of five rows are changed, one at a time, in another process, which a crash would end: row data, and
the lengths, offsets and sizes by which Arrow finds it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.contract import TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.files import write_json
from prep.store import open_store

from .damage import NUM_ROWS, flip, rows_at, small_store

ROOT = Path(__file__).parents[1]
FILES = ("16", "16-raw-crop0", "tokens/original/clip", "priorities/original/clip/spacy")
FLIPS = int(os.environ.get("SHORTCLIP_FLIPS", 2)) * 100

PROGRAM = """
import json, os, random, sys
from pathlib import Path
import torch
from pipelines.contract import TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.store import open_store

torch.set_num_threads(1)
store, name, crops, flips = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

def batch():
    opened = open_store(store)
    size = opened.manifest.num_samples
    found = next(iter(TorchLoader(opened, TokenBudget(16, 8), size, seed=0, threads=0, crops=crops)))
    return [found.images, found.tokens, found.index]

whole, draw = batch(), random.Random(name)
path = store / name
data = path.read_bytes()
for offset in sorted(draw.sample(range(len(data)), min(flips, len(data)))):
    mask = draw.randrange(1, 256)
    print(json.dumps([offset, mask]), flush=True)
    aside = path.with_name("aside")
    aside.write_bytes(data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1:])
    os.replace(aside, path)
    try:
        said = "same" if all(map(torch.equal, batch(), whole)) else "other"
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


def outcomes(store: Path, folder: str) -> list[tuple[int, int, str]]:
    """(offset, mask, what the loader said) for many bytes of a file."""
    crops = "bank" if "crop" in folder else "online"
    command = [sys.executable, "-c", PROGRAM, str(store), f"{folder}/00001.arrow", crops, str(FLIPS)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    lines: list[Any] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (ran.returncode, lines[-1:], ran.stderr)
    return [(*place, said) for place, said in zip(lines[::2], lines[1::2], strict=True)]


@pytest.mark.parametrize("folder", FILES)
def test_a_changed_byte_is_refused_or_harmless(five_rows: Path, folder: str) -> None:
    path = five_rows / folder / "00001.arrow"
    found = outcomes(five_rows, folder)
    for offset, mask, said in found:
        place = rows_at(path, offset, mask)
        if place is None:
            assert said == "same" or said.startswith(str(path)), (offset, mask, said)
        else:
            refused = [f"{path}, batch 0, row {row} of the batch: " for row in place[1]]
            assert said.startswith(tuple(refused)), (offset, mask, said)
    assert sum(said.startswith(f"{path}, batch 0, row") for *_, said in found) > FLIPS // 4


@pytest.mark.parametrize("folder", ["16", "tokens/original/clip", "priorities/original/clip/spacy"])
def test_damage_in_a_later_batch_is_named(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, folder: str
) -> None:
    store = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))
    path = store / folder / "00000.arrow"
    offset = next(o for o in range(path.stat().st_size - 3000, 0, -7) if rows_at(path, o, 1) == (1, frozenset({2})))
    flip(path, offset, 1)
    with pytest.raises(UserError, match=rf"^{path}, batch 1, row 2 of the batch: .*the hash does not fit"):
        next(iter(TorchLoader(open_store(store), TokenBudget(16, 8), sum(NUM_ROWS), seed=0, threads=0)))
