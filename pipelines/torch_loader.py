"""The reference loader: numpy and simplejpeg over mapped Arrow, in threads. Runs anywhere; judges the fast ones."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from sys import is_finalizing

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.buffers import Buffers
from pipelines.contract import Batch, Draws
from pipelines.drawing import Drawer, Drawn
from pipelines.mapped import gather_into
from pipelines.pixels import DamagedPixelsError, fill

BATCHES_AHEAD = 2
"""Prepared beyond the one that is being waited for: a slow step does not stop reading before these are full."""

_CHUNK_ROWS = 128
"""Of a batch, prepared in one go by one thread."""


@dataclass
class _Begun:
    """A batch in the making: what was drawn, the pixels to fill, and the chunks that fill them."""

    start: int
    drawn: Drawn
    pixels: NDArray[np.uint8]
    chunks: list[Future[None]]


@dataclass
class TorchLoader:
    """Batches of stores; see `pipelines.contract` for what is promised.

    threads: decode in so many; 0 does all of it when a batch is asked for. num_replaced: samples shown so far in place
    of damaged ones. Raises `UserError` for damage.
    """

    draws: Draws
    threads: int = 1
    num_replaced: int = field(init=False, default=0)
    _drawer: Drawer = field(init=False)

    def __post_init__(self) -> None:
        self._drawer = Drawer(self.draws)

    def __iter__(self) -> Iterator[Batch]:
        res, start = self.draws.budget.res, self.draws.samples_seen
        buffers = Buffers((self.draws.local_batch_size, res, res, 3))
        if self.threads == 0:
            while True:
                yield self._whole(_Begun(start, self._drawer(start), buffers.take(), []))
                start += self.draws.batch_size
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        ahead = deque([pool.submit(self._begin, pool, start, buffers.take())])
        try:
            while True:
                # The chunks of one batch are in the pool before the next batch begins: so the first comes first.
                begun = ahead.popleft().result()
                while len(ahead) < BATCHES_AHEAD:
                    start += self.draws.batch_size
                    ahead.append(pool.submit(self._begin, pool, start, buffers.take()))
                yield self._whole(begun)
        finally:
            if not is_finalizing():  # a loader that was abandoned meets its end with the interpreter's
                pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, pool: ThreadPoolExecutor, start: int, pixels: NDArray[np.uint8]) -> _Begun:
        begun = _Begun(start, self._drawer(start), pixels, [])
        for first in range(0, len(pixels), _CHUNK_ROWS):
            rows = slice(first, first + _CHUNK_ROWS)
            begun.chunks.append(pool.submit(self._fill, begun.drawn, pixels, rows))
        return begun

    def _fill(self, drawn: Drawn, pixels: NDArray[np.uint8], rows: slice) -> None:
        sizes = drawn.widths[rows], drawn.heights[rows]
        res, boxes = pixels.shape[1], drawn.boxes[rows]
        is_own = drawn.is_raw[rows] & (drawn.num_bytes[rows] == 3 * res * res) & (sizes[0] == res) & (sizes[1] == res)
        if (is_own & (boxes == (0, 0, res, res)).all(axis=1)).all():
            gather_into(drawn.addresses[rows], pixels[rows].reshape(-1, 3 * res * res), drawn.owner)
            return
        try:
            fill(pixels[rows], drawn.encoded(rows), sizes, drawn.is_raw[rows], drawn.boxes[rows])
        except DamagedPixelsError as error:
            raise DamagedPixelsError(rows.start + error.place, str(error)) from error

    def _whole(self, begun: _Begun) -> Batch:
        """Wait for a batch's pixels; a row that does not decode is replaced, or named and refused."""
        while True:
            try:
                if begun.chunks:
                    for chunk in begun.chunks:
                        chunk.result()
                else:
                    self._fill(begun.drawn, begun.pixels, slice(0, len(begun.pixels)))
                self.num_replaced += begun.drawn.num_replaced
                return _batch(begun.drawn, begun.pixels)
            except DamagedPixelsError as error:
                self._drawer.undecodable(begun.drawn, error.place, str(error))
                for chunk in begun.chunks:
                    chunk.cancel()
                    chunk.exception() if not chunk.cancelled() else None
                begun = _Begun(begun.start, self._drawer(begun.start), begun.pixels, [])


def _batch(drawn: Drawn, pixels: NDArray[np.uint8]) -> Batch:
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.from_numpy(drawn.tokens),
        torch.from_numpy(drawn.index),
        None if drawn.jitter is None else torch.from_numpy(drawn.jitter),
    )
