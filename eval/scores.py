"""Answers as numbers: an accuracy with its interval, class by class, and which classes are taken for each other."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.recall import ranks
from prep.files import written_aside

Interval = tuple[float, float]
NUM_CONFUSIONS = 20
_AT_A_TIME = 4096


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """top1 is a fraction, None for a class without a readable image (it still is a possible answer)."""

    name: str
    num_images: int
    top1: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two classes taken for each other. classes: places, the smaller first; names: theirs; num_images: of each.

    num: mistakes between them: num_first images of the first taken for the second, and num_second the other way round.
    """

    classes: tuple[int, int]
    names: tuple[str, str]
    num_images: tuple[int, int]
    num: int
    num_first: int
    num_second: int


def best_of_names(scores: Tensor, num_names: Sequence[int]) -> Tensor:
    """Scores float [N, A] of names, class by class, to float [N, C] of classes: each the best of its names'.

    num_names: how many names each class has, C numbers of one or more, A in all.
    """
    if len(num_names) == scores.shape[1]:
        return scores
    return torch.stack([part.amax(dim=1) for part in scores.split(list(num_names), dim=1)], dim=1)


def class_ranks(features: Tensor, names: Tensor, num_names: Sequence[int], labels: Tensor) -> Tensor:
    """The place of each image's class among all classes by similarity, int64 [N] on the CPU, 0 the most similar.

    features: unit vectors float [N, D]. names: unit vectors float [A, D], class by class; num_names: see
    `best_of_names`. labels: int64 [N]. Equally similar classes stand in their order.
    """
    labels = labels.to(names.device)
    places = torch.arange(len(num_names), device=names.device)
    if len(num_names) == len(names):
        return ranks(features.to(names.device), names, labels, places).cpu()
    found = []
    for part, label in zip(features.split(_AT_A_TIME), labels.split(_AT_A_TIME), strict=True):
        scores = best_of_names(part.to(names.device) @ names.T, num_names)
        own = scores.gather(1, label[:, None])
        before = (scores > own) | ((scores == own) & (places < label[:, None]))
        found.append(before.sum(dim=1).cpu())
    return torch.cat(found)


def bootstrap_interval(num_hits: int, num: int, seed: int = 0, num_resamples: int = 10_000) -> Interval:
    """The central 95% of an accuracy under resampling of images (percentile bootstrap; Efron 1979).

    The hits in `num` draws with replacement from images of which `num_hits` are hits are Binomial(num, num_hits /
    num), so the resamples are drawn as such. With no hits, or nothing but hits, the interval is one point: a bootstrap
    cannot see what the sample does not hold.
    """
    shares = np.random.default_rng(seed).binomial(num, num_hits / num, num_resamples) / num
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def interval_text(interval: Interval) -> str:
    """As people read it: 29.3–33.4%."""
    low, high = interval
    return f"{low * 100:.1f}–{high:.1%}"


def by_class(names: Sequence[str], labels: Tensor, hits: Tensor) -> tuple[ClassAccuracy, ...]:
    """Each class's accuracy. labels: int64 [N]. hits: bool [N]."""
    num = labels.bincount(minlength=len(names)).tolist()
    num_hits = labels[hits].bincount(minlength=len(names)).tolist()
    return tuple(ClassAccuracy(name, n, h / n if n else None) for name, n, h in zip(names, num, num_hits, strict=True))


def confusions(
    names: Sequence[str], labels: Tensor, predicted: Tensor, most: int = NUM_CONFUSIONS
) -> tuple[Confusion, ...]:
    """The pairs of classes with the most mistakes between them, both ways counted together; equals by their places.

    labels, predicted: int64 [N] on the CPU.
    """
    wrong = labels != predicted
    if not bool(wrong.any()):
        return ()
    ways, counts = torch.stack([labels[wrong], predicted[wrong]], dim=1).unique(dim=0, return_counts=True)
    found: dict[tuple[int, int], list[int]] = {}
    for (truth, answer), count in zip(ways.tolist(), counts.tolist(), strict=True):
        pair = min(truth, answer), max(truth, answer)
        found.setdefault(pair, [0, 0])[truth > answer] = count
    num_images = labels.bincount(minlength=len(names)).tolist()
    order = sorted(found, key=lambda pair: (-sum(found[pair]), pair))[:most]
    return tuple(
        Confusion(
            classes=(a, b),
            names=(names[a], names[b]),
            num_images=(num_images[a], num_images[b]),
            num=sum(found[a, b]),
            num_first=found[a, b][0],
            num_second=found[a, b][1],
        )
        for a, b in order
    )


def write_per_class(path: Path, tables: Sequence[tuple[str, Sequence[ClassAccuracy]]]) -> None:
    """The classes of every set as a CSV: set, class, images, right, top1 (a fraction, empty without images)."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("set", "class", "images", "right", "top1"))
    for name, classes in tables:
        for entry in classes:
            known = entry.top1 is not None
            right = round(entry.top1 * entry.num_images) if entry.top1 is not None else 0
            rows.writerow((name, entry.name, entry.num_images, right, f"{entry.top1:.6g}" if known else ""))
    with written_aside(path) as file:
        file.write(text.getvalue().encode("utf-8", "replace"))
