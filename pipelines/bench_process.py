"""A subject of `pipelines.bench` in a process of its own: pinned, asked to work in turns, idle in between.

What is compared on a noisy machine must alternate; so all subjects are there at once, and each is told when to run.
"""

import gc
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from prep.errors import UserError

_PATIENCE = 10.0
"""Seconds that a process has to end by itself."""


class NotRunError(Exception):
    """A subject that cannot be measured; says why."""


class Subject:
    """`make(*setup)` in another process; a context manager. Raises `NotRunError` when it cannot be made.

    make: importable by name. cores: it, and all that it starts, runs on these alone.
    """

    def __init__(self, make: Callable[..., object], setup: Sequence[object], cores: Sequence[int]) -> None:
        # Forked from a server that has loaded torch and nothing else: no threads, and no seconds for each import.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pipelines.bench_process"])
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, tuple(setup), tuple(cores)))
        self._process.start()
        there.close()
        try:
            self._answer()
        except NotRunError:
            self.close()
            raise

    def __enter__(self) -> "Subject":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, method: str, *arguments: object) -> Any:
        """What the subject's method returns. Raises `NotRunError` when it raises, or its process has died."""
        try:
            self._connection.send((method, arguments))
        except OSError as error:
            raise NotRunError(self._death()) from error
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self) -> Any:
        try:
            reason, result = self._connection.recv()
        except (EOFError, OSError) as error:
            raise NotRunError(self._death()) from error
        if reason is not None:
            raise NotRunError(reason)
        return result

    def _death(self) -> str:
        self._process.join(_PATIENCE)
        return f"its process ended with code {self._process.exitcode}"


def _serve(
    connection: Connection, make: Callable[..., object], setup: tuple[object, ...], cores: tuple[int, ...]
) -> None:
    os.sched_setaffinity(0, cores)
    # The loaders bring their own threads; OpenMP's would spin beside them.
    torch.set_num_threads(1)
    subject: object = None
    try:
        subject = _attempt(connection, make, setup)
        while subject is not None:
            method, arguments = connection.recv()
            _attempt(connection, getattr(subject, method), arguments, answers=True)
    except (EOFError, OSError):
        pass  # who asked is gone: that is how it ends
    # Iterators end their threads and workers; whatever stays is killed after a while.
    del subject
    gc.collect()


def _attempt(
    connection: Connection, function: Callable[..., object], arguments: tuple[object, ...], answers: bool = False
) -> object:
    """Call it and send (why not, what it returned, where that is an answer); returns what it returned."""
    try:
        result = function(*arguments)
    except UserError as error:
        connection.send((f"{error.problem}. {error.remedy}", None))
    except Exception as error:  # the peers are other people's code: whatever stops them becomes a row of the table
        traceback.print_exc()
        connection.send((f"{type(error).__name__}: {error}".splitlines()[0], None))
    else:
        connection.send((None, result if answers else None))
        return result
    return None
