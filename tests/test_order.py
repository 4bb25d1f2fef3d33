"""Orders are permutations, pure functions of (seed, epoch, position)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.order import permute, rows_at
from prep.draws import uniforms

KEYS = st.integers(0, 2**64 - 1)


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
