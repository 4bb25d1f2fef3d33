"""The order of samples: row = permute(position), a pure function of (seed, epoch), with no array of the store's size.

Position p of the run is position p mod N of epoch p // N. A global batch is a range of positions, so the order does not
depend on ranks or workers, and resuming means starting at another position.

With a window, reading stays near itself, for stores on a network or a slow disk: the rows are cut into blocks of
BLOCK_ROWS, the blocks are permuted, and `window` rows' worth of blocks that follow each other are shuffled together. A
sample is then drawn from among `window` rows of random blocks, and each block is read in one piece of time.
"""

import numpy as np
from numpy.typing import NDArray

from prep.draws import GOLDEN, U64, mix, stream, words

NUM_ROUNDS = 6
BLOCK_ROWS = 1024
"""As many as a record batch has, so that a block is a piece of one or two of them."""


def permute(positions: NDArray[np.int64], num: int, key: int | U64) -> NDArray[np.int64]:
    """A keyed bijection of range(num): positions int64 [B] to rows int64 [B]. key: one, or uint64 [B].

    A balanced Feistel network over the smallest even number of bits that holds `num`; a value that falls outside is
    walked through the network again until it falls inside (cycle-walking; Black and Rogaway 2002), fewer than 4 times
    on average.
    """
    half = np.uint64(max(1, ((num - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    # The round function is prep.draws.words, whose half that depends on the round alone is taken out of the loop.
    keys = np.atleast_1d(np.asarray(key, np.uint64))
    rounds = mix(words(keys[None, :], np.arange(NUM_ROUNDS, dtype=np.uint64)[:, None]) + GOLDEN)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        left, right = values[outside] >> half, values[outside] & low
        for round_key in rounds if len(keys) == 1 else rounds[:, outside]:
            drawn = right * GOLDEN
            drawn ^= round_key
            drawn = mix(drawn)
            drawn &= low
            drawn ^= left
            left, right = right, drawn
        values[outside] = (left << half) | right
        outside = outside[values[outside] >= np.uint64(num)]
    return values.astype(np.int64)


def epoch_rows(
    positions: NDArray[np.int64], num: int, seed: int, window: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and epochs, int64 [B] each, of positions of a run over `num` samples. window: 0 shuffles all of them."""
    epochs, within = np.divmod(positions, num)
    rows = np.empty(len(positions), np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        key = stream(seed, epoch, "order")
        rows[here] = _windowed(within[here], num, key, window) if window else permute(within[here], num, key)
    return rows, epochs


def shuffle_radius(num: int, window: int) -> int:
    """Among how many rows a sample is shuffled: the window in whole blocks, and no more than there are."""
    return min(num, _blocks_in(window) * BLOCK_ROWS) if window else num


def _blocks_in(window: int) -> int:
    return max(1, -(-window // BLOCK_ROWS))


def _windowed(within: NDArray[np.int64], num: int, key: int, window: int) -> NDArray[np.int64]:
    """Rows of an epoch's positions: windows of permuted blocks, each window shuffled."""
    num_whole, num_left = divmod(num, BLOCK_ROWS)
    num_blocks, per_window = num_whole + (num_left > 0), _blocks_in(window)
    # A block that is short has a drawn place among the whole ones, and lies last in its window.
    short = int(words(np.uint64(key), np.zeros(1, np.uint64))[0] % np.uint64(num_blocks)) if num_left else num_blocks
    missing = BLOCK_ROWS - num_left if num_left else 0
    window_of_short = short // per_window
    end = min((window_of_short + 1) * per_window, num_blocks) * BLOCK_ROWS - missing
    # Positions after that window are shifted by what the short block lacks.
    windows, inside = np.divmod(within + np.where(within >= end, missing, 0), per_window * BLOCK_ROWS)
    rows = np.empty(len(within), np.int64)
    for number in np.unique(windows).tolist():
        here = windows == number
        places = np.arange(number * per_window, min((number + 1) * per_window, num_blocks))
        is_short = number == window_of_short and bool(missing)
        whole = places[places != short]
        blocks = permute(whole - (whole > short), num_whole, key)
        if is_short:
            blocks = np.append(blocks, num_whole)
        size = len(places) * BLOCK_ROWS - (missing if is_short else 0)
        mixed = permute(inside[here], size, int(words(np.uint64(key), np.array([number + 1], np.uint64))[0]))
        rows[here] = blocks[mixed // BLOCK_ROWS] * BLOCK_ROWS + mixed % BLOCK_ROWS
    return rows
