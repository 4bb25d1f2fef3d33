"""Our loaders as `pipelines.bench` measures them: alone, and feeding a trainer."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from time import perf_counter, process_time

import torch

from pipelines.bench_trainer import PacedTrainer, StandInTrainer, Trainer
from pipelines.choose import Host, make_loader
from pipelines.contract import Batch, Draws, TokenBudget
from prep.store import Manifest, open_store

VIEWS = {
    "margin": ("online", "jpeg"),
    "margin-raw": ("online", "raw"),
    "bank": ("bank", "jpeg"),
    "bank-raw": ("bank", "raw"),
}
"""Draws.crops and Draws.encoding of each view."""

MAX_READY = 4
"""Batches that any of our loaders holds ready while nobody asks."""


def folders(manifest: Manifest, res: int, view: str) -> list[str]:
    """The store's folders of one of VIEWS, crop by crop; none where it has none."""
    crops, encoding = VIEWS[view]
    found = [v for v in manifest.views(res) if v.settings["encoding"] == encoding]
    return [v.folder for v in found if ("crop" in v.settings) == (crops == "bank")]


@dataclass(frozen=True, slots=True)
class Setup:
    """One loader and view. batch_size: in samples. device: "cpu" or "cuda". betons: the view's exports, for FFCV.

    needs: the trainer's img/s where it is known; else a trainer of this size is built, see `pipelines.bench_trainer`.
    """

    store: str
    res: int
    text_tokens: int
    batch_size: int
    view: str
    loader: str = "torch"
    threads: int = 1
    device: str = "cpu"
    betons: tuple[str, ...] = ()
    needs: float | None = None
    trainer: str = "tiny"

    def draws(self) -> Draws:
        """What every loader of this setup is to draw. Raises `UserError` for a folder that is no store."""
        crops, encoding = VIEWS[self.view]
        budget = TokenBudget(self.res, self.text_tokens)
        return Draws((open_store(self.store),), budget, self.batch_size, seed=0, crops=crops, encoding=encoding)

    def host(self) -> Host:
        """What the loader may use."""
        return Host(self.device, self.threads, tuple(map(Path, self.betons)))


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of work: samples, seconds of the clock, and of processors (see `core_seconds`)."""

    samples: float
    seconds: float
    core_seconds: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds

    @property
    def core_rate(self) -> float:
        """Samples a second of a core's time: what other programs on the cores disturb less."""
        return self.samples / max(self.core_seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process, in bytes. peak: the most that was resident. own: now, without the files that it has mapped."""

    peak: int
    own: int


def measure(batches: Iterator[Batch], seconds: float, trainer: Trainer | None = None) -> Spell:
    """Take batches for at least so long, the trainer's steps included; those that lay ready are not counted."""
    for _ in range(MAX_READY):
        next(batches)
    if trainer is not None:
        trainer.step(next(batches))  # the next batch is made meanwhile, as it will be from now on
    _wait(trainer)
    samples, began, used = 0, perf_counter(), core_seconds()
    while not samples or perf_counter() - began < seconds:
        batch = next(batches)
        samples += len(batch.index)
        if trainer is not None:
            trainer.step(batch)
    _wait(trainer)
    return Spell(samples, perf_counter() - began, core_seconds() - used)


def _wait(trainer: Trainer | None) -> None:
    if trainer is not None:
        trainer.wait()
    elif torch.cuda.is_initialized():
        torch.cuda.synchronize()


class LoaderSubject:
    """A loader in use. first_batch: seconds from opening the store to the first batch."""

    def __init__(self, setup: Setup) -> None:
        began = perf_counter()
        self.setup = setup
        self._batches = iter(make_loader(setup.loader, setup.draws(), setup.host()))
        self._first = next(self._batches)
        self.first_batch = perf_counter() - began
        self._trainer: Trainer | None = None

    def alone(self, seconds: float) -> Spell:
        """The loader with nobody in its way."""
        return measure(self._batches, seconds)

    def both(self, seconds: float) -> Spell:
        """Loader and trainer together."""
        return measure(self._batches, seconds, self._training())

    def trainer_alone(self, seconds: float) -> Spell:
        """The trainer on a batch that is there already."""
        trainer, first, device = self._training(), self._first, self.setup.device
        batch = replace(first, images=first.images.to(device), tokens=first.tokens.to(device))
        return measure(repeat(batch), seconds, trainer)

    def start(self) -> tuple[float, Memory]:
        """Seconds to the first batch; and memory, best asked before a trainer is in this process."""
        return self.first_batch, memory()

    def _training(self) -> Trainer:
        if self._trainer is None:
            setup = self.setup
            if setup.needs is not None:
                self._trainer = PacedTrainer(setup.needs)
            else:
                self._trainer = StandInTrainer(setup.trainer, setup.res, setup.text_tokens, setup.device)
            self._trainer.step(self._first)
        return self._trainer


def core_seconds() -> float:
    """Seconds that processors have worked for this process and the children it has now."""
    used = process_time()
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def memory() -> Memory:
    """Of this process; zeros where the system does not tell."""
    status = ""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE)}
    own = kilobytes.get("RssAnon", 0) + kilobytes.get("RssShmem", 0)
    return Memory(kilobytes.get("VmHWM", 0) << 10, own << 10)
