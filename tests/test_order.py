"""Orders are permutations, pure functions of (seed, epoch, position)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.mixture import Mixture
from pipelines.order import BLOCK_ROWS, epoch_rows, permute, shuffle_radius
from prep.draws import uniforms
from prep.errors import UserError

KEYS = st.integers(0, 2**64 - 1)


def rows_at(start: int, count: int, num: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and epochs of the positions start ... start + count - 1, all shuffled."""
    return epoch_rows(np.arange(start, start + count, dtype=np.int64), num, seed)


@given(num=st.integers(1, 3000), key=KEYS)
def test_permute_is_a_bijection(num: int, key: int) -> None:
    rows = permute(np.arange(num, dtype=np.int64), num, key)
    assert sorted(rows.tolist()) == list(range(num))


@given(num=st.integers(1, 10**12), key=KEYS, data=st.data())
def test_permute_of_one_position_is_that_of_the_batch(num: int, key: int, data: st.DataObject) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, num - 1), min_size=1, max_size=20)), np.int64)
    together = permute(positions, num, key)
    alone = [int(permute(positions[i : i + 1], num, key)[0]) for i in range(len(positions))]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < num)).all()


@given(num=st.integers(20, 500), start=st.integers(0, 2000), count=st.integers(1, 700), seed=st.integers(0, 9))
def test_rows_at_is_a_window_on_one_sequence(num: int, start: int, count: int, seed: int) -> None:
    rows, epochs = rows_at(start, count, num, seed)
    all_rows, all_epochs = rows_at(0, start + count, num, seed)
    assert rows.tolist() == all_rows[start:].tolist()
    assert epochs.tolist() == all_epochs[start:].tolist()


def test_each_epoch_sees_every_row_once_in_another_order() -> None:
    rows, epochs = rows_at(0, 3 * 1000, 1000, seed=5)
    orders = [rows[epochs == epoch].tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert rows_at(0, 1000, 1000, seed=6)[0].tolist() != orders[0]


def test_order_looks_shuffled() -> None:
    """Neighbouring positions land as far apart as independent draws do: a third of N on average."""
    num = 20_000
    rows = permute(np.arange(num, dtype=np.int64), num, key=11)
    assert abs(np.abs(np.diff(rows)).mean() / num - 1 / 3) < 0.01
    assert abs(np.corrcoef(np.arange(num), rows)[0, 1]) < 0.03


def test_uniforms_are_uniform() -> None:
    draws = uniforms(np.arange(200, dtype=np.uint64)[:, None], np.arange(500, dtype=np.uint64)[None])
    counts, _ = np.histogram(draws, bins=50, range=(0, 1))
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_square < 94  # 49 degrees of freedom: exceeded once in 10,000 times


@given(num=st.integers(1, 9000), window=st.sampled_from([1, 1024, 3000, 8192, 100_000]), seed=st.integers(0, 99))
def test_a_windowed_epoch_holds_every_row_once(num: int, window: int, seed: int) -> None:
    rows, epochs = epoch_rows(np.arange(2 * num, dtype=np.int64), num, seed, window)
    for epoch in (0, 1):
        assert sorted(rows[epochs == epoch].tolist()) == list(range(num))


@given(num=st.integers(1, 9000), data=st.data())
def test_a_windowed_position_is_that_of_the_whole_run(num: int, data: st.DataObject) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, 2 * num - 1), min_size=1, max_size=9)), np.int64)
    together = epoch_rows(np.arange(2 * num, dtype=np.int64), num, 7, 2048)[0]
    assert epoch_rows(positions, num, 7, 2048)[0].tolist() == together[positions].tolist()


def test_a_window_reads_few_blocks_at_a_time_and_shuffles_within_them() -> None:
    num, window = 200 * BLOCK_ROWS + 300, 8 * BLOCK_ROWS
    rows, _ = epoch_rows(np.arange(num, dtype=np.int64), num, 3, window)
    blocks = rows // BLOCK_ROWS
    touched = [len(set(blocks[start : start + 4096].tolist())) for start in range(0, num, 4096)]
    assert max(touched) <= 2 * window // BLOCK_ROWS
    assert len(set(blocks[:4096].tolist())) > 4, "a batch is of several blocks"
    assert np.abs(np.diff(blocks[::window].astype(float))).mean() > 30, "windows are of blocks from anywhere"
    assert (shuffle_radius(num, window), shuffle_radius(500, window), shuffle_radius(num, 0)) == (window, 500, num)


SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=4).map(tuple)


@given(sizes=SIZES, seed=st.integers(0, 9), data=st.data())
def test_stores_mix_exactly_by_weight(sizes: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    weights = tuple(data.draw(st.integers(1, 9)) for _ in sizes)
    mixture, total = Mixture(sizes, weights, seed), sum(weights)
    rows, epochs = mixture.at(0, 40 * total)
    for block in range(40):
        stores = [
            store for store, places, _ in mixture.split(rows[block * total : (block + 1) * total]) for _ in places
        ]
        assert tuple(stores.count(store) for store in range(len(sizes))) == weights
    for store, places, own in mixture.split(rows):
        for epoch in range(len(places) // sizes[store]):
            assert sorted(own[epochs[places] == epoch].tolist()) == list(range(sizes[store])), "each row once an epoch"
    start, count = data.draw(st.integers(0, 30 * total)), data.draw(st.integers(1, 60))
    again = mixture.at(start, count)
    assert again[0].tolist() == mixture.at(0, start + count)[0][start:].tolist()


def test_stores_without_weights_are_one() -> None:
    rows, _ = Mixture((30, 50), (), seed=1).at(0, 80)
    assert rows.tolist() == rows_at(0, 80, 80, seed=1)[0].tolist()


@pytest.mark.parametrize("weights", [(1,), (0, 1), (1, 2, 3), (1, 70_000)])
def test_weights_that_cannot_be_are_refused(weights: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="weights"):
        Mixture((5, 5), weights, 0)
