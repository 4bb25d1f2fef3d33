"""A worker process as its owner sees it: requests, answers, limits, and how it died.

Process and owner share a pipe and a few integers of memory, neither of which has a name in the file system.
"""

import mmap
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from time import monotonic

from prep.pairs import Reason
from prep.work import Fault, Phase, Slot, WorkerLimits
from prep.worker_process import TERMINATED, Answer, OutOfMemory, private_bytes

_POLL_SECONDS = 0.05
_LEAVE_SECONDS = 2.0
# What a program does to itself. Any other signal may have come from somebody else.
_OWN_FAULT = {getattr(signal, f"SIG{name}") for name in ("SEGV", "ABRT", "BUS", "FPE", "ILL", "SYS", "TRAP")}


def _least(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)


class Stopped(Exception):
    """The owner was told to stop while it waited."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended instead of answering.

    is_stray: it may have been somebody else's doing, by a signal that anyone can send. phase, ordinal: what it was at
    (`prep.work.Phase`), and the last item that it had begun, -1 for none.
    """

    fault: Fault
    is_stray: bool
    phase: int
    ordinal: int

    @property
    def place(self) -> tuple[int, int]:
        """Where in the task it happened."""
        return self.ordinal, self.phase


class WorkerProcess:
    """One worker process. `wait` for its start, then `request` and `wait` in turns, then `close`.

    The thread that makes it must outlive it, for the kernel ends the process with that thread.
    """

    def __init__(self, started: bytes, limits: WorkerLimits) -> None:
        """started: from `prep.worker_process.pickled_start`."""
        self._limits, self._is_ready = limits, False
        self._connection, theirs = Pipe()
        slots_fd = os.memfd_create("worker")
        os.ftruncate(slots_fd, mmap.PAGESIZE)
        self._slots = memoryview(mmap.mmap(slots_fd, mmap.PAGESIZE)).cast("q")
        self._slots[Slot.ORDINAL] = -1
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from prep.worker_process import serve; serve({theirs.fileno()}, {slots_fd}, {os.getpid()})"
        )
        # Ctrl-C stays blocked until the worker ignores it, or it would print a traceback while it starts.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), slots_fd)
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
            os.close(slots_fd)
        self._send((started, limits.memory_bytes))

    @property
    def counts(self) -> tuple[int, int]:
        """(items, amount) that it has reported since it started."""
        return self._slots[Slot.ITEMS], self._slots[Slot.AMOUNT]

    def request(self, method: str, *arguments: object) -> None:
        """Have a method of the work called."""
        self._slots[Slot.PHASE], self._slots[Slot.ORDINAL] = Phase.OUTSIDE, -1
        self._send((method, arguments))

    def _send(self, message: object) -> None:
        with suppress(ConnectionError):  # it is dead already: `wait` will tell
            self._connection.send_bytes(pickle.dumps(message))

    def wait(self, is_stopped: Callable[[], bool], batch_seconds: float | None = None) -> Answer | Death:
        """Wait for the answer to the start or the last request, and hold the process to its limits meanwhile.

        batch_seconds: in place of the limits', if it is less. Raises `Stopped` as soon as `is_stopped()`.
        """
        seconds: dict[int, float | None] = {
            Phase.ITEM: self._limits.item_seconds,
            Phase.BATCH: _least(batch_seconds, self._limits.batch_seconds),
        }
        step, still, last = -1, 0.0, monotonic()
        while not self._connection.poll(_POLL_SECONDS):
            if is_stopped():
                raise Stopped
            # Time in which this process too stood still (Ctrl-Z, a machine asleep) does not count.
            now, before = monotonic(), step
            step = self._slots[Slot.STEP]
            still = still + min(now - last, 1.0) if step == before else 0.0
            last = now
            allowed = seconds.get(self._slots[Slot.PHASE])
            if allowed is not None and still > allowed:
                return self._killed(Fault(Reason.WORKER_HUNG, f"took more than {allowed:g} s"))
            if self._is_ready and self._holds_too_much():
                return self._killed(self._out_of_memory())
        try:
            outcome = pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError):
            return self._after_exit()
        if isinstance(outcome, OutOfMemory):
            return self._killed(self._out_of_memory())
        assert isinstance(outcome, Answer)
        self._is_ready = True
        return outcome

    def _holds_too_much(self) -> bool:
        with suppress(OSError):  # it has just ended: the pipe will tell
            limit = self._limits.memory_bytes
            return limit is not None and private_bytes(self._process.pid)[0] > limit
        return False

    def _out_of_memory(self) -> Fault:
        limit = self._limits.memory_bytes
        return Fault(Reason.OUT_OF_MEMORY, "needed more than " + (f"{limit >> 20:,} MiB" if limit else "there is"))

    def _killed(self, fault: Fault) -> Death:
        self._process.kill()
        self._process.wait()
        return self._death(fault, is_stray=False)

    def _after_exit(self) -> Death:
        try:
            code = self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            return self._killed(Fault(Reason.WORKER_CRASHED, "closed the pipe to its owner"))
        if code >= 0:
            fault = Fault(Reason.WORKER_CRASHED, f"ended its process with exit code {code}")
            return self._death(fault, is_stray=code == TERMINATED)
        names = {number.value: number.name for number in signal.Signals}
        fault = Fault(Reason.WORKER_CRASHED, f"died of {names.get(-code, f'signal {-code}')}")
        return self._death(fault, is_stray=-code not in _OWN_FAULT)

    def _death(self, fault: Fault, is_stray: bool) -> Death:
        return Death(fault, is_stray, self._slots[Slot.PHASE], self._slots[Slot.ORDINAL])

    def close(self) -> None:
        """End the process: at once when it waits for a request, else it has a moment to clean up after itself."""
        self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
