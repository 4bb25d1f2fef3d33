"""The order of samples: row = permute(position), a pure function of (seed, epoch), with no array of the store's size.

Position p of the run is position p mod N of epoch p // N. A global batch is a range of positions, so the order does not
depend on ranks or workers, and resuming means starting at another position.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import stream, words

NUM_ROUNDS = 6


def permute(positions: NDArray[np.int64], num: int, key: int) -> NDArray[np.int64]:
    """A keyed bijection of range(num): positions int64 [B] to rows int64 [B].

    A balanced Feistel network over the smallest even number of bits that holds `num`; a value that falls outside is
    walked through the network again until it falls inside (cycle-walking; Black and Rogaway 2002), fewer than 4 times
    on average.
    """
    half = np.uint64(max(1, ((num - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    rounds = words(np.uint64(key), np.arange(NUM_ROUNDS, dtype=np.uint64))
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        left, right = values[outside] >> half, values[outside] & low
        for round_key in rounds:
            left, right = right, left ^ (words(round_key, right) & low)
        values[outside] = (left << half) | right
        outside = outside[values[outside] >= np.uint64(num)]
    return values.astype(np.int64)


def rows_at(start: int, count: int, num: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and epochs, int64 [count] each, of the positions start ... start + count - 1 of a run over `num` samples."""
    positions = np.arange(start, start + count, dtype=np.int64)
    epochs, within = np.divmod(positions, num)
    rows = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = permute(within[here], num, stream(seed, int(epoch), "order"))
    return rows, epochs
