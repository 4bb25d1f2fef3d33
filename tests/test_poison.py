"""Items that kill, hang or starve the process that works on them, and what becomes of the others."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from prep.errors import UserError
from prep.progress import bar
from prep.work import Start, WorkerLimits
from prep.workers import run_tasks

from .toy_work import Toy, start, start_that_dies, start_that_raises

LIMITS = WorkerLimits(memory_bytes=128 << 20, max_deaths=5)
IMPATIENT = replace(LIMITS, item_seconds=0.5, batch_seconds=0.5)

Results = dict[str, list[str]]


def run(
    *tasks: Toy, num_workers: int = 1, limits: WorkerLimits = LIMITS, begin: Start[Toy, tuple[str, list[str]]] = start
) -> Results:
    with bar(None, "working", "items") as progress:
        return dict(run_tasks(begin, tasks, num_workers, progress, "items", limits))


def kept(num_items: int, **rejected: str) -> list[str]:
    return [rejected.get(f"at_{i}", "kept") for i in range(num_items)]


CRASHED, HUNG, STARVED = "worker_crashed", "worker_hung", "out_of_memory"


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("kill", f"{CRASHED}: died of SIGKILL"),
        ("segfault", f"{CRASHED}: died of SIGSEGV"),
        ("abort", f"{CRASHED}: died of SIGABRT"),
        ("exit", f"{CRASHED}: ended its process with exit code 3"),
        ("hang", f"{HUNG}: took more than 0.5 s"),
        ("hang for good", f"{HUNG}: took more than 0.5 s"),
        ("eat", f"{STARVED}: needed more than 128 MiB"),
        ("eat shared", f"{STARVED}: needed more than 128 MiB"),
        ("batch segfault", f"{CRASHED}: died of SIGSEGV"),
        ("batch hang", f"{HUNG}: took more than 0.5 s"),
    ],
)
def test_the_item_at_fault_is_named_and_all_others_are_kept(deed: str, said: str) -> None:
    # A death in a batch is noticed at its end, where the last item is suspected first: here it is that one.
    place = 7 if deed == "batch hang" else 5
    limits = IMPATIENT if "hang" in deed else LIMITS
    assert run(Toy("a", 12, {place: deed}), limits=limits)["a"] == kept(12, **{f"at_{place}": said})


def test_an_item_that_breaks_the_process_for_a_later_one_is_found() -> None:
    task = Toy("a", 40, {10: "break", 17: "crash if broken"})
    reason = f"{CRASHED}: died of SIGSEGV at a later item, and not without this one"
    assert run(task)["a"] == kept(40, at_10=reason)


def test_an_item_that_finds_the_process_broken_by_another_task_is_not_at_fault() -> None:
    assert run(Toy("a", 3, {0: "break"}), Toy("b", 3, {2: "crash if broken"})) == {"a": kept(3), "b": kept(3)}


def test_many_items_at_fault_and_any_number_of_workers() -> None:
    tasks = [
        Toy("none", 12),
        Toy("two", 12, {0: "segfault", 11: "exit"}),
        Toy("more", 12, {5: "eat", 6: "abort", 9: "segfault"}),
    ]
    one, three = run(*tasks), run(*tasks, num_workers=3)
    assert one == three
    assert {name: [i for i, what in enumerate(said) if what != "kept"] for name, said in one.items()} == {
        task.name: sorted(task.deeds) for task in tasks
    }


@pytest.mark.parametrize("deed", ["once kill", "once segfault", "once hang"])
def test_what_does_not_come_back_is_nobodys_fault(deed: str, tmp_path: Path) -> None:
    task = Toy("a", 12, dict.fromkeys((2, 7), deed), tmp_path)
    assert run(task, limits=IMPATIENT) == {"a": kept(12)}
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".tmp"} == {"a-2", "a-7"}


def test_memory_that_piles_up_is_no_items_fault() -> None:
    with pytest.raises(UserError, match=r"toy a: .* needed more than 128 MiB, twice, and no item needs.*") as caught:
        run(Toy("a", 12, dict.fromkeys(range(12), "eat a little")))
    assert "more --worker-memory" in caught.value.remedy


def test_deaths_that_are_no_items_doing_end_in_a_message() -> None:
    with pytest.raises(UserError, match="toy b: the worker process died of SIGKILL, 5 times, and no item") as caught:
        run(Toy("b", 3, {-1: "kill"}))
    assert "fewer --workers" in caught.value.remedy
    with pytest.raises(UserError, match="toy b: the worker process died of SIGABRT, twice, before its first item"):
        run(Toy("b", 3, {-1: "abort"}))
    with pytest.raises(UserError, match="starting a worker: the worker process died of SIGABRT, again and again"):
        run(Toy("c", 3), begin=start_that_dies)


def test_a_limit_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"holds \d+ MiB before its first item, of 8 MiB"):
        run(Toy("a", 3), limits=WorkerLimits(memory_bytes=8 << 20))


def test_what_the_work_raises_is_raised_here() -> None:
    tasks = [Toy("a", 5), Toy("b", 5, {3: "disk full"})]
    with pytest.raises(OSError, match="No space left") as caught:
        run(*tasks, num_workers=2)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/there/file")
    assert any("toy_work.py" in note for note in caught.value.__notes__)
    with pytest.raises(UserError, match="the place: the problem\n  the remedy"):
        run(Toy("a", 5, {3: "mistake"}))
    with pytest.raises(UserError, match="the model: is not there"):
        run(*tasks, begin=start_that_raises)
    with pytest.raises(RuntimeError, match=r"Unpicklable: 1 and 2"):
        run(Toy("a", 5, {3: "unpicklable"}))
