"""FFCV behind the contract: pixels from exported `.beton` files, through FFCV's own reader and native code.

Rows, tokens, crop boxes and jitter are `pipelines.drawing`'s, batches are prepared ahead as `TorchLoader` does it: only
where an image's bytes lie and what decodes them is FFCV's. Its own loader draws boxes itself and starts with an epoch.
It copies raw pixels, decodes JPEG files by its TurboJPEG with the fast transform, and boxes are resized by
`pipelines.pixels.cut`: FFCV's resize, OpenCV's INTER_AREA, is another filter.

So raw views equal `TorchLoader`'s to the last bit. JPEG views differ by that transform alone (measured against
simplejpeg with its `fastdct`: not at all): 4,096 crops of made pictures at 112 px, q95 4:4:4, by 1.4 levels of 255 in
the mean and 12 at most; noisy ones at 32 px by 2.1 and 20; after resizing by less. See JPEG_TOLERANCE.

FFCV trusts its file: a damaged JPEG file shows as black, a writer that was killed leaves images of 0 x 0. Here what the
file says of a row, and the bytes themselves, are held against the store when the row is first touched; what differs is
refused by name, also under `Draws.replace_damaged`: the store is whole, and can be exported again. FFCV's tables (112
bytes a row) are mapped instead of read, and its index of addresses is not built: a bit a row is all that is kept.
"""

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from pipelines.contract import Draws
from pipelines.drawing import Drawn
from pipelines.mapped import Addresses, views
from pipelines.pixels import DamagedPixelsError, cut_into
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.store import Store

JPEG_TOLERANCE = (32, 3.0)
"""Levels of 255: how far any value may lie from TorchLoader's, and how far they may lie in a batch's mean."""

_FIELDS = {"image": "RGBImageField", "tokens": "NDArrayField", "priorities": "NDArrayField", "index": "IntField"}
_MODES = ("jpeg", "raw")
"""FFCV's numbers of them are their places."""
_REGIONS = 3
"""Of a row in the table of allocations: its image comes first."""


class FfcvLoader(TorchLoader):
    """Batches of one store whose copies were exported to `.beton` files; see `pipelines.contract`.

    betons: an export of each view that the draws need: of a crop bank one for each crop in order, of margin copies one.
    threads: decode in so many; 0 does all of it when a batch is asked for. Raises `UserError` for a missing ffcv, for
    several stores, and for files that are not exports of these views; of single rows, when they are drawn.
    """

    def __init__(self, draws: Draws, betons: Sequence[Path], threads: int = 1) -> None:
        if len(draws.stores) != 1:
            problem = f"wanted one store, found {len(draws.stores)}"
            raise UserError("FFCV", problem, "Choose another loader for several stores, such as torch.")
        super().__init__(draws, threads)
        store, is_raw = draws.stores[0], self._drawer.images[0].is_raw
        kept = [view for view in store.manifest.views(draws.budget.res) if view.settings["encoding"] == _MODES[is_raw]]
        folders = [view.folder for view in kept if ("crop" in view.settings) == (draws.crops == "bank")]
        if len(folders) != len(betons):
            raise UserError(
                "FFCV",
                f"wanted a .beton of each of {', '.join(folders)}, in this order, found {len(betons)} files",
                f"Name them all; export them one by one: {_export(store, folders[0])}.",
            )
        self._copy, self._decode, reader = _ffcv()
        self._betons = [
            _Beton(Path(path), store, folder, is_raw, reader) for path, folder in zip(betons, folders, strict=True)
        ]

    def _fill(self, drawn: Drawn, pixels: NDArray[np.uint8], rows: slice) -> None:
        """Write the images of `rows` into theirs of `pixels`, uint8 [B, R, R, 3]. Raises `DamagedPixelsError`."""
        places = np.arange(len(drawn.index))[rows]
        starts = self._starts(drawn, places)
        sizes, widths, heights = drawn.num_bytes[places], drawn.widths[places], drawn.heights[places]
        is_raw, boxes, res = drawn.is_raw[places], drawn.boxes[places], pixels.shape[1]
        unfit = is_raw & (sizes != 3 * widths * heights)
        if unfit.any():
            raise DamagedPixelsError(int(places[unfit][0]), "its raw pixels are not as many as its size says")
        whole = (boxes == (0, 0, res, res)).all(axis=1) & (widths == res) & (heights == res)
        scratch = np.empty(int((3 * widths * heights)[~whole].max(initial=0)), np.uint8)
        # Addresses as plain numbers: an array made for each image would cost as much as copying it.
        targets = np.where(whole, pixels.ctypes.data + places * pixels.strides[0], scratch.ctypes.data)
        facts = (starts, sizes, targets, heights, widths, is_raw, whole)
        each = zip(places.tolist(), *(fact.tolist() for fact in facts), strict=True)
        for place, start, size, target, height, width, raw, own in each:
            if raw:
                self._copy(start, target, size)
            elif self._decode(start, size, height, width, target, height, width, 0, 0, 1, 1, False, False):
                raise DamagedPixelsError(place, "FFCV's TurboJPEG does not decode it")
            if not own:
                decoded = scratch[: 3 * height * width].reshape(height, width, 3)
                cut_into(pixels[place], decoded, drawn.boxes[place].tolist())

    def _starts(self, drawn: Drawn, places: NDArray[np.int64]) -> Addresses:
        """Where the images at these places of a batch begin in the mapped files, int64 [n]."""
        turns = drawn.epochs[places] % len(self._betons)
        starts = np.empty(len(places), np.int64)
        for turn in np.unique(turns).tolist():
            mine = turns == turn
            starts[mine] = self._betons[turn].starts(drawn, places[mine])
        return starts


