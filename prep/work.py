"""What a worker process does, as its supervisor sees it: work on numbered items, faults to step around, and limits.

A worker says where it is in a few integers of memory that it shares with its supervisor (`Report`). They outlive it:
after a death the item that was under way is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

from prep.pairs import Reason

T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item cannot be worked on: what its reject will say. It depends on the item alone: no pids, no times."""

    reason: Reason
    detail: str


class Phase(IntEnum):
    """What a worker is at: an item, a batch of the items before, or anything else (reading, writing)."""

    OUTSIDE = 0
    ITEM = 1
    BATCH = 2


class Slot(IntEnum):
    """The places in the shared memory, 64-bit integers. STEP changes whenever the worker gets on."""

    STEP = 0
    PHASE = 1
    ORDINAL = 2
    ITEMS = 3
    AMOUNT = 4


class Report:
    """Where a worker is and how much it has done. Costs a microsecond or two a call."""

    def __init__(self, slots: "memoryview[int] | list[int]") -> None:
        self._slots = slots

    def begin(self, ordinal: int) -> None:
        """An item, by its place in its source, is about to be touched. The time until the next call is limited."""
        self._slots[Slot.ORDINAL] = ordinal
        self._enter(Phase.ITEM)

    def batch(self) -> None:
        """Something is about to be computed for a batch of the items begun so far, such as tags. Limited as well."""
        self._enter(Phase.BATCH)

    def between(self) -> None:
        """Neither: files and networks are at work, which may take their time."""
        self._enter(Phase.OUTSIDE)

    def done(self, items: int, amount: int) -> None:
        """So much has been done since the last call; the amount is what the progress bar measures."""
        self._slots[Slot.ITEMS] += items
        self._slots[Slot.AMOUNT] += amount
        self._enter(Phase.OUTSIDE)

    def _enter(self, phase: Phase) -> None:
        self._slots[Slot.PHASE] = phase
        self._slots[Slot.STEP] += 1


class Work(Protocol[T_contra, R_co]):
    """What a worker does with tasks.

    Both methods let `MemoryError` out: whether an item is too large for any worker is its supervisor's to find out.
    """

    def do(self, task: T_contra, faults: Mapping[int, Fault]) -> R_co:
        """Do a task. Items whose ordinal is in `faults` are not touched but rejected, with the fault's reason.

        Tasks are idempotent: one that was cut short anywhere is done again from its beginning.
        """
        ...

    def try_items(self, task: T_contra, first: int, last: int, faults: Mapping[int, Fault]) -> None:
        """Do to the items first to last, by ordinal, both inclusive, what `do` does to them, and write nothing.

        `last` may lie beyond the task's last item. What `do` does to a batch at once is done here too: batch by batch,
        and to what is left at the end.
        """
        ...


Start = Callable[[Report], Work[T_contra, R_co]]
"""Called once in each worker process, where models are loaded. Must be picklable."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker process may use.

    memory_bytes: private memory, resident or swapped out (None: no limit). item_seconds: for one item (None: no limit).
    batch_seconds: for what is computed on a batch at once. max_deaths: so many deaths without an explanation, in one
    task, stop everything. supervise: False does the work in this very process, where a debugger sees it, without
    limits and without surviving a crash.
    """

    memory_bytes: int | None = 1 << 30
    item_seconds: float | None = 60.0
    batch_seconds: float | None = 300.0
    max_deaths: int = 30
    supervise: bool = True
