"""Copies that wait for their record batch, in memory that is used again, or in a file where they are too many."""

import mmap
import tempfile
from typing import IO

import numpy as np
import pyarrow as pa

# Memory that was taken once and faulted in is kept for the next file: fresh pages cost as much as hashing and writing.
_free_buffers: list[memoryview] = []


class Spool:
    """Copies waiting for their record batch: in memory, or, where they are more than `max_bytes`, in an unnamed file.

    1,024 copies can take from ten megabytes to a gigabyte, and a worker has one.
    """

    def __init__(self, max_bytes: int) -> None:
        if _free_buffers and len(_free_buffers[-1]) != max_bytes:
            _free_buffers.clear()
        self._buffer = _free_buffers.pop() if _free_buffers else np.empty(max_bytes, np.uint8).data
        self._file: IO[bytes] | None = None
        self._ends = [0]

    def put(self, data: bytes) -> None:
        """Take one more copy."""
        start, end = self._ends[-1], self._ends[-1] + len(data)
        self._ends.append(end)
        if self._file is None and end <= len(self._buffer):
            self._buffer[start:end] = data
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the column's file)
            self._file.write(self._buffer[:start])
        self._file.write(data)

    def take(self) -> pa.LargeBinaryArray:
        """What was put, as a column that nothing was copied for, to be used before the next `put`."""
        ends, data = pa.py_buffer(np.array(self._ends, np.int64)), self._content()
        count = len(self._ends) - 1
        self._ends = [0]
        return pa.Array.from_buffers(pa.large_binary(), count, [None, ends, pa.py_buffer(data)])

    def _content(self) -> memoryview | mmap.mmap:
        if self._file is None:
            return self._buffer[: self._ends[-1]]
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        self.close()
        return mapped

    def close(self) -> None:
        """Let go of the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def give_back(self) -> None:
        """Let the next spool of this size have the memory."""
        self.close()
        _free_buffers.append(self._buffer)
