"""Memory for batches of images that is used again as soon as nobody holds it.

A new array of a hundred megabytes costs as much in page faults as in copying: so a loader keeps what it has allocated,
and gives an array out again once its batch, and everything that was made of it without a copy, is gone.
"""

import sys

import numpy as np
from numpy.typing import NDArray


def _references_of_free() -> int:
    """What getrefcount says of an array in a list that nobody else holds: 3, and fewer from Python 3.14 on."""
    arrays = [np.empty(0, np.uint8)]
    for array in arrays:
        return sys.getrefcount(array)
    raise AssertionError


_REFERENCES_OF_FREE = _references_of_free()


class Buffers:
    """Arrays of one shape, uint8. Not to be shared by threads."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._arrays: list[NDArray[np.uint8]] = []

    def take(self) -> NDArray[np.uint8]:
        """An array that nobody else holds; its content is whatever it was."""
        for array in self._arrays:
            if sys.getrefcount(array) <= _REFERENCES_OF_FREE:
                return array
        self._arrays.append(np.empty(self._shape, np.uint8))
        return self._arrays[-1]
