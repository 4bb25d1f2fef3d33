"""What a sample costs at each stage of the reference loader, and the limits that no loader passes: in the same run.

The limits do one thing only, on bytes that are already in memory: `memcpy` copies as many bytes as the view stores,
`simplejpeg` decodes what it stores, and `pyarrow.take` is how Arrow itself would gather the rows of a raw view. Arrow
joins all of the column before it takes any row: what that costs grows with the rows, whose number is told beside it.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter, thread_time

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipelines.bench_loaders import Setup, Spell, core_seconds, folders
from pipelines.drawing import Drawer
from pipelines.mapped import gather_into
from pipelines.pixels import cut_into, decode
from pipelines.torch_loader import rows_at_once
from prep.crops import random_boxes
from prep.draws import row_keys
from prep.text_masks import select

STAGES = ("check", "read", "text", "decode", "crop", "copy", "device")
"""check: a row's hash, once, when it is first touched. read: drawing rows and boxes, finding the bytes. text: drawing
captions, gathering and masking them. copy: pixels into the batch, where nothing is cut. device: the batch to the
GPU, where there is one, by the clock.
"""

_CHUNK_ROWS = 128
_BYTES_TO_TAKE = 1 << 30
"""Of a larger column a part is taken from: so much is copied for each batch."""
_NUM_BUFFERS = 4  # as a loader has; more than the processor's caches hold


class StageSubject:
    """The stages and limits of one view."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.draws = setup, setup.draws()
        self._drawer = Drawer(self.draws)
        self._start, self._used = 0, dict.fromkeys(STAGES, 0.0)
        shape = (setup.batch_size, setup.res, setup.res, 3)
        self._out = np.zeros(shape, np.uint8)
        self._pool = ThreadPoolExecutor(setup.threads)
        self.num_taken_from = 0
        self._sources: list[NDArray[np.uint8]] = []
        self._targets: list[NDArray[np.uint8]] = []

    def stages(self, seconds: float) -> dict[str, float]:
        """Seconds a sample of a core's time that each stage takes, over whole batches for at least so long."""
        self._used, began, samples = dict.fromkeys(self._used, 0.0), perf_counter(), 0
        checked = self._first_touch()
        while not samples or perf_counter() - began < seconds:
            self._batch()
            samples += self.setup.batch_size
        per_sample = {name: used / samples for name, used in self._used.items()}
        per_sample["check"] = checked
        if self.setup.device == "cpu":
            del per_sample["device"]
        return per_sample

    def _first_touch(self) -> float:
        """Seconds that a row's hashes take, with fresh readers: what a first epoch pays beside the rest."""
        fresh, took = Drawer(self.draws), []
        # The first batch opens files; the second is new rows for the most part, in a store that has as many.
        for start in (0, self.setup.batch_size, self.setup.batch_size):
            began = thread_time()
            fresh(start)
            took.append(thread_time() - began)
        return max(0.0, took[1] - took[2]) / self.setup.batch_size

    @contextmanager
    def _timed(self, stage: str, share: float = 1.0) -> Iterator[None]:
        began = thread_time()
        yield
        self._used[stage] += share * (thread_time() - began)

    def _batch(self) -> None:
        draws, drawer, seed = self.draws, self._drawer, self.draws.seed
        # Drawn for several batches at once, as a loader does it; the pixels are of the first.
        num = rows_at_once(self.setup.batch_size)
        with self._timed("read", self.setup.batch_size / num):
            rows, epochs = drawer.mixture.at(self._start, num)
            images = drawer.images[0].images(rows, epochs)
            boxes = np.tile(np.array([0, 0, draws.budget.res, draws.budget.res]), (len(rows), 1))
            if draws.crops != "bank":
                boxes = random_boxes(
                    row_keys(seed, epochs, rows, "crop"), images.widths, images.heights, draws.augmentation
                )
            is_copied = drawer.images[0].is_raw and draws.crops == "bank"
            encoded = [] if is_copied else images.encoded
        with self._timed("text", self.setup.batch_size / num):
            text = drawer.texts[0].rows(rows, row_keys(seed, epochs, rows, "caption"))
            keys, budget = row_keys(seed, epochs, rows, "text"), draws.budget
            select(text.tokens, text.priorities, text.num_tokens, budget.text_tokens, budget.text_mask, keys)
        sizes = list(zip(images.heights.tolist(), images.widths.tolist(), strict=True))
        # A few at a time, as a loader does it: whole batches of pixels would leave the processor's caches.
        for first in range(0, self.setup.batch_size, _CHUNK_ROWS):
            chunk = slice(first, min(first + _CHUNK_ROWS, self.setup.batch_size))
            if is_copied:
                with self._timed("copy"):
                    out = self._out[chunk].reshape(-1, 3 * draws.budget.res**2)
                    gather_into(images.addresses[chunk], out, images.owner)
                continue
            self._pixels(encoded[chunk], sizes[chunk], boxes[chunk].tolist(), self._out[chunk])
        if self.setup.device != "cpu":
            began = perf_counter()
            torch.from_numpy(self._out).to(self.setup.device)
            torch.cuda.synchronize()
            self._used["device"] += perf_counter() - began
        self._start += self.setup.batch_size

    def _pixels(
        self,
        encoded: list[NDArray[np.uint8]],
        sizes: list[tuple[int, int]],
        boxes: list[list[int]],
        out: NDArray[np.uint8],
    ) -> None:
        is_raw, bank = self._drawer.images[0].is_raw, self.draws.crops == "bank"
        places = [out[place] if bank else None for place in range(len(encoded))]
        with self._timed("copy" if is_raw else "decode"):
            pixels = [
                decode(data, *size, is_raw, place) for data, size, place in zip(encoded, sizes, places, strict=True)
            ]
        if bank:
            return
        with self._timed("crop"), torch.inference_mode():
            for place, own, box in zip(out, pixels, boxes, strict=True):
                cut_into(place, own, box)

    def limits(self, seconds: float) -> dict[str, Spell]:
        """Each limit that the view has, on as many threads as a loader has."""
        encoded, sizes = self._stored()
        if self._drawer.images[0].is_raw:
            num_bytes = sum(map(len, encoded)) / len(encoded)
            return {"memcpy": self._copying(num_bytes, seconds), "pyarrow.take": self._taking(seconds)}
        return {"simplejpeg": self._decoding(encoded, sizes, seconds)}

    def rows_taken_from(self) -> int:
        """Rows of the column that `pyarrow.take` had before it; 0 where it was not run."""
        return self.num_taken_from

    def pixel_bytes(self) -> float:
        """Bytes of a stored copy, decoded: the mean of a batch."""
        drawn = self._drawer(0)
        return float(3 * (drawn.widths * drawn.heights).mean())

    def _stored(self) -> tuple[list[NDArray[np.uint8]], list[tuple[int, int]]]:
        drawn = self._drawer(0)
        sizes = list(zip(drawn.heights.tolist(), drawn.widths.tolist(), strict=True))
        return [data.copy() for data in drawn.encoded()], sizes

    def _decoding(self, encoded: list[NDArray[np.uint8]], sizes: list[tuple[int, int]], seconds: float) -> Spell:
        bank = self.draws.crops == "bank"

        def some(first: int) -> None:
            for place in range(first, min(first + _CHUNK_ROWS, len(encoded))):
                decode(encoded[place], *sizes[place], False, self._out[place] if bank else None)

        def whole() -> int:
            list(self._pool.map(some, range(0, len(encoded), _CHUNK_ROWS)))
            return len(encoded)

        return _spell(whole, seconds)

    def _copying(self, num_bytes: float, seconds: float) -> Spell:
        """Copying batches in memory, by one thread or by all of them, whichever is faster; num_bytes: of a sample."""
        if not self._sources:
            self._sources = [np.ones_like(self._out) for _ in range(_NUM_BUFFERS)]
            self._targets = [np.ones_like(self._out) for _ in range(_NUM_BUFFERS)]

        def copy(num_parts: int) -> float:
            for source, target in zip(self._sources, self._targets, strict=True):
                parts = zip(np.array_split(target, num_parts), np.array_split(source, num_parts), strict=True)
                list(self._pool.map(lambda part: np.copyto(*part), parts))
            return _NUM_BUFFERS * self._out.nbytes / num_bytes

        threads = {1, self.setup.threads}
        return max((_spell(partial(copy, num), seconds / len(threads)) for num in threads), key=lambda s: s.rate)

    def _taking(self, seconds: float) -> Spell:
        """Rows a second that Arrow gathers from mapped files, shuffled, a batch at once."""
        store = self.draws.stores[0]
        folder = folders(store.manifest, self.setup.res, self.setup.view)[0]
        chunks, num = list[pa.Array](), 0
        for shard in range(len(store.manifest.shards)):
            reader = store.open_file(folder, shard)
            chunks += [reader.get_batch(batch).column("image") for batch in range(reader.num_record_batches)]
            num = sum(map(len, chunks))
            if sum(chunk.nbytes for chunk in chunks) >= _BYTES_TO_TAKE:
                break
        self.num_taken_from = num
        column, rng = pa.chunked_array(chunks), np.random.default_rng(0)
        return _spell(lambda: len(column.take(pa.array(rng.integers(0, num, self.setup.batch_size)))), seconds)


def _spell(work: Callable[[], float], seconds: float) -> Spell:
    """What `work` counts, over at least so long, after one call to warm up."""
    work()
    done, began, used = 0.0, perf_counter(), core_seconds()
    while not done or perf_counter() - began < seconds:
        done += work()
    return Spell(done, perf_counter() - began, core_seconds() - used)
