"""Verdicts of claims, of accuracies that were made up, each kind both ways."""

from dataclasses import replace

import numpy as np
import pytest

from eval.study_claims import CONTRADICTED, MISSING, NO_LOSS, OPEN, SHOWS, Judged, Line, judge_claims
from eval.study_plan import Claim
from eval.study_plan_file import load_plan
from eval.study_statistics import FIRST, LAST, NUM_RESAMPLES, Means

PLAN = load_plan("laptop")
SIZES: dict[str, tuple[str, ...]] = {"size": ("s", "m", "l")}
DROP = Claim("1", "drop", "", "image", "i64", low="i4", at={"text": "t16"}, over=SIZES)
BEST = Claim("3", "best", "", "image", "i16", others=("i16_random", "i16_grid"), at={"size": "m"})
BEATS = Claim("6", "beats", "", "image", "i16", low="i64_equal_*", low_at={"text": "t32"}, over=SIZES)
RECOVERY = Claim("5", "recovery", "", "image", "i64", low="i4", at={"text": "t16", "size": "m"})
COST = Claim("c", "cost", "", "data", "own", others=("bank1",), at={"size": "m"})


def made(accuracies: dict[str, float | tuple[float, float]], sd: float = 0.005) -> Means:
    """Means with these accuracies in percent (a pair: before the last stage and after), known to `sd`."""
    pairs = {name: value if isinstance(value, tuple) else (value, value) for name, value in accuracies.items()}
    value = {(name, at): pair[at] / 100 for name, pair in pairs.items() for at in (FIRST, LAST)}
    random = np.random.default_rng(0)
    draws = {key: mean + sd * random.standard_normal(NUM_RESAMPLES) for key, mean in value.items()}
    groups = dict.fromkeys(value, "s")
    return Means(value, draws, dict.fromkeys(value, 3), {"s": sd}, {"s": 20}, groups)


def judged(claim: Claim, accuracies: dict[str, float | tuple[float, float]] | None, sd: float = 0.005) -> Judged:
    plan = replace(PLAN, file=replace(PLAN.file, claims=(claim,)))
    return judge_claims(plan, None if accuracies is None else made(accuracies, sd))[0]


def value(line: Line) -> float:
    assert line.estimate is not None
    return line.estimate.value


def drops(s: tuple[float, float], m: tuple[float, float], large: tuple[float, float]) -> dict[str, float]:
    cells = zip("sml", (s, m, large), strict=True)
    return {
        f"{size}_{image}_t16_own": of for size, pair in cells for image, of in zip(("i64", "i4"), pair, strict=True)
    }


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        (drops((30, 5), (30, 15), (30, 25)), SHOWS),
        (drops((30, 25), (30, 15), (30, 5)), CONTRADICTED),
        (drops((10, 2), (20, 4), (40, 8)), OPEN),  # more points, the same share
        (drops((30, 20), (30, 20), (30, 20)), OPEN),
        (drops((30, 32), (30, 33), (30, 34)), NO_LOSS),
        (drops((30, 5), (30, 15), (30, 30)), NO_LOSS),
    ],
)
def test_whether_a_drop_shrinks(accuracies: dict[str, float], verdict: str) -> None:
    found = judged(DROP, dict(accuracies))
    assert found.verdict == verdict
    values = {line.text: value(line) for line in found.lines}
    small, large = (accuracies[f"{size}_i64_t16_own"] - accuracies[f"{size}_i4_t16_own"] for size in "sl")
    assert values["s's loss less l's, points"] == pytest.approx((small - large) / 100)
    assert values["lost as a share, s"] == pytest.approx(small / accuracies["s_i64_t16_own"])


@pytest.mark.parametrize(
    ("random", "grid", "verdict"), [(10, 15, SHOWS), (10, 19.9, OPEN), (10, 25, CONTRADICTED), (19.9, 25, CONTRADICTED)]
)
def test_what_is_best_is_better_than_each(random: float, grid: float, verdict: str) -> None:
    cells = {"m_i16_t16_own": 20.0, "m_i16_random_t16_own": random, "m_i16_grid_t16_own": grid}
    found = judged(BEST, dict(cells))
    assert found.verdict == verdict
    assert [line.text for line in found.lines] == ["i16 less i16_random", "i16 less i16_grid"]
    assert [value(line) for line in found.lines] == pytest.approx([(20 - random) / 100, (20 - grid) / 100])


@pytest.mark.parametrize(("large", "verdict"), [(15, SHOWS), (20, OPEN), (30, CONTRADICTED)])
def test_what_beats_does_so_at_every_size_and_against_every_rival(large: float, verdict: str) -> None:
    two = {f"{size}_i16_t16_own": 20.0 for size in "sml"}
    alone = {"s_i64_equal_s_t32_own": 10.0, "m_i64_equal_m_t32_own": 10.0, "l_i64_equal_l_t32_own": large}
    assert judged(BEATS, {**two, **alone}).verdict == verdict
    rivals = replace(BEATS, low="", others=("i64_equal_*", "i64_equal_*_half"))
    assert judged(rivals, {**two, **alone}).verdict == MISSING
    halves = {f"{size}_i64_equal_{size}_half_t32_own": 10.0 for size in "sml"}
    assert judged(rivals, {**two, **alone, **halves}).verdict == verdict


@pytest.mark.parametrize(("after", "share", "verdict"), [(28, 0.9, SHOWS), (20, 0.5, OPEN), (12, 0.1, CONTRADICTED)])
def test_what_a_last_stage_recovers(after: float, share: float, verdict: str) -> None:
    found = judged(RECOVERY, {"m_i64_t16_own": (25.0, 30.0), "m_i4_t16_own": (10.0, after)})
    assert found.verdict == verdict
    wanted = [0.20, 0.30 - after / 100, share, 1 - (30 - after) / 15]
    assert [value(line) for line in found.lines] == pytest.approx(wanted)


def test_a_cost_is_told_and_not_judged() -> None:
    found = judged(COST, {"m_i16_t16_own": 20.0, "m_i16_t16_bank1": 18.0})
    assert (found.verdict, found.provisional) == ("", False)
    (line,) = found.lines
    assert line.text == "bank1 less own"
    assert value(line) == pytest.approx(-0.02)


def test_what_is_not_known_is_said() -> None:
    assert judged(DROP, None).verdict == MISSING
    assert judged(BEST, {"m_i16_t16_own": 20.0}).verdict == MISSING
    found = judged(DROP, dict(drops((30, 5), (30, 15), (0.1, 0.05))), sd=0.02)
    assert any(line.estimate is not None and np.isinf(line.estimate.low) for line in found.lines)
