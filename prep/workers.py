"""Tasks in processes: the one way that this floor uses more than one core.

A task's result depends on the task alone, so neither the number of workers nor their order decides a byte. Each worker
process has a thread here that supervises it (`prep.poison`): one that dies is replaced, and the item that kills it
becomes a reject. Workers leave when the program does, however that ends.
"""

import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from prep.poison import Supervisor
from prep.progress import Bar
from prep.work import Fault, Report, Slot, Start, Work, WorkerLimits
from prep.worker_process import pickled_start
from prep.worker_watch import Stopped

__all__ = ["Fault", "Report", "Start", "Work", "WorkerLimits", "run_tasks"]

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.2


class Tally:
    """The progress bar of what all workers have done together. items: what is counted, such as "pairs"."""

    def __init__(self, progress: Bar, items: str) -> None:
        self._progress, self._items, self._began, self._shown = progress, items, perf_counter(), 0

    def show(self, num_items: int, amount: int) -> None:
        """Show what has been done since the beginning: items, and what the bar measures."""
        self._progress.advance(amount - self._shown)
        self._shown = amount
        self._progress.describe(f"{num_items / (perf_counter() - self._began):,.0f} {self._items}/s")


@dataclass(frozen=True, slots=True)
class _Result(Generic[R]):
    value: R


class _Pool(Generic[T, R]):
    """Threads, each with a worker process of its own, that take tasks until there are none left."""

    def __init__(self, started: bytes, tasks: Sequence[T], num_workers: int, limits: WorkerLimits) -> None:
        self._todo: queue.SimpleQueue[T] = queue.SimpleQueue()
        for task in tasks:
            self._todo.put(task)
        self.outcomes: queue.SimpleQueue[_Result[R] | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.supervisors = [Supervisor[T, R](started, limits, self._stop.is_set) for _ in range(num_workers)]
        self._threads = [threading.Thread(target=self._drive, args=(s,), daemon=True) for s in self.supervisors]
        for thread in self._threads:
            thread.start()

    def _drive(self, supervisor: Supervisor[T, R]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with closing(supervisor), suppress(queue.Empty, Stopped):
                while not self._stop.is_set():
                    self.outcomes.put(_Result(supervisor.perform(self._todo.get_nowait())))
        except BaseException as error:  # raised again where the results are awaited
            self.outcomes.put(error)

    def close(self) -> None:
        """Stop at once and end the processes."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _supervised(
    start: Start[T, R], tasks: Sequence[T], num_workers: int, tally: Tally, limits: WorkerLimits
) -> Iterator[R]:
    with closing(_Pool[T, R](pickled_start(start), tasks, num_workers, limits)) as pool:
        num_left = len(tasks)
        while num_left:
            outcome = None
            with suppress(queue.Empty):
                outcome = pool.outcomes.get(timeout=_POLL_SECONDS)
            items, amounts = zip(*(supervisor.counts for supervisor in pool.supervisors), strict=True)
            tally.show(sum(items), sum(amounts))
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                num_left -= 1
                yield outcome.value


class _DirectReport(Report):
    """For work in this process: shows what is done as it is."""

    def __init__(self, tally: Tally) -> None:
        super().__init__([0] * len(Slot))
        self._tally = tally

    def done(self, items: int, amount: int) -> None:
        """See `Report`."""
        super().done(items, amount)
        self._tally.show(self._slots[Slot.ITEMS], self._slots[Slot.AMOUNT])


def run_tasks(
    start: Start[T, R],
    tasks: Sequence[T],
    num_workers: int,
    progress: Bar,
    items: str,
    limits: WorkerLimits = WorkerLimits(),  # noqa: B008  (frozen)
) -> Iterator[R]:
    """Do every task, yielding results as they come, in no promised order. items: what is counted, such as "pairs".

    Without `limits.supervise` everything happens in this process, one task after another. Raises whatever a task
    raises, and `UserError` when a task goes on killing its worker and no item is at fault.
    """
    tally = Tally(progress, items)
    if limits.supervise:
        yield from _supervised(start, tasks, min(num_workers, len(tasks)), tally, limits)
    elif tasks:
        work = start(_DirectReport(tally))
        for task in tasks:
            yield work.do(task, {})
