"""Work whose items do terrible things to the process that touches them."""

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from errno import ENOSPC
from pathlib import Path

from prep.errors import UserError
from prep.work import Fault, Report

BATCH_SIZE = 8

held: list[object] = []
"""What items leave behind in their process."""


@dataclass(frozen=True, slots=True)
class Toy:
    """A task. deeds: what items do, by ordinal; the others do nothing. folder: where they leave a trace."""

    name: str
    num_items: int
    deeds: Mapping[int, str] = field(default_factory=dict)
    folder: Path | None = None

    def __str__(self) -> str:
        return f"toy {self.name}"


class Unpicklable(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def _once(task: Toy, ordinal: int) -> bool:
    assert task.folder is not None
    try:
        (task.folder / f"{task.name}-{ordinal}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _eat(num_bytes: int) -> None:
    held.append(bytearray(num_bytes))


def _eat_shared(num_bytes: int) -> None:
    eaten = mmap.mmap(-1, num_bytes)
    held.append(eaten)
    for _ in range(num_bytes >> 20):
        eaten.write(bytes(1 << 20))
        time.sleep(0.001)
    time.sleep(60)


def _hang_holding_the_interpreter() -> None:
    ctypes.PyDLL(None).sleep(1000)


def _segfault() -> None:
    ctypes.string_at(0)


def _raise(error: Exception) -> None:
    raise error


DEEDS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": _segfault,
    "abort": os.abort,
    "hang": lambda: time.sleep(1000),
    "hang for good": _hang_holding_the_interpreter,
    "eat": lambda: _eat(400 << 20),
    "eat a little": lambda: _eat(20 << 20),
    "eat shared": lambda: _eat_shared(400 << 20),
    "exit": lambda: os._exit(3),
    "break": lambda: held.append("broken"),
    "crash if broken": lambda: _segfault() if "broken" in held else None,
    "disk full": lambda: _raise(OSError(ENOSPC, os.strerror(ENOSPC), "/there/file")),
    "mistake": lambda: _raise(UserError("the place", "the problem", "the remedy")),
    "unpicklable": lambda: _raise(Unpicklable(1, 2)),
    "nap": lambda: time.sleep(0.005),
}


@dataclass(frozen=True, slots=True)
class ToyWork:
    report: Report

    def do(self, task: Toy, faults: Mapping[int, Fault]) -> tuple[str, list[str]]:
        """(name, what became of each item)."""
        if -1 in task.deeds:
            DEEDS[task.deeds[-1]]()
        said = [
            str(faults[i].reason) + ": " + faults[i].detail if i in faults else "kept" for i in range(task.num_items)
        ]
        self._touch(task, range(task.num_items), faults)
        return task.name, said

    def try_items(self, task: Toy, first: int, last: int, faults: Mapping[int, Fault]) -> None:
        self._touch(task, range(first, min(last + 1, task.num_items)), faults)

    def _touch(self, task: Toy, ordinals: range, faults: Mapping[int, Fault]) -> None:
        aside = task.folder / f"{task.name}.{os.getpid()}.tmp" if task.folder else None
        batch: list[str] = []
        try:
            if aside:
                aside.touch()
            for ordinal in ordinals:
                if ordinal not in faults:
                    self.report.begin(ordinal)
                    batch.append(self._deed(task, ordinal))
                self.report.done(1, 10)
                if len(batch) == BATCH_SIZE:
                    self._finish(batch)
            self._finish(batch)
        finally:
            if aside:
                aside.unlink()

    def _deed(self, task: Toy, ordinal: int) -> str:
        deed = task.deeds.get(ordinal, "")
        if deed.startswith("once ") and _once(task, ordinal):
            DEEDS[deed.removeprefix("once ")]()
        elif deed in DEEDS:
            DEEDS[deed]()
        return deed

    def _finish(self, batch: list[str]) -> None:
        self.report.batch()
        for deed in batch:
            if deed.startswith("batch "):
                DEEDS[deed.removeprefix("batch ")]()
        batch.clear()
        self.report.between()


def start(report: Report) -> ToyWork:
    return ToyWork(report)


def start_that_dies(report: Report) -> ToyWork:
    os.abort()


def start_that_raises(report: Report) -> ToyWork:
    raise UserError("the model", "is not there", "Install it.")
