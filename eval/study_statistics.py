"""How sure a study is: resampled means of its cells, from which every difference and ratio gets its interval.

Two things vary. Another draw of images would be answered otherwise: images are resampled with replacement (bootstrap;
Efron 1979), the same ones for all cells, because all answered the same images. Another seed would have trained
otherwise: the mean over n seeds has a standard error of s / sqrt(n), where s is pooled over the cells of one model size
(their spread around their own means, with the degrees of freedom that this has). Accuracies near guessing spread less
than those in the middle, so s is one of angles, arcsin(sqrt(accuracy)), whose spread depends on the mean far less, and
from which no interval leaves 0 to 1. s itself is uncertain: a resample draws it as s x sqrt(f / chi-squared with f
degrees of freedom), once for all cells that share it, so that the interval of any sum of means is Student's. Three
seeds alone would leave an interval of 2.5 s to either side; pooled over ten cells it is 1.2 s. An interval is the
central 95% of the resamples.

What this takes for granted: angles of one size spread alike; seeds of one number in two cells have nothing in common
(where two cells begin alike, their first stages are the same training, which is pooled once). It errs to the wide side:
how one seed's answers to single images differ from another's counts in both parts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.study_judge import unpacked

Floats = NDArray[np.float64]
CellAt = tuple[str, int]
"""A cell's name (of a control at random weights: with UNTRAINED) and a moment: LAST, or FIRST."""
LAST, FIRST = -1, 0
UNTRAINED = "-untrained"
NUM_RESAMPLES = 2_000
_AT_A_TIME = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the interval in which 95% of the resamples lie; infinite ends where there is none, as a resample
    is no number. num_seeds: the fewest behind it. images_only: there is no second seed to tell how seeds differ.
    """

    value: float
    low: float
    high: float
    num_seeds: int
    images_only: bool = False


@dataclass(frozen=True, slots=True)
class Means:
    """Accuracies of cells. value: the mean over seeds; draws: resamples [NUM_RESAMPLES] of it; num_seeds likewise.
    The moment LAST is after a run's last stage, FIRST after its first. spread: {group: the pooled standard deviation
    over seeds, as it is at the group's mean accuracy}, freedom: its degrees of freedom; group_of: which of them a cell
    is in.
    """

    value: dict[CellAt, float]
    draws: dict[CellAt, Floats]
    num_seeds: dict[CellAt, int]
    spread: dict[str, float]
    freedom: dict[str, int]
    group_of: dict[CellAt, str]

    def estimate(self, of: Callable[..., Any], *cells: CellAt) -> Estimate:
        """A function of some cells' accuracies, of numbers and of arrays alike, with its interval."""
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.asarray(of(*(self.draws[cell] for cell in cells)), np.float64)
            value = float(of(*(np.float64(self.value[cell]) for cell in cells)))
        low, high = np.quantile(drawn, (0.025, 0.975)) if np.isfinite(drawn).all() else (-np.inf, np.inf)
        images_only = any(self.freedom[self.group_of[cell]] == 0 for cell in cells)
        return Estimate(value, float(low), float(high), min(self.num_seeds[cell] for cell in cells), images_only)

    def __contains__(self, cell: CellAt) -> bool:
        """Whether there is a result of it."""
        return cell in self.value


def means(results: Iterable[dict[str, Any]], group: str, seed: int = 0) -> Means:
    """Of a study's results, which were judged by the same images. group: the axis whose labels are pooled each for
    themselves, and each moment: the two moments of a run are no two runs. seed: of the resampling.
    """
    hits: dict[CellAt, list[NDArray[np.bool_]]] = defaultdict(list)
    groups: dict[CellAt, str] = {}
    for result in results:
        control = UNTRAINED if result["untrained"] else ""
        moments = {LAST: result["at"][-1]} | ({FIRST: result["at"][0]} if len(result["at"]) > 1 else {})
        for moment, at in moments.items():
            key = f"{result['cell']}{control}", moment
            groups[key] = f"{result['labels'][group]}{control}{', first stage' if moment == FIRST else ''}"
            hits[key].append(unpacked(at["hits"], at["num_images"]))
    answered = {key: np.stack(hits[key]) for key in sorted(hits)}
    value = {key: float(rows.mean()) for key, rows in answered.items()}
    angles, freedom = _pooled(answered, groups)
    random = np.random.default_rng(seed)
    draws = _resampled(answered, random)
    scale = {
        of: angles[of] * np.sqrt(freedom[of] / random.chisquare(freedom[of], NUM_RESAMPLES)) if freedom[of] else 0.0
        for of in sorted(angles)
    }
    for key, rows in answered.items():
        moved = scale[groups[key]] * random.standard_normal(NUM_RESAMPLES) / np.sqrt(len(rows))
        draws[key] = np.sin(np.clip(_angle(draws[key]) + moved, 0, np.pi / 2)) ** 2
    of_group: dict[str, list[float]] = defaultdict(list)
    for key, mean in value.items():
        of_group[groups[key]].append(mean)
    at = {of: float(np.mean(means)) for of, means in of_group.items()}
    spread = {of: angles[of] * 2 * (at[of] * (1 - at[of])) ** 0.5 for of in angles}
    return Means(value, draws, {key: len(rows) for key, rows in answered.items()}, spread, freedom, groups)


def _angle(accuracy: Floats) -> Floats:
    """The angle whose spread depends least on the accuracy (Bartlett 1936)."""
    angle: Floats = np.arcsin(np.sqrt(np.clip(accuracy, 0, 1)))
    return angle


def _resampled(answered: dict[CellAt, NDArray[np.bool_]], random: np.random.Generator) -> dict[CellAt, Floats]:
    """Accuracies [NUM_RESAMPLES] on images drawn with replacement, the same ones for all cells."""
    if not answered:
        return {}
    shares = np.stack([rows.mean(axis=0) for rows in answered.values()], axis=1)
    parts = []
    for _ in range(0, NUM_RESAMPLES, _AT_A_TIME):
        drawn = random.integers(len(shares), size=(_AT_A_TIME, len(shares)))
        counts = np.stack([np.bincount(row, minlength=len(shares)) for row in drawn])
        parts.append(counts / len(shares) @ shares)
    return dict(zip(answered, np.concatenate(parts).T.copy(), strict=True))


def _pooled(
    answered: dict[CellAt, NDArray[np.bool_]], groups: dict[CellAt, str]
) -> tuple[dict[str, float], dict[str, int]]:
    """The standard deviation over seeds of the angles of a group's cells and its degrees of freedom; 0 and 0 with one
    seed a cell. Cells with the very same answers are one.
    """
    squares: dict[str, float] = defaultdict(float)
    freedom: dict[str, int] = defaultdict(int)
    met = set()
    for cell, rows in answered.items():
        group, angle = groups[cell], _angle(rows.mean(axis=1))
        squares.setdefault(group, 0.0)
        if (group, rows.tobytes()) not in met:
            squares[group] += float(((angle - angle.mean()) ** 2).sum())
            freedom[group] += len(angle) - 1
            met.add((group, rows.tobytes()))
    spread = {of: (squares[of] / freedom[of]) ** 0.5 if freedom[of] else 0.0 for of in squares}
    return spread, dict(freedom)
