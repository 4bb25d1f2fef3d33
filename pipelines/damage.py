"""Rows of a store that are not what was written: who names them, and at which places of a batch they were asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError

_REMEDY = "The file was damaged after it was built. Delete it and run the same prep.build command again."


class DamagedError(UserError):
    """Rows that are not what was written. rows: int64 [n], in the store. places: of those that were asked for."""

    def __init__(self, place: str, problem: str, rows: NDArray[np.int64]) -> None:
        super().__init__(place, problem, _REMEDY)
        self.rows = rows
        self.places = np.empty(0, np.int64)


@contextmanager
def asking(places: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[None]:
    """Have a `DamagedError` from here know at which places, int64 [B], its rows were asked for."""
    try:
        yield
    except DamagedError as error:
        error.places = places[np.isin(rows, error.rows)]
        raise
