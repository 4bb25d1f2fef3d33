"""Memory at absolute addresses, gathered for a whole batch at once: what makes a loader's cost one of copying.

A store is many mapped files of many record batches, and a batch of shuffled rows touches nearly all of them. Slicing
each out of its own Arrow array costs some ten microseconds a row; numpy over one window that spans all of them costs a
tenth of one. Nothing here checks an address: only `pipelines.store_columns` makes them, from buffers that it has
validated, and that stay mapped as long as their reader lives.
"""

import resource
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Addresses = NDArray[np.int64]
"""int64 [B], of bytes in this process."""


class _Window:
    """What numpy takes for an array: the rows of `width` bytes that begin at each byte from `start` on.

    owner: what keeps the memory; every array that is made of this one holds it.
    """

    def __init__(
        self, start: int, num_starts: int, width: int, owner: object = None, is_read_only: bool = True
    ) -> None:
        self.owner = owner
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": "|u1",
            "data": (start, is_read_only),
            "shape": (num_starts, width),
            "strides": (1, 1),
        }


def gather(addresses: Addresses, width: int) -> NDArray[np.uint8]:
    """The `width` bytes at each address, copied: uint8 [B, width]."""
    if not len(addresses) or not width:
        return np.empty((len(addresses), width), np.uint8)
    start = int(addresses.min())
    window = np.asarray(_Window(start, int(addresses.max()) - start + 1, width))
    copied: NDArray[np.uint8] = window[addresses - start]
    return copied


def gather_into(addresses: Addresses, out: NDArray[np.uint8], owner: object) -> None:
    """Fill `out`, uint8 [B, width], from the addresses: torch does it without Python's lock, which numpy would hold."""
    start, width = int(addresses.min()), out.shape[1]
    # torch knows no read-only memory, and warns of it; nothing writes here.
    window = np.asarray(_Window(start, int(addresses.max()) - start + 1, width, owner, is_read_only=False))
    torch.index_select(torch.from_numpy(window), 0, torch.from_numpy(addresses - start), out=torch.from_numpy(out))


def views(addresses: Addresses, sizes: NDArray[np.int64], owner: object) -> list[NDArray[np.uint8]]:
    """The bytes of each row, not copied, read-only: B arrays of uint8 [size], which keep `owner` alive."""
    held = sizes > 0  # where nothing is, there may be no buffer, and no address
    if not held.any():
        return [np.empty(0, np.uint8)] * len(sizes)
    start = int(addresses[held].min())
    flat = np.asarray(_Window(start, int((addresses + sizes)[held].max()) - start, 1, owner))[:, 0]
    begins = np.where(held, addresses - start, 0).tolist()
    return [flat[begin : begin + size] for begin, size in zip(begins, sizes.tolist(), strict=True)]


_num_allowed = 0


def allow_files(more: int) -> None:
    """Raise this process's own limit of open files, often 1,024, for so many more: a mapped file stays open.

    It goes as far as a process may go itself.
    """
    global _num_allowed
    _num_allowed += more
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _num_allowed + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft not in (resource.RLIM_INFINITY,) and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
