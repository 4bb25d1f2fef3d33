"""What a linear classifier reaches on frozen features, from all of a training set and from a few images a class."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from eval.linear_probe import MAX_FITS, Points, fit, interval, search_strength, shots_of, split
from eval.scores import ClassAccuracy, Interval, by_class
from prep.errors import UserError
from prep.progress import bar

TOP = 5
SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class LinearResult:
    """Of the whole training set. Accuracies are fractions of the test's images, mean_class_top1 of its classes.

    strength: of the penalty; held_out_top1: what it was chosen by. top5: None with five classes or fewer. per_class: in
    the classes' order. num_unconverged: fits cut short.
    """

    strength: float
    held_out_top1: float
    top1: float
    top1_interval: Interval
    top5: float | None
    mean_class_top1: float
    per_class: tuple[ClassAccuracy, ...]
    num_unconverged: int


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """Of `shots` images a class. draws: each draw's top-1; top1 their mean. strength: chosen with the first draw."""

    shots: int
    strength: float
    top1: float
    top1_interval: Interval
    draws: tuple[float, ...]
    num_unconverged: int


def linear(
    names: Sequence[str], train: Points, test: Points, seed: int = 0, fitted: Callable[[], None] = lambda: None
) -> LinearResult:
    """Probe with all of `train`, which has at least one point of each class. `fitted` is called after each fit."""
    kept, held_out = split(train.labels, seed)
    found = search_strength(train.at(kept), train.at(held_out), fitted)
    model = fit(train, found.strength)
    fitted()
    ranks = model.ranks(test)
    hits = ranks == 0
    per_class = by_class(names, torch.from_numpy(test.labels), torch.from_numpy(hits))
    return LinearResult(
        strength=found.strength,
        held_out_top1=found.accuracy,
        top1=float(hits.mean()),
        top1_interval=interval(hits[None], seed),
        top5=float((ranks < TOP).mean()) if len(names) > TOP else None,
        mean_class_top1=float(np.mean([entry.top1 for entry in per_class if entry.top1 is not None])),
        per_class=per_class,
        num_unconverged=found.num_unconverged + (not model.converged),
    )


def few_shot(
    train: Points, test: Points, shots: int, num_draws: int, seed: int = 0, fitted: Callable[[], None] = lambda: None
) -> FewShotResult:
    """Probe with `shots` points a class, drawn so often from what `linear` does not hold out, which has as many."""
    kept, held_out = split(train.labels, seed)
    pool = train.at(kept)
    drawn = [pool.at(shots_of(pool.labels, shots, seed, draw)) for draw in range(num_draws)]
    found = search_strength(drawn[0], train.at(held_out), fitted)
    hits, unconverged = [], found.num_unconverged
    for points in drawn:
        model = fit(points, found.strength)
        hits.append(model.hits(test))
        unconverged += not model.converged
        fitted()
    draws = tuple(float(right.mean()) for right in hits)
    spread = interval(np.stack(hits), seed)
    return FewShotResult(shots, found.strength, float(np.mean(draws)), spread, draws, unconverged)


def probe(
    names: Sequence[str], train: Points, test: Points, shots: Sequence[int] = SHOTS, num_draws: int = 5, seed: int = 0
) -> dict[str, Any]:
    """Both kinds of probe; what probe.json holds under linear, few_shot and left_out.

    left_out: numbers of shots that some class has too few images for, and why. Raises `UserError` when a class has
    nothing to learn from, or nothing can be held out.
    """
    num = np.bincount(train.labels, minlength=len(names))
    missing = [name for name, n in zip(names, num, strict=True) if not n]
    if missing:
        problem = f"{len(missing):,} of {len(names):,} classes have no image to learn from: {', '.join(missing[:5])}"
        raise UserError("--train", problem, "Add images of them, or give --classes with those that there are.")
    if num.max() < 2:
        problem = "wanted two images of some class, one to learn from and one to hold out, found one of each"
        raise UserError("--train", problem, "Add images.")
    kept = np.bincount(train.labels[split(train.labels, seed)[0]], minlength=len(names))
    fewest = int(kept.argmin())
    left_out = {
        k: f"{names[fewest]} has {kept[fewest]:,} images that are not held out" for k in shots if k > kept[fewest]
    }
    able = [k for k in shots if k not in left_out]
    with bar(MAX_FITS + 1 + len(able) * (MAX_FITS + num_draws), "probe", "fits") as progress:
        whole = linear(names, train, test, seed, progress.advance)
        few = [few_shot(train, test, k, num_draws, seed, progress.advance) for k in able]
    return {
        "linear": asdict(whole),
        "few_shot": [asdict(result) for result in few],
        "left_out": [{"shots": k, "why": why} for k, why in left_out.items()],
    }
