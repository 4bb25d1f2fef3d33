"""NVIDIA DALI behind the one contract: its operators decode and crop, on the CPU or on a GPU.

All but the pixels is the `Drawer`'s, so rows, tokens, crop boxes and jitter are those of every loader. DALI asks for a
batch by its number and is handed stored bytes and boxes, by threads alone. On a GPU the JPEGs cross the bus as they are
stored; they are decoded, cut and resized there. Against `pipelines.torch_loader`, on the CPU at 112 px, in levels of
255, over a thousand crops of nine photographs / of pictures of prep.demo (half as many for a bank), the pixels differ:

    margin JPEG   mean 0.17 / 0.15, at most 10 / 12        bank JPEG   not at all
    margin raw    mean 0.17 / 0.15, at most 9 / 13         bank raw    not at all

Both resize by the same cubic kernel (Keys 1981, a = -0.5, widened to shrink). But torch rounds and clips between its
two passes, and renormalises what the image's border leaves of the kernel; DALI rounds once, and repeats the last pixel.
Pixels that are black or white at random, the worst of what was tried, differ by 2.7 in the mean and by up to 33.
Only device="cpu" was ever run; the rest is written for a GPU that was not to be had. nvJPEG may round otherwise.
"""

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from torch.utils.dlpack import from_dlpack

from pipelines.contract import Batch, Draws
from pipelines.drawing import Drawer, Drawn
from pipelines.mapped import gather
from pipelines.pixels import DamagedPixelsError, fill
from prep.errors import UserError

PREFETCH_DEPTH = 2  # batches begun beyond the one that is shown: a slow step does not stop reading before these are


class _View(NamedTuple):
    """What is stored: raw pixels or JPEG; squares of res that are shown whole, or copies that a box is cut of."""

    res: int
    is_raw: bool
    is_whole: bool


class _BrokenBatchError(Exception):
    """A batch that DALI did not get through: what was drawn, and the problem."""


@dataclass
class _Source:
    """What DALI calls for the inputs of an iteration: images, and where they are to be cut, (tops, lefts) and (heights,
    widths), int32 [B, 2]. begun: batches in its hands, oldest first. error: ends them, once those before are out.
    """

    drawer: Drawer
    view: _View
    start: int
    begun: deque[tuple[Drawn, object]] = field(default_factory=deque)
    error: Exception | None = None

    def __call__(self, iteration: int) -> tuple[Any, ...]:
        try:
            drawn = self.drawer(self.start + iteration * self.drawer.draws.batch_size)
            inputs = self._inputs(drawn)
        except Exception as error:
            self.error = error
            raise StopIteration from error
        self.begun.append((drawn, inputs))  # which DALI may not have copied
        return inputs

    def _inputs(self, drawn: Drawn) -> tuple[Any, ...]:
        (res, is_raw, is_whole), height, width = self.view, drawn.heights, drawn.widths
        odd = ((height != res) | (width != res)) & is_whole | (drawn.num_bytes != height * width * 3) & is_raw
        if odd.any():
            raise _BrokenBatchError(drawn, "stored copies of other sizes than they should have")
        if is_raw and is_whole:
            return (gather(drawn.addresses, res * res * 3).reshape(-1, res, res, 3),)
        images = drawn.encoded()
        if is_raw:
            images = [image.reshape(*shape, 3) for image, *shape in zip(images, height, width, strict=True)]
        boxes = drawn.boxes.astype(np.int32)
        return (images,) if is_whole else (images, boxes[:, :2].copy(), boxes[:, 2:].copy())


@dataclass
class DaliLoader:
    """Batches of stores; see `pipelines.contract` for what is promised, and this module's docstring for the pixels.

    threads: DALI's own, at least one. device: "cpu", "cuda" or "cuda:N", where the images are to be; on a GPU, in order
    on the stream that is current when iteration begins. Tokens, index and jitter are on the CPU.

    Raises `UserError` for damage, without DALI or the GPU, and for stores that are part raw and part JPEG. Without
    hashes (format version 1) only the decoder notices damage, and DALI's lets pass trash within a JPEG's body.
    """

    draws: Draws
    threads: int = 1
    device: str = "cpu"
    num_replaced: int = field(init=False, default=0)
    _drawer: Drawer = field(init=False)
    _view: _View = field(init=False)

    def __post_init__(self) -> None:
        _dali(self.device)
        self._drawer = Drawer(self.draws)
        encodings = {view.is_raw for view in self._drawer.images}
        if len(encodings) > 1:
            problem = "wanted one in all stores for DALI, found raw views in some and JPEG in others"
            raise UserError("encoding", problem, "Choose one that all of them have; or use the torch loader.")
        self._view = _View(self.draws.budget.res, encodings.pop(), self.draws.crops == "bank")

    def __iter__(self) -> Iterator[Batch]:
        start, count = self.draws.samples_seen, self.draws.local_batch_size
        stream = None if self.device == "cpu" else torch.cuda.current_stream(self.device)
        while True:
            source = _Source(self._drawer, self._view, start)
            pipeline = _pipeline(source, self._view, count, self.threads, self.device)
            # Python draws and feeds: in a thread, or a step would wait for it.
            pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
            ahead = deque([pool.submit(_run, pipeline, source, stream)])
            try:
                while True:
                    images, drawn = ahead.popleft().result()
                    ahead.append(pool.submit(_run, pipeline, source, stream))
                    start += self.draws.batch_size
                    self.num_replaced += drawn.num_replaced
                    yield Batch(
                        from_dlpack(images).permute(0, 3, 1, 2),
                        torch.from_numpy(drawn.tokens),
                        torch.from_numpy(drawn.index),
                        None if drawn.jitter is None else torch.from_numpy(drawn.jitter),
                    )
            except _BrokenBatchError as error:
                self._pass_over(*error.args)  # and begin again there: a pipeline that failed is of no more use
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _pass_over(self, drawn: Drawn, problem: str) -> None:
        """Refuse the first row of a batch that does not decode, by name, or have it replaced from now on."""
        scratch = np.empty((len(drawn.index), self._view.res, self._view.res, 3), np.uint8)
        try:
            fill(scratch, drawn.encoded(), (drawn.widths, drawn.heights), drawn.is_raw, drawn.boxes)
        except DamagedPixelsError as error:
            self._drawer.undecodable(drawn, error.place, str(error))
        else:
            stores = ", ".join(store.folder.url for store in self.draws.stores)
            rows = np.array2string(drawn.index, separator=", ", threshold=16, edgeitems=8)
            problem = f"DALI failed at the batch of the rows {rows}: {problem}"
            raise UserError(stores, problem, "Run prep.verify; or use the torch loader.")


