"""Workers as the operating system sees them: killed at random, orphaned, stopped by Ctrl-C; none stays, nothing leaks.

SHORTCLIP_KILLS sets how many workers are killed at random instants (default 10).
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from prep.progress import Bar, bar
from prep.work import Fault, Report, WorkerLimits
from prep.workers import run_tasks

from .toy_work import Toy, start

NUM_KILLS = int(os.environ.get("SHORTCLIP_KILLS", "10"))
ROOT = Path(__file__).parents[1]

PROGRAM = """
import sys
from pathlib import Path
from prep.errors import run_main
from prep.progress import bar
from prep.workers import run_tasks
from tests.toy_work import Toy, start
def main():
    tasks = [Toy(str(i), 9, {5: sys.argv[2]}, Path(sys.argv[1])) for i in range(2)]
    with bar(None, "working", "items") as progress:
        list(run_tasks(start, tasks, 2, progress, "items"))
run_main(main)
"""


@pytest.fixture
def progress() -> Iterator[Bar]:
    with bar(None, "working", "items") as shown:
        yield shown


def children() -> list[int]:
    """The processes that the threads of this one have started."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            found += [int(pid) for pid in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 30 s")


@contextmanager
def killing_children(num_kills: int) -> Iterator[Callable[[], int]]:
    """Kill children of this process at random instants; gives what tells how many have been killed so far."""
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        chance = random.Random(1)
        while len(killed) < num_kills and not is_over.wait(chance.uniform(0, 0.25)):
            if victims := children():
                killed.append(chance.choice(victims))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield lambda: len(killed)
    finally:
        is_over.set()
        thread.join()


def test_workers_killed_at_random_instants_change_nothing(progress: Bar) -> None:
    tasks = [Toy(str(number), 30, dict.fromkeys(range(30), "nap") | {11: "exit"}) for number in range(4)]
    rejected = "worker_crashed: ended its process with exit code 3"
    expected = {task.name: ["kept"] * 11 + [rejected] + ["kept"] * 18 for task in tasks}
    limits = WorkerLimits(max_deaths=1000 + NUM_KILLS)
    with killing_children(NUM_KILLS) as num_killed:
        while num_killed() < NUM_KILLS:
            assert dict(run_tasks(start, tasks, 2, progress, "items", limits)) == expected


@contextmanager
def program(folder: Path, deed: str) -> Iterator["subprocess.Popen[str]"]:
    """A program whose two workers have come to their sixth item; afterwards none of its processes is left."""
    command = [sys.executable, "-c", PROGRAM, str(folder), deed]
    started = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(list(folder.glob("*.tmp"))) == 2)
    time.sleep(0.1)
    yield started

    def is_gone() -> bool:
        try:
            os.killpg(started.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(is_gone)


@pytest.mark.parametrize("deed", ["hang", "hang for good"])
def test_workers_leave_when_the_program_is_killed(deed: str, tmp_path: Path) -> None:
    with program(tmp_path, deed) as started:
        started.kill()
        started.communicate()


def test_ctrl_c_stops_everything_with_one_message_and_nothing_half_written(tmp_path: Path, ctrl_c: None) -> None:
    with program(tmp_path, "hang") as started:
        os.killpg(started.pid, signal.SIGINT)
        _, said = started.communicate()
    assert (started.returncode, said.strip()) == (130, "stopped by Ctrl-C. The same command goes on where it left off.")
    assert not list(tmp_path.iterdir())


def test_results_that_are_not_awaited_stop_the_workers(tmp_path: Path, progress: Bar) -> None:
    open_files, others = len(os.listdir("/proc/self/fd")), set(children())  # others: of tests before this one
    shared = set(os.listdir("/dev/shm"))
    results = run_tasks(start, [Toy("a", 1), Toy("b", 9, {5: "hang"}, tmp_path)], 2, progress, "items")
    assert next(results) == ("a", ["kept"])
    wait_until(lambda: any(tmp_path.iterdir()))
    results.close()  # type: ignore[attr-defined]
    assert set(children()) <= others
    assert not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) == open_files
    assert set(os.listdir("/dev/shm")) == shared


class Where:
    """Work that tells where it is done."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def do(self, task: int, faults: Mapping[int, Fault]) -> int:
        self.report.done(1, task)
        return os.getpid()

    def try_items(self, task: int, first: int, last: int, faults: Mapping[int, Fault]) -> None:
        raise AssertionError("nobody died")


class Counted(Bar):
    def __init__(self) -> None:
        self.amount, self.text = 0.0, ""

    def advance(self, n: float = 1) -> None:
        self.amount += n

    def describe(self, text: str) -> None:
        self.text = text


@pytest.mark.parametrize("is_supervised", [True, False])
def test_where_the_work_is_done_and_what_the_bar_shows(is_supervised: bool) -> None:
    shown = Counted()
    limits = WorkerLimits(supervise=is_supervised)
    pids = list(run_tasks(Where, [1, 20, 300], 1, shown, "things", limits))
    assert len(set(pids)) == 1
    assert (pids[0] != os.getpid()) == is_supervised
    assert shown.amount == 321
    assert shown.text.endswith("things/s")
    assert not list(run_tasks(Where, [], 1, shown, "things", limits))


def test_the_bar_does_not_count_what_a_dead_worker_had_done(tmp_path: Path) -> None:
    shown = Counted()
    list(run_tasks(start, [Toy("a", 9, {5: "once kill"}, tmp_path)], 1, shown, "items"))
    assert shown.amount == 90
