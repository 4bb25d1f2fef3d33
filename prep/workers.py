"""Tasks in processes: the one way that this floor uses more than one core.

A task's result depends on the task alone, so neither the number of workers nor their order decides a byte. Workers
leave when the program does, however that ends; one that dies stops the program with a message.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from time import perf_counter
from typing import Any, TypeVar

from prep.errors import UserError
from prep.progress import Bar

T = TypeVar("T")
R = TypeVar("R")

Report = Callable[[int, int], None]
"""Called with (items done, amount done) since the last call; the amount is what the progress bar measures."""

Start = Callable[[Report], Callable[[T], R]]
"""Called once in each worker, where models are loaded; returns the function that does a task. Must be picklable."""

_POLL_SECONDS = 0.2

_do: Callable[[Any], Any] | None = None


def _start_worker(start: "Start[T, R]", num_items: "Synchronized[int]", amount: "Synchronized[int]") -> None:
    global _do
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    def report(items: int, size: int) -> None:
        with amount.get_lock():
            num_items.value += items
            amount.value += size

    threading.Thread(target=leave_with_parent, daemon=True).start()
    _do = start(report)


def _work(task: T) -> Any:
    assert _do is not None
    return _do(task)


def _in_processes(start: "Start[T, R]", tasks: Sequence[T], num_workers: int, progress: Bar, items: str) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")
    num_items, amount, seen = context.Value("q", 0), context.Value("q", 0), 0
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (start, num_items, amount))
    # Read without their lock: a worker killed while it holds it must not hang this process.
    read_items, read_amount = num_items.get_obj(), amount.get_obj()
    began = perf_counter()
    try:
        # Workers start with Ctrl-C blocked until they have set their handler, or each would print a traceback.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pending: set[Future[R]] = {pool.submit(_work, task) for task in tasks}
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while pending:
            done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
            now = read_amount.value
            progress.advance(now - seen)
            seen = now
            progress.describe(f"{read_items.value / (perf_counter() - began):,.0f} {items}/s")
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process",
            "died in the middle of its work (killed, or out of memory)",
            "What is finished is kept: run the same command again, with fewer --workers if memory is short.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_tasks(start: "Start[T, R]", tasks: Sequence[T], num_workers: int, progress: Bar, items: str) -> Iterator[R]:
    """Do every task, yielding results as they come, in no promised order. items: what is counted, such as "pairs".

    With one worker everything happens in this process, where a debugger and a profiler see it. Raises `UserError`
    when a worker dies, and whatever a task raises.
    """
    if min(num_workers, len(tasks)) > 1:
        yield from _in_processes(start, tasks, min(num_workers, len(tasks)), progress, items)
    elif tasks:
        began, done = perf_counter(), 0

        def report(num: int, size: int) -> None:
            nonlocal done
            done += num
            progress.advance(size)
            progress.describe(f"{done / (perf_counter() - began):,.0f} {items}/s")

        yield from map(start(report), tasks)
