"""Batches drawn at once are those drawn one by one, whatever the ranks and weights; damage is told in its turn."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.contract import ColorJitter, Draws, TokenBudget
from pipelines.drawing import Drawer, Drawn
from pipelines.torch_loader import TorchLoader, rows_at_once
from prep.errors import UserError
from prep.store import Store, open_store

from .damage import NUM_ROWS, first_byte_of, flip, small_store

BUDGET = TokenBudget(16, 8, "random")
FIRST_DAMAGED = 3


@pytest.fixture
def damaged(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three rows of the first shard are damaged."""
    path = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))
    file = path / "16" / "00000.arrow"
    for row in (FIRST_DAMAGED, 400, 801):
        flip(file, first_byte_of(file, 0, row), 1)
    return open_store(path)


def same(one: Drawn, other: Drawn) -> bool:
    """addresses and owner aside, which are of a reader."""
    names = [f.name for f in dataclasses.fields(one) if f.name not in ("addresses", "owner")]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("weights", [(), (2, 1)])
@pytest.mark.parametrize("window", [0, 1024])
def test_batches_drawn_at_once_are_those_drawn_alone(
    tmp_path_factory: pytest.TempPathFactory, world: int, weights: tuple[int, ...], window: int
) -> None:
    stores = (open_store(small_store(tmp_path_factory)),) * (len(weights) or 1)
    for rank in range(world):
        drawer = Drawer(
            Draws(stores, BUDGET, 96, 5, rank=rank, world=world, weights=weights, window=window, jitter=ColorJitter())
        )
        # From here on through the end of an epoch.
        start = sum(NUM_ROWS) // 96 * 96 - 96
        at_once, alone = drawer.several(start, 4), [drawer(start + 96 * step) for step in range(4)]
        assert [len(drawn.index) for drawn in at_once] == [96 // world] * 4
        assert all(map(same, at_once, alone))


def test_what_replaces_damage_is_the_same_and_is_counted_for_its_own_batch(damaged: Store) -> None:
    draws = Draws((damaged,), BUDGET, 128, 0, replace_damaged=True)
    at_once, drawer = Drawer(draws).several(0, 8), Drawer(draws)
    alone = [drawer(128 * step) for step in range(8)]
    assert all(map(same, at_once, alone))
    assert sum(drawn.num_replaced for drawn in at_once) == 3


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_whole_batches_come_before_the_damage_is_told(damaged: Store, threads: int) -> None:
    size = 16
    draws = Draws((damaged,), BUDGET, size, 1)
    order = np.concatenate([Drawer(draws).mixture.at(start, size)[0] for start in range(0, 1024, size)])
    places = [np.flatnonzero(order == row) for row in (FIRST_DAMAGED, 400, 801)]
    first = min(int(found[0]) for found in places if len(found)) // size
    assert 0 < first < rows_at_once(size) // size, "a batch of the first that are drawn at once, and not the first"
    loader = iter(TorchLoader(draws, threads))
    whole = [next(loader).index.numpy() for _ in range(first)]
    assert np.array_equal(np.concatenate(whole), order[: first * size])
    with pytest.raises(UserError, match="the hash does not fit"):
        next(loader)