def decode_path(device: str) -> str:
    """Which decoder DALI used for some JPEGs just now, for batches on `device`: "cpu", "hardware" or "hybrid".

    "hardware": NVML saw a GPU's JPEG engines at work; they take a share of each batch (`hw_decoder_load`, DALI's 65%).
    "hybrid": nvJPEG without them, so the host does the entropy decoding of small images; also where NVML cannot tell,
    as in a part of a GPU (MIG). Up to 3 s. Raises `UserError` without DALI or the GPU. Only "cpu" was ever tested.
    """
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    encoded = np.frombuffer(simplejpeg.encode_jpeg(noise, 95, colorsubsampling="444"), np.uint8)
    pipeline = _pipeline(lambda iteration: ([encoded] * 256,), _View(112, False, True), 256, 1, device)
    pipeline.run()
    if device == "cpu":
        return "cpu"
    gpu = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    before, end = _engine_use(gpu), time.monotonic() + 3  # a reading is a mean over up to a second
    while time.monotonic() < end:
        pipeline.run()
        if _engine_use(gpu) > before:
            return "hardware"
    return "hybrid"


def _engine_use(gpu: str) -> int:
    """Per cent of its last period that the JPEG engines of a GPU, by UUID, were at work; 0 where NVML cannot tell."""
    handle, percent, period = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        failed = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(gpu.encode(), ctypes.byref(handle))
        failed = failed or nvml.nvmlDeviceGetJpgUtilization(handle, ctypes.byref(percent), ctypes.byref(period))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else percent.value


def _dali(device: str) -> tuple[Any, Any, Any]:
    """DALI's Pipeline, fn and types. Raises `UserError` where it, or the device, is not there."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", "cuda", *gpus] if gpus else ["cpu"]
    if device not in known:
        raise UserError("device", f"wanted one of {', '.join(known)}, found {device}", "Choose one that is there.")
    try:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline
    except (ImportError, OSError) as error:
        remedy = "pip install 'nvidia-dali-cuda130~=2.4', the extra `dali`; or use the torch loader."
        raise UserError("nvidia.dali", f"wanted NVIDIA DALI, but it does not import: {error}", remedy) from error
    return Pipeline, fn, types


def _pipeline(source: Callable[[int], tuple[Any, ...]], view: _View, batch_size: int, threads: int, device: str) -> Any:
    """A pipeline with one output, uint8 [B, R, R, 3]. Raises as `_dali`."""
    make, fn, types = _dali(device)
    on_gpu = device != "cpu"
    number = torch.cuda.current_device() if device == "cuda" else torch.device(device).index
    with make(batch_size, max(threads, 1), number, prefetch_queue_depth=PREFETCH_DEPTH) as pipeline:
        # Whole raw copies are large, and stay mapped: on the CPU they need not be copied to be cut.
        how = {"layout": ["HWC"] if view.is_raw else None, "no_copy": view.is_raw and not view.is_whole and not on_gpu}
        images, *box = fn.external_source(source, num_outputs=1 if view.is_whole else 3, batch=True, **how)
        box = {"start": box[0], "shape": box[1], "axes": [0, 1]} if box else {}
        if not view.is_raw:
            decoder = fn.decoders.image_slice if box and not on_gpu else fn.decoders.image
            # Not `affine`: the ranks of a host would tie their threads to the same cores.
            settings = {"device": "mixed", "affine": False, "jpeg_fancy_upsampling": True} if on_gpu else box
            images = decoder(images, adjust_orientation=False, **settings)
        if box and (view.is_raw or on_gpu):
            images = fn.slice(images, **box)
        if view.is_raw and on_gpu:
            images = images.gpu()
        if box:
            images = fn.resize(images, size=(view.res, view.res), interp_type=types.INTERP_CUBIC, antialias=True)
        pipeline.set_outputs(images)
    pipeline.build()
    return pipeline


def _run(pipeline: Any, source: _Source, stream: Any) -> tuple[Any, Drawn]:
    """The next batch's images, a DALI tensor [B, R, R, 3], and all else about it."""
    try:
        (images,) = pipeline.run(stream)
    except StopIteration:
        assert source.error is not None
        raise source.error from None
    except RuntimeError as error:
        said = str(error).partition("encountered:")[2].strip() or str(error)
        raise _BrokenBatchError(source.begun.popleft()[0], said.splitlines()[0]) from error
    drawn, _ = source.begun.popleft()
    if not images.is_dense_tensor() or images.as_tensor().shape()[1:3] != [source.view.res] * 2:
        raise _BrokenBatchError(drawn, "images of other sizes than they should have")
    return images.as_tensor(), drawn
