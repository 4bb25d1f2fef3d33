"""Whether a plan's claims show: each as differences or ratios of accuracies with their intervals, and a verdict.

A claim shows when all of its intervals lie on its side of the border, is contradicted when one lies wholly on the
other, and is open otherwise: open says that this study could not tell, not that the claim is wrong. Whether a drop
shrinks can be asked in points and as a share; only where both say no is it contradicted, for a model that falls to
guessing loses the more points, the more it had. Where nothing was lost, there is nothing to ask. Intervals are one by
one 95%: of many claims, some show by chance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.study_plan import Claim, StudyPlan, choices, label_of
from eval.study_statistics import FIRST, LAST, CellAt, Estimate, Means

SHOWS, CONTRADICTED, OPEN, MISSING = "shows", "contradicted", "open", "not trained yet"
NO_LOSS = "nothing was lost"


@dataclass(frozen=True, slots=True)
class Line:
    """One number of a claim. text: what it is. estimate: None while a cell is missing. border: what the claim wants it
    to exceed; None for a number that is only told. share: it is a share of something, not a difference in points.
    needed: the claim asks about something only where this is more than 0.
    """

    text: str
    estimate: Estimate | None
    border: float | None = 0.0
    share: bool = False
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its numbers. verdict: one of the module's; empty for what is only told. provisional: some of its
    cells have no second seed behind them, nor has another of their size: its intervals are of images alone.
    """

    claim: Claim
    lines: tuple[Line, ...]
    verdict: str
    provisional: bool = False


def judge_claims(plan: StudyPlan, known: Means | None) -> list[Judged]:
    """Every claim of the plan, by the results that there are; None for no result yet."""
    if known is None:
        return [Judged(claim, (), MISSING) for claim in plan.file.claims]
    judged = []
    for claim in plan.file.claims:
        lines = tuple(_LINES[claim.kind](plan, claim, known))
        provisional = any(line.estimate is not None and line.estimate.images_only for line in lines)
        judged.append(Judged(claim, lines, _verdict(claim.kind, lines), provisional))
    return judged


def _verdict(kind: str, lines: Sequence[Line]) -> str:
    wanted = [(line.estimate, line.border) for line in lines if line.border is not None]
    if any(estimate is None for estimate, _ in wanted):
        return MISSING
    if not wanted:
        return ""
    borders = [(estimate, border) for estimate, border in wanted if estimate is not None and border is not None]
    if any(line.needed and line.estimate is not None and line.estimate.low <= 0 for line in lines):
        return NO_LOSS
    if all(estimate.low > border for estimate, border in borders):
        return SHOWS
    against = [estimate.high < border for estimate, border in borders]
    return CONTRADICTED if (all(against) if kind == "drop" else any(against)) else OPEN


def _line(
    known: Means,
    text: str,
    of: Callable[..., Any],
    *cells: CellAt,
    border: float | None = 0.0,
    share: bool = False,
    divisors: Sequence[Callable[..., Any]] = (),
) -> Line:
    """divisors: what `of` divides by. Where one may be zero or less, the ratio has no interval: it would not be one."""
    if not all(cell in known for cell in cells):
        return Line(text, None, border, share)
    estimate = known.estimate(of, *cells)
    if any(known.estimate(divisor, *cells).low <= 0 for divisor in divisors):
        estimate = replace(estimate, low=-math.inf, high=math.inf)
    return Line(text, estimate, border, share)


def _named(more: dict[str, str]) -> str:
    return "".join(f", {label}" for label in more.values())


def _drop(plan: StudyPlan, claim: Claim, known: Means) -> list[Line]:
    """What each loses, in points and as a share of what it had; and by how much the largest loses less."""
    pairs = []
    lines = []
    ends = choices(claim)[0], choices(claim)[-1]
    for more in choices(claim):
        cells = [(plan.of_claim(claim, label, more).name, LAST) for label in (claim.high, claim.low)]
        pairs.append(cells)
        lost = _line(known, f"lost in points{_named(more)}", lambda h, low: h - low, *cells, border=None)
        lines.append(replace(lost, needed=more in ends))
        name = f"lost as a share{_named(more)}"
        of_had: dict[str, Any] = {"border": None, "share": True, "divisors": [lambda h, _: h]}
        lines.append(_line(known, name, lambda h, low: 1 - low / h, *cells, **of_had))
    both = *pairs[0], *pairs[-1]
    smallest, *_, largest = (next(iter(more.values())) for more in choices(claim))
    text = f"{smallest}'s loss less {largest}'s"
    lines.append(_line(known, f"{text}, points", lambda a, b, c, d: (a - b) - (c - d), *both))
    by: dict[str, Any] = {"share": True, "divisors": [lambda a, *_: a, lambda a, b, c, d: c]}
    lines.append(_line(known, f"{text}, share", lambda a, b, c, d: d / c - b / a, *both, **by))
    return lines


def _differences(plan: StudyPlan, claim: Claim, known: Means, others: Sequence[str], sign: int) -> list[Line]:
    lines = []
    for more in choices(claim):
        high = plan.of_claim(claim, claim.high, more).name
        for label in others:
            other = plan.of_claim(claim, label, more).name
            names = label_of(claim.high, more), label_of(label, more)
            text = " less ".join(names if sign > 0 else names[::-1]) + _named(more)
            border = 0.0 if sign > 0 else None
            cells = (high, LAST), (other, LAST)
            lines.append(_line(known, text, lambda h, o: sign * (h - o), *cells, border=border))
    return lines


def _best(plan: StudyPlan, claim: Claim, known: Means) -> list[Line]:
    return _differences(plan, claim, known, claim.others, 1)


def _beats(plan: StudyPlan, claim: Claim, known: Means) -> list[Line]:
    return _differences(plan, claim, known, claim.lower, 1)


def _cost(plan: StudyPlan, claim: Claim, known: Means) -> list[Line]:
    return _differences(plan, claim, known, claim.others, -1)


def _recovery(plan: StudyPlan, claim: Claim, known: Means) -> list[Line]:
    """How far low is behind where high ends, before low's last stage and after, and the share of that which the stage
    made good; and the share of what low was behind high when both had ended their first.
    """
    lines = []
    for more in choices(claim):
        high, low = (plan.of_claim(claim, label, more).name for label in (claim.high, claim.low))
        ends, named = f"behind the end of {label_of(claim.high, more)}", _named(more)
        cells = ((high, LAST), (low, LAST), (low, FIRST))
        lines.append(_line(known, f"{ends}, before{named}", lambda h, _, b: h - b, *cells, border=None))
        lines.append(_line(known, f"{ends}, after{named}", lambda h, low, _: h - low, *cells, border=None))
        by: dict[str, Any] = {"border": 0.5, "share": True, "divisors": [lambda h, _, b: h - b]}
        name = f"share of that recovered{named}"
        lines.append(_line(known, name, lambda h, low, b: 1 - (h - low) / (h - b), *cells, **by))
        of_first: dict[str, Any] = {"border": None, "share": True, "divisors": [lambda h, low, f, b: f - b]}
        name = f"share of what it was behind after both first stages{named}"
        firsts = (high, LAST), (low, LAST), (high, FIRST), (low, FIRST)
        lines.append(_line(known, name, lambda h, low, f, b: 1 - (h - low) / (f - b), *firsts, **of_first))
    return lines


_LINES: dict[str, Callable[[StudyPlan, Claim, Means], list[Line]]] = {
    "drop": _drop,
    "best": _best,
    "recovery": _recovery,
    "beats": _beats,
    "cost": _cost,
}
