"""train.run in processes that start warm: forks of this one, in which everything is loaded. As ranks, torchrun's way.

They are real processes of the real program, with an exit code and a screen; what a start saves is the imports.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prep.errors import run_main
from prep.files import hash_file
from prep.store import Store
from train import checkpoint, loop
from train.health import read_events
from train.log import Line, read_log
from train.run import main

from .test_train_run import TINY

PATIENCE = 240.0
"""Seconds that a run may take; then it hangs."""

# Two stages of ten steps of 24 samples; checkpoints at 4, 8 and 10 of each.
SHORT = [*TINY, *(f"stages.{i}.samples=240" for i in (0, 1))]
BATCH, BOUNDARY, LAST = 24, 240, 480

Prepare = Callable[[], object]


def arguments(store: Store, run: Path, *more: str) -> list[str]:
    """Of train.run. more: overrides and flags."""
    return ["demo", *SHORT, *more, "--store", str(store.path), "--out", str(run), "--device", "cpu", "--threads", "1"]


@dataclass
class Running:
    """The processes of a run, by rank. codes: as subprocess tells them, of those that have ended."""

    pids: list[int]
    screens: list[Path]
    codes: dict[int, int]

    def ended(self) -> bool:
        """Whether all have; asks the system."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes and (found := os.waitpid(pid, os.WNOHANG))[0]:
                self.codes[rank] = os.waitstatus_to_exitcode(found[1])
        return len(self.codes) == len(self.pids)

    def send(self, number: int, *ranks: int) -> None:
        """A signal to some ranks; to all where none is named."""
        for rank in ranks or range(len(self.pids)):
            if rank not in self.codes:
                os.kill(self.pids[rank], number)

    def wait(self, patience: float = PATIENCE) -> list[int]:
        """The exit codes. All are killed and the test fails when they take longer than `patience` seconds."""
        deadline = time.monotonic() + patience
        while not self.ended():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise AssertionError(f"hangs; screens:\n{self.said()}")
            time.sleep(0.002)
        return [self.codes[rank] for rank in range(len(self.pids))]

    def said(self) -> str:
        """What is on all screens."""
        return "\n".join(screen.read_text() for screen in self.screens)


def start(argv: list[str], screens: Path, world: int = 1, prepare: Prepare | None = None) -> Running:
    """Start train.run. screens: prefix of files. prepare: called first in each process, which has its RANK set."""
    places = [screens.with_name(f"{screens.name}-{rank}.txt") for rank in range(world)]
    port, pids = free_port() if world > 1 else 0, []
    for rank, screen in enumerate(places):
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
        sys.stdout.flush()
        if (pid := os.fork()) == 0:
            _live(argv, screen, {name: str(value) for name, value in environment.items()}, prepare)
        pids.append(pid)
    return Running(pids, places, {})


def _live(argv: list[str], screen: Path, environment: dict[str, str], prepare: Prepare | None) -> None:
    code: object = 1
    try:
        descriptor = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.environ.update(environment, MASTER_ADDR="127.0.0.1")
        # What MFU is measured against takes a third of a second of every start.
        pytest.MonkeyPatch().setattr(loop, "peak_flops", lambda *_: 1e12)
        if prepare is not None:
            prepare()
        run_main(lambda: main(argv))
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def finish(argv: list[str], screens: Path, world: int = 1, prepare: Prepare | None = None) -> str:
    """Run to the end; returns what was said. Fails unless every rank ends well."""
    running = start(argv, screens, world, prepare)
    assert running.wait() == [0] * world, running.said()
    return running.said()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tensors(run: Path, name: str = "weights", samples_seen: int | None = None) -> dict[str, torch.Tensor]:
    """Of a file of a checkpoint; of the newest, where none is named."""
    seen = int(checkpoint.found(run)[-1].name) if samples_seen is None else samples_seen
    return load_file(checkpoint.folder(run) / f"{seen:012d}" / f"{name}.safetensors")


def losses(run: Path) -> list[float]:
    """Of every log line."""
    return [line.loss for line in read_log(run)]


def same_at_all_times(run: Path) -> list[tuple[object, ...]]:
    """Every log line without what is measured: time and memory."""
    measured = {"seconds", "samples_per_second", "data_wait", "mfu", "memory"}
    names = [name for name in Line.__dataclass_fields__ if name not in measured]
    return [tuple(getattr(line, name) for name in names) for line in read_log(run)]


def contents(run: Path) -> dict[str, object]:
    """What must be alike in two runs that are the same: every tensor of what they end with, the log, the events."""
    files = {path.name: hash_file(path) for path in checkpoint.found(run)[-1].glob("*.safetensors")}
    left = [path.name for path in checkpoint.folder(run).iterdir() if path.name.endswith(".tmp")]
    return {**files, "log": same_at_all_times(run), "events": read_events(run), "left over": left}
