"""Tasks done by a worker process that may die at any time: the item at fault is found, and becomes a reject.

A death that somebody else may have caused (SIGKILL) is forgiven at first: the task is done again. After one of the
work's own doing (SIGSEGV, a hang, too much memory), or a second one at the same item, that item is tried alone in a
fresh process. If that dies too, the item is at fault, and the task is done again without it. If it does not, and the
death comes back, an earlier item may have left something broken behind: ever longer runs of items up to this one are
tried, then bisected to the latest item that a run must begin with to die. So the items found at fault, and what their
rejects say, depend on the task and not on what else the worker did or suffered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from prep.errors import UserError
from prep.pairs import Reason
from prep.work import Fault, WorkerLimits
from prep.worker_process import Answer
from prep.worker_watch import Death, WorkerProcess

T = TypeVar("T")
R = TypeVar("R")

# Runs of items that end at the place of a death. The longest is two batches of a store.
_RUN_LENGTHS = (4, 16, 64, 256, 1024, 2048)
# So often in a row must an item die alone of a signal that somebody else may have sent.
_STRAY_DEATHS = 3
# Starting is no item's business: what dies so often of its own doing will go on to.
_START_DEATHS = 3
_TO_THE_END = 1 << 62

_AGAIN = (
    "What is finished is kept: run the same command again, with fewer --workers if memory is short. If it stops here "
    "every time, leave this input out."
)
_MORE_MEMORY = "What is finished is kept: run the same command again, with more --worker-memory."


@dataclass
class _Case:
    """What is known about a task that fails. deaths: since the last fault was found; alone: items that survive so."""

    task: object
    faults: dict[int, Fault] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)
    alone: set[int] = field(default_factory=set)

    def found(self, ordinal: int, fault: Fault) -> int:
        """Note an item at fault, and begin to count anew."""
        assert ordinal not in self.faults, f"{self.task}: item {ordinal} was touched again, though it is at fault"
        self.faults[ordinal] = fault
        self.deaths.clear()
        self.alone.clear()
        return ordinal


class Supervisor(Generic[T, R]):
    """Does tasks, one at a time, in one worker process, which is replaced when it dies.

    Use it from one thread only, which must outlive it.
    """

    def __init__(self, started: bytes, limits: WorkerLimits, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """started: from `prep.worker_process.pickled_start`. Once `is_stopped()`, `perform` raises `Stopped`."""
        self._started, self._limits, self._is_stopped = started, limits, is_stopped
        self._process: WorkerProcess | None = None
        self._finished, self._base, self._is_doing = (0, 0), (0, 0), False

    @property
    def counts(self) -> tuple[int, int]:
        """(Items, amount) of finished tasks and the one under way. Falls when that has to begin again."""
        (items, amount), process = self._finished, self._process
        if self._is_doing and process is not None:
            items += process.counts[0] - self._base[0]
            amount += process.counts[1] - self._base[1]
        return items, amount

    def perform(self, task: T) -> R:
        """Do a task, whatever happens to the process.

        Raises whatever the work raises, and `UserError` when the task goes on failing and no item is at fault.
        """
        case = _Case(task)
        ahead: int | None = None
        while True:
            if ahead is None:
                outcome = self._do(task, case.faults)
            else:
                outcome = self._ask("try_items", task, ahead, _TO_THE_END, case.faults)
            if isinstance(outcome, Death):
                case.deaths.append(outcome)
                ordinal = self._culprit(case)
                # Where two items were at fault there may be many: look at the rest before beginning anew.
                if ordinal is not None and len(case.faults) > 1:
                    ahead = ordinal + 1
            elif ahead is None:
                return cast(R, outcome)
            else:
                ahead = None

    def _culprit(self, case: _Case) -> int | None:
        """Find the item at fault for the last death, and note it; None: do it all again and see."""
        death = case.deaths[-1]
        if len(case.deaths) >= self._limits.max_deaths:
            raise self._given_up(case.task, death, f"{len(case.deaths)} times, and no item could be found that does it")
        is_again = any(death.place == earlier.place for earlier in case.deaths[:-1])
        if death.is_stray and (death.ordinal < 0 or not is_again):
            return None
        if death.ordinal < 0:
            if is_again:
                raise self._given_up(case.task, death, "twice, before its first item")
            return None
        if death.ordinal not in case.alone:
            if fault := self._dies(case, death.ordinal, death.ordinal):
                return case.found(death.ordinal, fault)
            case.alone.add(death.ordinal)
        if death.is_stray or not is_again:
            return None
        if death.fault.reason is Reason.OUT_OF_MEMORY:  # what piles up is no single item's fault
            raise self._given_up(case.task, death, "twice, and no item needs as much alone", _MORE_MEMORY)
        found = self._earlier(case, death.ordinal)
        if found is None:
            raise self._given_up(case.task, death, "twice, and no item could be found that does it")
        ordinal, fault = found
        alone = self._dies(case, ordinal, ordinal)  # as what kills a whole batch does
        later = Fault(fault.reason, f"{fault.detail} at a later item, and not without this one")
        return case.found(ordinal, alone or later)

    def _earlier(self, case: _Case, last: int) -> tuple[int, Fault] | None:
        """The latest item such that the run from it to `last` dies. From `last` itself it does not."""
        survives = first = last
        fault: Fault | None = None
        for length in _RUN_LENGTHS:
            first = max(0, last - length + 1)
            if first == survives or (fault := self._dies(case, first, last)):
                break
            survives = first
        if fault is None:
            return None
        while survives - first > 1:
            middle = (first + survives) // 2
            if found := self._dies(case, middle, last):
                first, fault = middle, found
            else:
                survives = middle
        return first, fault

    def _dies(self, case: _Case, first: int, last: int) -> Fault | None:
        """How a fresh process dies of items first to last, or None if it does not."""
        num_strays = 0
        for _ in range(self._limits.max_deaths):
            self.close()
            outcome = self._ask("try_items", case.task, first, last, case.faults, num_items=last - first + 1)
            self.close()
            if not isinstance(outcome, Death):
                return None
            if first <= outcome.ordinal <= last:
                num_strays += outcome.is_stray
                if not outcome.is_stray or (first == last and num_strays == _STRAY_DEATHS):
                    return outcome.fault
        assert isinstance(outcome, Death)
        raise self._given_up(case.task, outcome, f"{self._limits.max_deaths} times")

    def _do(self, task: T, faults: dict[int, Fault]) -> object:
        process = self._ready()
        self._base, self._is_doing = process.counts, True
        outcome = self._ask("do", task, faults)
        finished = self.counts
        self._is_doing = False
        if not isinstance(outcome, Death):
            self._finished = finished
        return outcome

    def _ask(self, method: str, *arguments: object, num_items: int | None = None) -> object:
        """What a request returned, or the process's death. Raises what the request raised."""
        process = self._ready()
        process.request(method, *arguments)
        return self._outcome(process, num_items)

    def _ready(self) -> WorkerProcess:
        """The process, started if need be."""
        num_own, death = 0, None
        for _ in range(self._limits.max_deaths):
            if self._process is not None:
                return self._process
            self._process = WorkerProcess(self._started, self._limits)
            outcome = self._outcome(self._process)
            if isinstance(outcome, Death):
                death, num_own = outcome, num_own + (not outcome.is_stray)
            if num_own == _START_DEATHS:
                break
        assert death is not None
        raise self._given_up("starting a worker", death, "again and again")

    def _outcome(self, process: WorkerProcess, num_items: int | None = None) -> Any:
        item_seconds = self._limits.item_seconds
        few = None if num_items is None or item_seconds is None else num_items * item_seconds
        outcome = process.wait(self._is_stopped, few)
        if isinstance(outcome, Death):
            self._process = None
            return outcome
        assert isinstance(outcome, Answer)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _given_up(self, place: object, death: Death, how_often: str, remedy: str = "") -> UserError:
        return UserError(str(place), f"the worker process {death.fault.detail}, {how_often}", remedy or _AGAIN)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None
