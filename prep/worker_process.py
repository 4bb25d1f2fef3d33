"""The life of one worker process: start, then one request after another, until its owner closes the pipe between them.

It leaves when its owner does, however that ends. It ignores Ctrl-C: its owner hears that, and ends it with SIGTERM.
The owner's end is `prep.worker_watch`.
"""

import ctypes
import importlib
import mmap
import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import sleep
from typing import Any, NoReturn

from prep.errors import UserError
from prep.image_limits import is_out_of_memory
from prep.work import Report

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a worker that was told to leave, as a shell says it."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Between what a worker may allocate and what it is killed for, so that MemoryError comes first.
_SLACK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to. error: what was raised instead."""

    value: object = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Sent in place of an `Answer`: an allocation failed. The process is alive, but what state it is in is a guess."""


def pickled_start(start: Callable[..., object]) -> bytes:
    """What a worker process needs to make its work, here or on another machine."""
    main_spec = sys.modules["__main__"].__spec__ if start.__module__ == "__main__" else None
    return pickle.dumps((main_spec.name if main_spec else None, pickle.dumps(start)))


def private_bytes(pid: int | str) -> tuple[int, int]:
    """(Memory that only this process uses, resident or swapped out; all that it has asked for, touched or not.)"""
    with open(f"/proc/{pid}/status", "rb") as file:
        found = {line.split(b":")[0]: line.split()[1] for line in file if line.endswith(b"kB\n")}
    private = sum(int(found.get(name, 0)) for name in (b"RssAnon", b"RssShmem", b"VmSwap"))
    return private << 10, int(found.get(b"VmData", 0)) << 10


def serve(connection_fd: int, slots_fd: int, owner: int) -> NoReturn:
    """Work for the process `owner`, over a pipe and the memory of `prep.work.Slot`. Does not return."""
    _leave_with(owner)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    connection = Connection(connection_fd)
    slots = memoryview(mmap.mmap(slots_fd, mmap.PAGESIZE)).cast("q")
    work: Any = None

    def start(message: bytes) -> None:
        nonlocal work
        pickled, memory_bytes = pickle.loads(message)
        main_name, pickled = pickle.loads(pickled)
        if main_name is not None:  # what the program itself defines was pickled as `__main__.x`
            sys.modules["__main__"] = importlib.import_module(main_name)
        work = pickle.loads(pickled)(Report(slots))
        if memory_bytes is not None:
            _limit_memory(memory_bytes)
        # From now on there may be half-written files, which `finally` removes.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))

    def answer(message: bytes) -> object:
        name, arguments = pickle.loads(message)
        return getattr(work, name)(*arguments)

    try:
        connection.send_bytes(_outcome(start, connection.recv_bytes()))
        while True:
            connection.send_bytes(_outcome(answer, connection.recv_bytes()))
    except EOFError:
        os._exit(0)
    except (SystemExit, ConnectionError):
        os._exit(TERMINATED)


def _leave_with(owner: int) -> None:
    """Have the kernel end this process with the thread that started it; and look ourselves, should it not."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    def look() -> None:
        while os.getppid() == owner:
            sleep(1)
        os._exit(TERMINATED)

    threading.Thread(target=look, daemon=True).start()


def _limit_memory(memory_bytes: int) -> None:
    """Let allocations fail once this process holds `memory_bytes` in all."""
    private, data = private_bytes("self")
    left = memory_bytes - private - _SLACK_BYTES
    if left <= 0:
        raise UserError(
            "the memory limit of a worker",
            f"it holds {private >> 20:,} MiB before its first item, of {memory_bytes >> 20:,} MiB",
            "Raise the limit.",
        )
    resource.setrlimit(resource.RLIMIT_DATA, (data + left, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _outcome(action: Callable[[bytes], object], message: bytes) -> bytes:
    """What came of an action, pickled."""
    try:
        return pickle.dumps(Answer(action(message)))
    except Exception as error:
        return pickle.dumps(OutOfMemory()) if is_out_of_memory(error) else _pickled_error(error)


def _pickled_error(error: Exception) -> bytes:
    error.add_note(f"raised in a worker process:\n{traceback.format_exc()}")
    try:
        pickled = pickle.dumps(Answer(error=error))
        pickle.loads(pickled)
        return pickled
    except Exception:  # not every exception survives pickling
        return pickle.dumps(Answer(error=RuntimeError("".join(traceback.format_exception(error)))))
