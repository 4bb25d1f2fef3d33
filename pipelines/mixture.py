"""Several stores as one: which store a position of the run draws from, and the how-manieth of that store it is.

With weights the stores mix exactly: of every sum(weights) consecutive positions, counted from the run's beginning, each
store has its weight, in an order drawn anew for each such block. Without, they are one store, end to end: every row of
each once an epoch. Nothing of the stores' size is held, and a position is found without those before it.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.order import epoch_rows, permute
from prep.draws import stream
from prep.errors import UserError

MAX_SUM = 65_536
"""Of the weights: so many samples it takes until the mixture is exact."""


@dataclass(frozen=True)
class Mixture:
    """sizes: rows of each store. weights: see the module; () for none. window: see `pipelines.order`.

    Raises `UserError` for weights that cannot be.
    """

    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    seed: int
    window: int = 0
    _starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(self.sizes)]))
        if self.weights and len(self.weights) != len(self.sizes):
            problem = f"wanted a weight for each of {len(self.sizes)} stores, found {len(self.weights)}"
            raise UserError("weights", problem, "Give as many as stores.")
        if self.weights and (min(self.weights) < 1 or sum(self.weights) > MAX_SUM):
            problem = f"wanted whole numbers from 1 on, of a sum up to {MAX_SUM:,}, found {self.weights}"
            raise UserError("weights", problem, "Write them as a ratio of smaller whole numbers.")

    def at(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows, counted through all stores, and their epochs in their own store, int64 [count] each."""
        return self.of(np.arange(start, start + count, dtype=np.int64))

    def of(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same of any positions, int64 [n]."""
        count = len(positions)
        if not self.weights:
            return self._shuffled(positions, int(self._starts[-1]), self.seed)
        block_size = sum(self.weights)
        blocks, within = np.divmod(positions, block_size)
        edges = np.concatenate([[0], np.cumsum(self.weights)])
        rows, epochs = np.empty(count, np.int64), np.empty(count, np.int64)
        each, of_each = np.unique(blocks, return_inverse=True)
        keys = np.array([stream(self.seed, block, "mixture") for block in each.tolist()], np.uint64)
        drawn = permute(within, block_size, keys[of_each])
        chosen = np.searchsorted(edges, drawn, side="right") - 1
        for place, size in enumerate(self.sizes):
            mine = chosen == place
            counted = blocks[mine] * self.weights[place] + drawn[mine] - edges[place]
            # Each store has an order of its own: two of one size would walk in step.
            own, epochs[mine] = self._shuffled(counted, size, stream(self.seed, place, "store"))
            rows[mine] = own + self._starts[place]
        return rows, epochs

    def _shuffled(
        self, positions: NDArray[np.int64], size: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return epoch_rows(positions, size, seed, self.window)

    def start_of(self, store: int) -> int:
        """The first of a store's rows, counted through all stores."""
        return int(self._starts[store])

    def split(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """(store, places in `rows`, rows of that store) for each store that `rows` touches."""
        if len(self.sizes) == 1:
            return [(0, np.arange(len(rows)), rows)]
        stores = np.searchsorted(self._starts, rows, side="right") - 1
        found = []
        for store in np.unique(stores).tolist():
            places = np.flatnonzero(stores == store)
            found.append((store, places, rows[places] - self._starts[store]))
        return found
