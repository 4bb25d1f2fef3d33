"""Where tasks are done: on this machine, or on a Ray cluster. The same tasks, supervised in the same way, either way.

On Ray each task takes one CPU, and is done again elsewhere when its node is lost. A Ray worker holds one supervised
worker process (`prep.poison`) from task to task, so that models are loaded once. Without an address a Ray of this
machine alone is started, and ended. With one, this package is sent to the cluster's nodes as it is here; what it needs
(requirements.txt) must be installed there, in the same versions, and paths must mean the same on every node: a shared
file system, or URLs.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prep.errors import UserError
from prep.poison import Supervisor
from prep.progress import Bar
from prep.work import Start, WorkerLimits
from prep.worker_process import pickled_start
from prep.workers import Tally, run_tasks

T = TypeVar("T")
R = TypeVar("R")

# What our results take is a few kilobytes; Ray would set aside a third of the machine's memory.
_OBJECT_STORE_BYTES = 100 << 20

_CONNECT_SECONDS = 10.0

_held: dict[tuple[bytes, WorkerLimits], Supervisor[Any, Any]] = {}
"""In a Ray worker: the one worker process that it supervises."""


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run(
    engine: str,
    address: str | None,
    start: Start[T, R],
    tasks: Sequence[T],
    num_workers: int | None,
    progress: Bar,
    items: str,
    limits: WorkerLimits,
) -> Iterator[R]:
    """Do every task, yielding results as they come, in no promised order.

    engine: "local" or "ray". address: of a Ray cluster, such as "auto" or "10.0.0.1:6379"; None starts a Ray here.
    num_workers: tasks at a time (None: one a core, of this machine or the cluster). items: see `run_tasks`.

    Raises what a task raises, and `UserError` when a task goes on killing its worker, Ray is not installed or not to
    be reached.
    """
    if engine == "local":
        yield from run_tasks(start, tasks, num_workers or num_cores(), progress, items, limits)
    elif tasks:
        with _connected(address, num_workers) as ray:
            yield from _on_ray(ray, pickled_start(start), tasks, num_workers, Tally(progress, items), limits)


@contextmanager
def _connected(address: str | None, num_workers: int | None) -> Iterator[Any]:
    """The `ray` module, connected; one that the caller has connected already is used and left as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns that it will be so one day
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--engine ray", "Ray is not installed", "pip install 'ray[data]>=2.50', or use --engine local."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"num_cpus": num_workers or num_cores(), "include_dashboard": False}
        options |= {"object_store_memory": _OBJECT_STORE_BYTES}
    else:
        _check_reachable(address)
        options["runtime_env"] = {"py_modules": [str(Path(__file__).parent)]}
    try:
        try:
            ray.init(address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _unreachable(address or "local", error) from error
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise `UserError` when nobody listens at host:port; Ray itself would go on trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> UserError:
    return UserError(f"--ray-address {address}", f"Ray does not answer: {error}", "See `ray status` on that machine.")


def _on_ray(
    ray: Any, started: bytes, tasks: Sequence[T], num_workers: int | None, tally: Tally, limits: WorkerLimits
) -> Iterator[R]:
    remote = ray.remote(num_cpus=1, max_retries=-1)(_perform)
    todo, pending = iter(tasks), list[Any]()
    num_items = amount = 0
    try:
        while True:
            # Twice the cores: none waits for the next task. Nodes may come and go, so they are counted each time.
            at_a_time = num_workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            for _, task in zip(range(at_a_time - len(pending)), todo, strict=False):
                pending.append(remote.remote(started, limits, task))
            if not pending:
                return
            ready, pending = ray.wait(pending)
            for reference in ready:
                result, more_items, more = _value(ray, reference)
                num_items, amount = num_items + more_items, amount + more
                tally.show(num_items, amount)
                yield result
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _value(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise UserError("Ray", f"lost a task for good: {error}", "Run the same command again.") from error


def _perform(started: bytes, limits: WorkerLimits, task: T) -> tuple[Any, int, int]:
    """In a Ray worker: (result, items, amount) of a task."""
    supervisor = _held.get((started, limits))
    if supervisor is None:
        for other in _held.values():
            other.close()
        _held.clear()
        supervisor = _held[started, limits] = Supervisor(started, limits)
    items, amount = supervisor.counts
    result = supervisor.perform(task)
    return result, supervisor.counts[0] - items, supervisor.counts[1] - amount
