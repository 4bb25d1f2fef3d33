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


def test_no_interval_leaves_zero_to_one_and_cells_near_guessing_have_narrower_ones() -> None:
    """A seed moves each cell's angle by 0.05, as it does in the study: by 4 points at 20%, by 1 at 1%."""
    random = np.random.default_rng(0)
    truth = {"low": 0.01, "high": 0.2, "a": 0.15, "b": 0.25}
    results = [
        result(cell, seed, np.arange(10_000) < 10_000 * np.sin(np.arcsin(accuracy**0.5) + 0.05 * moved) ** 2)
        for cell, accuracy in truth.items()
        for seed, moved in enumerate(random.permutation([-1.0, 0.0, 1.0]))
    ]
    known = means(results, "size")
    low, high = (known.estimate(lambda a: a, (cell, LAST)) for cell in ("low", "high"))
    assert 0 <= low.low < 0.01 < low.high
    half = QUANTILE * 0.05 * 2 * (0.2 * 0.8) ** 0.5 / 3**0.5
    assert (high.high - high.low) / 2 == pytest.approx(half, rel=0.12)
    assert low.high - low.low < (high.high - high.low) / 3


def test_a_training_that_is_two_cells_is_pooled_once() -> None:
    cells = [result("a", seed, np.arange(1000) < 100 + 50 * seed) for seed in range(3)]
    again = [{**found, "cell": "b"} for found in cells]
    assert means([*cells, *again], "size").freedom == means(cells, "size").freedom == {"s": 2}


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
    """Four cells of three seeds, each 0.4 and 0.4 +- 0.1, all seeds alike but by cells: s = 0.1 with f = 8."""
    results = [
        result(cell, seed, np.roll(np.arange(100_000) < 100_000 * accuracy, place))
        for place, cell in enumerate("abcd")
        for seed, accuracy in enumerate((0.3, 0.4, 0.5))
    ]
    known = means(results, "size")
    assert known.spread == pytest.approx({"s": 0.1}, rel=0.01)
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


def test_intervals_are_no_wider_than_they_have_to_be() -> None:
    """Of a difference of two cells: Student's, of seeds alone, where images are many."""
    widths = []
    for repeat in range(40):
        known = means(drawn(np.random.default_rng(repeat), {"a": 0.30, "b": 0.22, "c": 0.25}, 0.03, 4_000), "size")
        estimate = known.estimate(lambda a, b: a - b, ("a", LAST), ("b", LAST))
        widths.append((estimate.high - estimate.low) / 2)
    assert np.median(widths) == pytest.approx(2.447 * 0.03 * (2 / 3) ** 0.5, rel=0.15)
