"""The study's intervals against formulas by hand and against truths that are known because they were made."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.study_statistics import LAST, means

QUANTILE = 2.306
"""97.5% of Student's t with eight degrees of freedom."""


def result(cell: str, seed: int, hits: NDArray[np.bool_]) -> dict[str, Any]:
    at = {"hits": np.packbits(hits).tobytes().hex(), "num_images": len(hits)}
    return {"cell": cell, "labels": {"size": "s"}, "seed": seed, "untrained": False, "at": [at]}


def drawn(random: np.random.Generator, truth: dict[str, float], spread: float, num: int) -> list[dict[str, Any]]:
    """Cells with these accuracies: a seed moves a cell by a normal draw, and each image is right at that rate."""
    return [
        result(cell, seed, random.random(num) < accuracy + spread * random.standard_normal())
        for cell, accuracy in truth.items()
        for seed in range(3)
    ]


def test_a_mean_is_plain_and_images_are_bootstrapped() -> None:
    hits = np.arange(400) < 100
    estimate = means([result("a", 0, hits)], "size").estimate(lambda a: a, ("a", LAST))
    half = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert estimate.value == 0.25
    assert estimate.images_only
    assert estimate.low == pytest.approx(0.25 - half, abs=0.006)
    assert estimate.high == pytest.approx(0.25 + half, abs=0.006)


def test_the_same_answers_differ_by_nothing_whatever_the_images() -> None:
    hits = np.arange(400) % 3 == 0
    known = means([result("a", 0, hits), result("b", 0, hits)], "size")
    estimate = known.estimate(lambda a, b: a - b, ("a", LAST), ("b", LAST))
    assert (estimate.low, estimate.high) == pytest.approx((0.0, 0.0))


def test_seeds_are_pooled_as_students_t() -> None:
    """Four cells of three seeds, each 0.4 and 0.4 +- 0.1, all images alike but by cells: s = 0.1 with f = 8."""
    results = [
        result(cell, seed, np.arange(100_000) < 100_000 * accuracy)
        for cell in "abcd"
        for seed, accuracy in enumerate((0.3, 0.4, 0.5))
    ]
    known = means(results, "size")
    assert known.spread == pytest.approx({"s": 0.1})
    estimate = known.estimate(lambda a: a, ("a", LAST))
    assert estimate.high - 0.4 == pytest.approx(QUANTILE * 0.1 / 3**0.5, rel=0.12)
    assert not estimate.images_only


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth = {"a": 0.30, "b": 0.22, "c": 0.25}
    held = 0
    for repeat in range(60):
        random = np.random.default_rng(repeat)
        known = means(drawn(random, truth, 0.03, 500), "size", seed=repeat)
        estimate = known.estimate(lambda a, b: a - b, ("a", LAST), ("b", LAST))
        held += estimate.low <= 0.08 <= estimate.high
    assert held >= 52  # of 57 expected; the chance of fewer is under 1%
