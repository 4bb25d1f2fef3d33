"""What `pipelines.bench` concludes: who waits for whom, and what would end the waiting. Pure functions of rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SHARED = 0.9
"""A trainer that keeps less than this of its own rate, beside a loader that is faster than it, lacks cores."""

_BETTER = 1.2  # an option that promises less is no remedy


@dataclass(frozen=True, slots=True)
class Option:
    """Another way to load. what: as it is said to the user. rate: img/s where it was measured, on the same cores.
    num_bytes: what it adds to the store.
    """

    what: str
    rate: float | None = None
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured img/s, above 0. needs: the trainer alone. has: the loader alone, on so many cores. both: together, where
    that was measured. options: other ways, the best liked first.
    """

    needs: float
    has: float
    cores: int
    both: float | None = None
    options: Sequence[Option] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """bound: "loader", "cores" (each alone would do) or "trainer". line: one sentence, remedy included."""

    bound: str
    line: str


def judge(rates: Rates) -> Verdict:
    """Hold the loader's rate against the trainer's. A loader's rate is taken to grow with its cores."""
    needs, has, cores = rates.needs, rates.has, rates.cores
    assert min(needs, has, cores) > 0, rates
    enough = math.ceil(needs * cores / has - 1e-9)
    if has < needs:
        remedies = [f"+{_cores(enough - cores)}", *_remedies(rates)]
        return Verdict(
            "loader", f"LOADER-BOUND: needs {needs:,.0f} img/s, has {has:,.0f} on {_cores(cores)}: {_either(remedies)}"
        )
    times = f"the loader has {has / needs:.1f} times what the trainer eats"
    if rates.both is not None and rates.both < SHARED * needs:
        remedies = [f"+{_cores(enough)}", *_remedies(rates)]
        together = f"together they reach {rates.both / needs:.0%} of it on the same {_cores(cores)}"
        return Verdict("cores", f"CORE-BOUND: alone {times}, but {together}: {_either(remedies)}")
    spare = f"; {enough} would do" if enough < cores else ""
    return Verdict("trainer", f"TRAINER-BOUND: {times}, with {_cores(cores)}{spare}")


def _remedies(rates: Rates) -> list[str]:
    """The first option that is enough and costs no bytes, or else promises most; and the first that costs bytes."""
    free = [o for o in rates.options if not o.num_bytes and o.rate is not None and o.rate >= _BETTER * rates.has]
    enough = [option for option in free if option.rate is not None and option.rate >= rates.needs]
    best = enough[:1] or sorted(free, key=lambda option: option.rate or 0.0)[-1:]
    costly = [option for option in rates.options if option.num_bytes][:1]
    told = []
    for option in best + costly:
        facts = [f"{option.rate:,.0f} img/s"] if option.rate is not None else []
        facts += [f"+{in_bytes(option.num_bytes)}"] if option.num_bytes else []
        told.append(f"{option.what} ({', '.join(facts)})")
    return told


def _cores(count: int) -> str:
    return f"{count:,} core{'' if count == 1 else 's'}"


def _either(ways: list[str]) -> str:
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])}, or {ways[-1]}"


def in_bytes(count: float) -> str:
    """A size as people read it, such as 31 GB or 4.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
