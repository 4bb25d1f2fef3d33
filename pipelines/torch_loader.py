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
from pipelines.damage import DamagedError
from pipelines.drawing import Drawer, Drawn
from pipelines.mapped import gather_into
from pipelines.pixels import DamagedPixelsError, fill

BATCHES_AHEAD = 2
"""Prepared beyond the one that is being waited for: a slow step does not stop reading before these are full."""

_ROWS_AT_ONCE = 4096
"""Drawn in one go, in as many whole batches: calling numpy for each of 1,024 costs as much again as what it does."""

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
        num_at_once = rows_at_once(self.draws.local_batch_size) // self.draws.local_batch_size
        drawn, ahead = deque[Drawn](), deque[_Begun]()
        drawing: Future[list[Drawn]] | None = pool.submit(self._drawer.several, start, 1)
        try:
            while True:
                while len(ahead) <= BATCHES_AHEAD and (drawn or not ahead or _is_there(drawing)):
                    if not drawn:
                        assert drawing is not None
                        drawn.extend(drawing.result())
                        drawing = None
                    ahead.append(self._begin(pool, start, drawn.popleft(), buffers.take()))
                    start += self.draws.batch_size
                    # After the chunks of this batch, which is waited for, and before those of the next.
                    if drawing is None:
                        drawing = pool.submit(self._draw, start + len(drawn) * self.draws.batch_size, num_at_once)
                yield self._whole(ahead.popleft())
        finally:
            if not is_finalizing():  # a loader that was abandoned meets its end with the interpreter's
                pool.shutdown(wait=True, cancel_futures=True)

    def _draw(self, start: int, num: int) -> list[Drawn]:
        """So many batches, or the first alone where there is damage: a batch that is whole comes before it is told."""
        try:
            return self._drawer.several(start, num)
        except DamagedError:
            return [self._drawer(start)]

    def _begin(self, pool: ThreadPoolExecutor, start: int, drawn: Drawn, pixels: NDArray[np.uint8]) -> _Begun:
        begun = _Begun(start, drawn, pixels, [])
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


def rows_at_once(batch_size: int) -> int:
    """Of how many rows the draws are made in one go, in whole batches of that size."""
    return max(1, _ROWS_AT_ONCE // batch_size) * batch_size


def _is_there(drawing: Future[list[Drawn]] | None) -> bool:
    return drawing is not None and drawing.done() and drawing.exception() is None


def _batch(drawn: Drawn, pixels: NDArray[np.uint8]) -> Batch:
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.from_numpy(drawn.tokens),
        torch.from_numpy(drawn.index),
        None if drawn.jitter is None else torch.from_numpy(drawn.jitter),
    )