class _Beton:
    """One mapped file. Threads may share it."""

    def __init__(self, path: Path, store: Store, folder: str, is_raw: bool, reader: Callable[[Path], Any]) -> None:
        self._path, self._store, self._folder = path, store, folder
        try:
            opened = reader(path)
            fields = {name: type(handler).__name__ for name, handler in opened.handlers.items()}
            self._data = np.memmap(path, np.uint8, "r")
        except (OSError, AssertionError, ValueError, LookupError, TypeError, OverflowError) as error:
            raise self._refused(f"wanted a whole .beton file, but {error}") from error
        if fields != _FIELDS:
            raise self._refused(f"wanted the fields {', '.join(_FIELDS)} of prep.export, found {', '.join(fields)}")
        self._samples, self._regions = opened.metadata, opened.alloc_table
        num_rows, num_found = store.manifest.num_samples, len(self._samples)
        if num_found != num_rows:
            raise self._refused(f"wanted the {num_rows:,} rows of {store.folder.url}, found {num_found:,}")
        ends = np.array([0, num_rows - 1])
        self._hold(ends, {"mode": np.full(2, is_raw), "index": ends})
        self._first = self._data.ctypes.data
        self._pointers = self._samples["f0"]["data_ptr"]
        self._seen = np.zeros(-(-num_rows // 8), np.uint8)
        self._lock = threading.Lock()

    def starts(self, drawn: Drawn, places: NDArray[np.int64]) -> Addresses:
        """Addresses of the images at these places of a batch, int64 [n], each checked when it is first touched.

        Raises `UserError` for what differs from the store, `DamagedPixelsError` for a JPEG file of another size than
        both say.
        """
        rows = drawn.index[places]
        bits = np.uint8(1) << (rows & 7).astype(np.uint8)
        new = np.flatnonzero(self._seen[rows >> 3] & bits == 0)
        if len(new):
            self._check(drawn, places[new])
            with self._lock:
                np.bitwise_or.at(self._seen, rows[new] >> 3, bits[new])
        starts: Addresses = self._first + self._pointers[rows].astype(np.int64)
        return starts

    def _check(self, drawn: Drawn, places: NDArray[np.int64]) -> None:
        rows, sizes = drawn.index[places], drawn.num_bytes[places]
        wanted = {"index": rows, "sample": rows, "width": drawn.widths[places], "height": drawn.heights[places]}
        facts = self._hold(rows, {**wanted, "mode": drawn.is_raw[places], "number of bytes": sizes})
        starts = facts["address"]
        outside = (starts < 0) | (starts > len(self._data) - sizes) | (starts != facts["allocated address"])
        if outside.any():
            raise self._refused(f"wanted the image of row {rows[outside][0]}, found a place that is none of its own")
        stored = views(drawn.addresses[places], sizes, drawn.owner)
        for place, start, own in zip(places.tolist(), starts.tolist(), stored, strict=True):
            if not np.array_equal(self._data[start : start + len(own)], own):
                problem = f"wanted the bytes of row {drawn.index[place]} as the store has them, found others"
                raise self._refused(problem)
            # TurboJPEG would scale an image of another size, or fill a part.
            if not drawn.is_raw[place] and _jpeg_size(own) != (drawn.heights[place], drawn.widths[place]):
                raise DamagedPixelsError(place, "its JPEG file is of another size, or is none")

    def _hold(self, rows: NDArray[np.int64], wanted: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
        """What the file says of rows, int64 [n] each; raises `UserError` where it differs from what is wanted."""
        sample, region = self._samples[rows], self._regions[_REGIONS * rows]
        image = sample["f0"]
        facts = {
            "index": sample["f3"],
            "sample": region["sample_id"],
            "mode": image["mode"],
            "width": image["width"],
            "height": image["height"],
            "number of bytes": region["size"],
            "address": image["data_ptr"],
            "allocated address": region["ptr"],
        }
        found = {name: fact.astype(np.int64) for name, fact in facts.items()}
        for name, values in wanted.items():
            for place in np.flatnonzero(found[name] != values)[:1].tolist():
                right, wrong = int(values[place]), int(found[name][place])
                told = f"{right}, found {wrong}"
                if name == "mode":
                    told = f"{_MODES[right]}, found {_MODES[wrong] if wrong < len(_MODES) else wrong}"
                raise self._refused(f"wanted row {rows[place]} with the {name} {told}")
        return found

    def _refused(self, problem: str) -> UserError:
        remedy = f"Delete it if it is an export of this view, and export again: {_export(self._store, self._folder)}."
        return UserError(str(self._path), f"{problem} (view {self._folder})", remedy)


def _export(store: Store, folder: str) -> str:
    return f"./shortclip run -m prep.export {store.folder.url} --ffcv {folder}.beton --view {folder}"


def _jpeg_size(data: NDArray[np.uint8]) -> tuple[int, int] | None:
    """(height, width) as a JPEG file's own header says; None where there is none."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return height, width


def _ffcv() -> tuple[Callable[..., Any], Callable[..., Any], Callable[[Path], Any]]:
    """FFCV's memcpy and JPEG decoder, and its reader of a file. Raises `UserError` where it does not import."""
    num_threads = torch.get_num_threads()
    try:
        from ffcv.libffcv import ctypes_imdecode, ctypes_memcopy
        from ffcv.reader import Reader
        from ffcv.types import ALLOC_TABLE_TYPE
    except (ImportError, OSError) as error:
        remedy = "Add it with ./shortclip ffcv, or choose another loader, such as torch."
        raise UserError("FFCV", f"wanted the library ffcv, but {error}", remedy) from error
    finally:
        # Importing FFCV leaves torch with one thread.
        torch.set_num_threads(num_threads)

    class MappedReader(Reader):  # type: ignore[misc]
        def read_metadata(self) -> None:
            offset = self.header.dtype.itemsize + self.field_descriptors.nbytes
            self.metadata = np.memmap(self._fname, self.metadata_type, "r", offset, (int(self.num_samples),))

        def read_allocation_table(self) -> None:
            offset, shape = int(self.header["alloc_table_ptr"]), (_REGIONS * int(self.num_samples),)
            self.alloc_table = np.memmap(self._fname, ALLOC_TABLE_TYPE, "r", offset, shape)

    def reader(path: Path) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and uint16, which it has by now
            return MappedReader(str(path))

    return ctypes_memcopy, ctypes_imdecode, reader
