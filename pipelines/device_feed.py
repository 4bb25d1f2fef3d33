"""Batches on the device, ahead of the step: reading, copying and training go on side by side.

A thread of its own takes batches from the loader, copies them into pinned memory and from there to the GPU on a stream
of its own; the step waits for an event, not for the copy. A slow step leaves the loader at work until its batches ahead
and these are full; a slow reader shows as waiting. On the CPU nothing is copied, and the thread alone is left.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace

import torch

from pipelines.contract import Batch, Loader
from pipelines.jitter import apply
from prep.errors import UserError

BATCHES_ON_DEVICE = 2
"""That wait for their step."""

_Item = tuple[Batch, "torch.cuda.Event | None"] | BaseException
_TENSORS = ("images", "tokens", "index")


class _Pinned:
    """A ring of pinned copies, each used again when the GPU has read it."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._ring: list[tuple[dict[str, torch.Tensor], torch.cuda.Event]] = []
        self._turn = 0

    def put(self, batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        """The batch on the device, and the event after which it is whole there."""
        size = BATCHES_ON_DEVICE + 1
        if len(self._ring) < size:
            self._ring.append(({}, torch.cuda.Event()))
        slot, done = self._ring[self._turn % size]
        self._turn += 1
        done.synchronize()  # of the copy that last used the slot; the thread waits, not the step
        with torch.cuda.stream(self._stream):
            moved = {name: self._moved(name, getattr(batch, name), slot) for name in _TENSORS}
            done.record(self._stream)
        return replace(batch, **moved), done

    def _moved(self, name: str, tensor: torch.Tensor, slot: dict[str, torch.Tensor]) -> torch.Tensor:
        if tensor.is_cuda:  # decoded there
            return tensor
        if name not in slot or slot[name].shape != tensor.shape:
            slot[name] = torch.empty_like(tensor, pin_memory=True)  # of the same strides
        return slot[name].copy_(tensor).to(self._device, non_blocking=True)


class _Thread:
    """Moves batches until it is stopped; what it raises goes to whoever asks for the next batch."""

    def __init__(self, loader: Loader, device: torch.device) -> None:
        self._loader, self._device = loader, device
        self._ready: queue.Queue[_Item] = queue.Queue(BATCHES_ON_DEVICE)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="device feed", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        batches: Iterator[Batch] = iter(())
        try:
            batches = iter(self._loader)
            pinned = _Pinned(self._device) if self._device.type == "cuda" else None
            for batch in batches:
                if not self._put(pinned.put(batch) if pinned else (_jittered(batch), None)):
                    return
            self._put(RuntimeError("the loader ended, which none may"))
        except BaseException as error:  # whatever it is, the step is waiting for it
            self._put(error)
        finally:
            close = getattr(batches, "close", None)
            if close:
                close()

    def _put(self, item: _Item) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def get(self) -> _Item:
        return self._ready.get()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def _jittered(batch: Batch) -> Batch:
    """The batch with its jitter done, on the CPU ahead of the step, on a GPU in the step's own stream."""
    if batch.jitter is None:
        return batch
    return replace(batch, images=apply(batch.images, batch.jitter), jitter=None)


def on_device(loader: Loader, device: str) -> Generator[Batch, None, None]:
    """The loader's batches with their tensors on `device` and their jitter done, in the same order.

    jitter is None in what comes out. Raises what the loader raises, and `UserError` for another kind of device. Closed,
    it stops the loader and its threads.
    """
    place = torch.device(device)
    if place.type not in ("cpu", "cuda"):
        raise UserError("--device", f"wanted cpu or cuda, found {device}", "Batches are brought to no other yet.")
    if place.type == "cuda" and place.index is None:
        # A thread has a current device of its own, which is not what the caller has set.
        place = torch.device("cuda", torch.cuda.current_device())
    thread = _Thread(loader, place)
    try:
        while True:
            item = thread.get()
            if isinstance(item, BaseException):
                raise item
            batch, moved = item
            if moved is not None:
                current = torch.cuda.current_stream(place)
                current.wait_event(moved)
                for name in _TENSORS:
                    # Else the allocator would give the memory out again while the step still reads it.
                    getattr(batch, name).record_stream(current)
            yield _jittered(batch)
    finally:
        thread.stop()
