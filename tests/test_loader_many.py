"""Loaders over damage that is passed over, several stores, windows, other numbers of ranks, and stores of any size."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pytest
import torch

from pipelines.contract import Batch, ColorJitter, Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.store import Store, open_store

from .conftest import NUM_PAIRS
from .damage import NUM_ROWS, first_byte_of, flip, rewrite, small_store
from .huge_store import make_huge_store

ROOT = Path(__file__).parents[1]
BUDGET = TokenBudget(16, 8)


def take(draws: Draws, num: int, threads: int = 1) -> list[Batch]:
    return list(islice(TorchLoader(draws, threads), num))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, int]:
    """A store one of whose rows has a flipped byte, and that row."""
    store = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path_factory.mktemp("damaged") / "store"))
    path = store / "16" / "00000.arrow"
    flip(path, first_byte_of(path, 1, 2), 1)
    return open_store(store), 1024 + 2


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_row_is_replaced_by_another_and_counted(damaged: tuple[Store, int], threads: int) -> None:
    store, row = damaged
    draws = Draws((store,), BUDGET, sum(NUM_ROWS), 0, captions={"original": 1.0})
    with pytest.raises(UserError, match="row 2 of the batch"):
        take(draws, 1, threads)
    loader = TorchLoader(Draws(**{**vars(draws), "replace_damaged": True}), threads)
    batch = next(iter(loader))
    shown = batch.index.tolist()
    assert row not in shown
    (twice,) = (shown_row for shown_row in set(shown) if shown.count(shown_row) == 2)
    assert len(shown) == len(set(shown)) + 1
    first, second = (place for place, shown_row in enumerate(shown) if shown_row == twice)
    assert torch.equal(batch.images[first], batch.images[second])
    assert torch.equal(batch.tokens[first], batch.tokens[second])
    assert loader.num_replaced == 1


def test_a_copy_that_does_not_decode_is_named_or_replaced(store: Store, tmp_path: Path) -> None:
    """Where the hash agrees with damaged bytes, the decoder is what notices."""
    copy = Path(shutil.copytree(store.path, tmp_path / "store"))

    def cut(table: pa.Table) -> pa.Table:
        images = table["image"].to_pylist()
        images[5] = images[5][: len(images[5]) // 2]
        return table.set_column(0, table.schema.field("image"), pa.array(images, pa.large_binary()))

    rewrite(copy, copy / "16" / "00000.arrow", cut)
    draws = Draws((open_store(copy),), BUDGET, NUM_PAIRS, 0)
    with pytest.raises(UserError, match=r"16/00000\.arrow, batch 0, row 5 of the batch") as raised:
        take(draws, 1)
    assert "hash" not in str(raised.value)
    (batch,) = take(Draws(**{**vars(draws), "replace_damaged": True}), 1)
    assert 5 not in batch.index.tolist()
    assert len(set(batch.index.tolist())) == NUM_PAIRS - 1


def test_several_stores_are_one_batch(store: Store, damaged: tuple[Store, int]) -> None:
    draws = Draws((store, damaged[0]), BUDGET, 64, 0, weights=(3, 1), replace_damaged=True, jitter=ColorJitter())
    (alone,) = take(Draws((store,), BUDGET, NUM_PAIRS, 0), 1)
    tokens = dict(zip(alone.index.tolist(), alone.tokens, strict=True))
    for batch in take(draws, 5):
        mine = batch.index < NUM_PAIRS
        assert int(mine.sum()) == 48
        assert all(
            torch.equal(tokens[row], own)
            for row, own in zip(batch.index[mine].tolist(), batch.tokens[mine], strict=True)
        )
        assert batch.jitter is not None
        assert batch.jitter.shape == (64, 7)


def test_a_window_changes_the_order_alone(store: Store) -> None:
    whole, near = (take(Draws((store,), BUDGET, NUM_PAIRS, 0, window=window), 1)[0] for window in (0, 1))
    assert sorted(whole.index.tolist()) == sorted(near.index.tolist())
    pixels = dict(zip(whole.index.tolist(), whole.images, strict=True))
    assert all(torch.equal(pixels[row], image) for row, image in zip(near.index.tolist(), near.images, strict=True))


def test_what_a_batch_was_made_of_is_not_written_over(store: Store) -> None:
    """Memory is used again, but only that of batches which nobody holds."""
    held = take(Draws((store,), BUDGET, 12, 0), 20)
    alone = [take(Draws((store,), BUDGET, 12, 0, samples_seen=12 * number), 1)[0] for number in range(20)]
    assert all(torch.equal(a.images, b.images) for a, b in zip(held, alone, strict=True))
    loader = iter(TorchLoader(Draws((store,), BUDGET, 12, 0)))
    places = {next(loader).images.data_ptr() for _ in range(30)}
    assert len(places) <= 5


@dataclass(frozen=True)
class Rank:
    """A rank in a child of this process, and the lines that it writes: a hash for each row."""

    pid: int
    lines: IO[str]

    @staticmethod
    def start(store: Store, seen: int, rank: int, world: int, threads: int, num_batches: int) -> "Rank":
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reads)
                draws = Draws((store,), TokenBudget(16, 8, "random"), 12, 3, seen, rank, world, jitter=ColorJitter())
                for batch in islice(TorchLoader(draws, threads), num_batches):
                    os.write(writes, "".join(f"{one}\n" for one in hashes(batch)).encode())
            finally:
                os._exit(0)
        os.close(writes)
        return Rank(pid, os.fdopen(reads))

    def read(self, count: int | None = None) -> list[str]:
        return [line.strip() for line in islice(self.lines, count)]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(self.pid, 0)[1]) == signal.SIGKILL
        self.lines.close()

    def finish(self) -> list[str]:
        found = self.read()
        os.waitpid(self.pid, 0)
        self.lines.close()
        return found


def hashes(batch: Batch) -> list[str]:
    assert batch.jitter is not None
    parts = (batch.images.permute(0, 2, 3, 1).contiguous(), batch.tokens, batch.index, batch.jitter)
    rows = (b"".join(part[row].numpy().tobytes() for part in parts) for row in range(len(batch.index)))
    return [hashlib.blake2b(row).hexdigest() for row in rows]


def test_killed_and_resumed_on_other_ranks_the_batches_are_the_same(store: Store) -> None:
    """SIGKILL at a random step, restart on 1, 2, 3 ranks with other threads: the next 100 global batches, by hash."""
    chance, whole = random.Random(0), Rank.start(store, 0, 0, 1, 1, 160).finish()
    assert len(whole) == 12 * 160
    seen = 0
    for world in (1, 2, 3):
        ranks = [Rank.start(store, seen, rank, world, world - 1, 10_000) for rank in range(world)]
        stop = chance.randrange(5, 20)
        assert joined([rank.read(stop * 12 // world) for rank in ranks], world) == whole[seen : seen + 12 * stop]
        for rank in ranks:
            rank.kill()
        seen += 12 * stop
    last = [Rank.start(store, seen, rank, 3, 2, 100) for rank in range(3)]
    found = joined([rank.finish() for rank in last], 3)
    assert len(found) == 1200
    assert found == whole[seen : seen + 1200]


def joined(lines: list[list[str]], world: int) -> list[str]:
    """The hashes of global batches in order, from those of each rank."""
    size = 12 // world
    steps = len(lines[0]) // size
    return [row for step in range(steps) for own in lines for row in own[step * size : (step + 1) * size]]


MEMORY = """
import itertools, sys
import torch
from pipelines.contract import Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.store import open_store
draws = Draws((open_store(sys.argv[1]),), TokenBudget(16, 8), 4096, 0, crops="bank")
seen = [batch.index for batch in itertools.islice(TorchLoader(draws, 2), 30)]
assert len(torch.cat(seen).unique()) == 30 * 4096
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")))
"""


def test_a_store_of_millions_of_rows_takes_no_more_memory(tmp_path: Path) -> None:
    """A rank's own memory, mapped files apart, which the system takes back at will: under 1 GiB, whatever the size."""
    path = make_huge_store(tmp_path, int(os.environ.get("SHORTCLIP_HUGE_ROWS", "2_000_000")))
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 1 << 20, "KiB"
