"""Probes on points whose answers are known, and their parts against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval import linear_probe
from eval.linear_probe import STRENGTHS, Linear, Points, fit, interval, search_strength, shots_of, split
from eval.probe_accuracy import few_shot, linear, probe
from eval.scores import ClassAccuracy, bootstrap_interval
from prep.errors import UserError

pytest.importorskip("sklearn")
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


def points(num_classes: int, num: int, noise: float, seed: int = 0, width: int = 12) -> Points:
    """`num` unit vectors a class around a centre of its own, the same centres whatever the seed."""
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    labels = np.repeat(np.arange(num_classes), num)
    values = centres[labels] + noise * np.random.default_rng(seed).normal(size=(len(labels), width))
    return Points(values / np.linalg.norm(values, axis=1, keepdims=True), labels)


def names(num: int) -> list[str]:
    return [f"class {number}" for number in range(num)]


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 30.0])
def test_a_fit_is_where_the_loss_has_no_slope(num_classes: int, strength: float) -> None:
    train = points(num_classes, 20, 1.0)
    model = fit(train, strength)
    assert model.converged
    scores = train.values @ model.weights.T + model.bias
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    error = chances - np.eye(num_classes)[train.labels]
    # Of two classes only the weights' difference is fitted, and it is that which the penalty squares.
    penalised = strength * model.weights * (2 if num_classes == 2 else 1)
    assert np.abs(error.T @ train.values + penalised).max() < 1e-3
    assert np.abs(error.sum(axis=0)).max() < 1e-3


def test_ranks_are_those_of_a_stable_sort() -> None:
    generator = np.random.default_rng(1)
    model = Linear(generator.integers(-1, 2, (6, 3)).astype(float), np.zeros(6), True)
    asked = Points(generator.integers(-1, 2, (40, 3)).astype(float), generator.integers(0, 6, 40))
    expected = []
    for value, label in zip(asked.values.tolist(), asked.labels.tolist(), strict=True):
        scores = [sum(a * b for a, b in zip(value, row, strict=True)) for row in model.weights.tolist()]
        expected.append(sorted(range(6), key=lambda place: (-scores[place], place)).index(label))
    assert model.ranks(asked).tolist() == expected
    assert model.hits(asked).tolist() == [rank == 0 for rank in expected]


@pytest.mark.parametrize("peak", [0, 1, 15, 16, 47, 48, 90, 95, 96])
def test_the_search_finds_a_peak_wherever_it_lies(peak: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def known(train: Points, strength: float) -> Linear:
        """Right for the fewer of 200 points, the farther the strength lies from the peak."""
        asked.append(strength)
        wrong = abs(int(np.argmin(np.abs(STRENGTHS - strength))) - peak)
        return Linear(np.array([[0.0], [1.0]]), np.array([0.0, wrong - 0.5]), True)

    monkeypatch.setattr(linear_probe, "fit", known)
    held_out = Points(-np.arange(200.0)[:, None], np.zeros(200, np.int64))
    found = search_strength(held_out, held_out)
    assert found.strength == STRENGTHS[peak]
    assert found.accuracy == pytest.approx(1.0)
    assert len(asked) == len(set(asked)) <= linear_probe.MAX_FITS


def test_strengths_are_those_of_clips_paper() -> None:
    assert [f"{strength:.6g}" for strength in STRENGTHS[::16]] == [
        "1e-06",
        "0.0001",
        "0.01",
        "1",
        "100",
        "10000",
        "1e+06",
    ]
    assert STRENGTHS[8] / STRENGTHS[0] == pytest.approx(10)


@given(LABELS, st.integers(0, 3))
def test_a_split_keeps_every_image_once_and_every_class_on_both_sides(labels: NDArray[np.int64], seed: int) -> None:
    kept, out = split(labels, seed)
    assert sorted([*kept, *out]) == list(range(len(labels)))
    for label in set(labels.tolist()):
        num, held = int((labels == label).sum()), int((labels[out] == label).sum())
        assert held == (0 if num == 1 else max(1, round(0.2 * num)))
    again = split(labels, seed)
    assert (kept.tolist(), out.tolist()) == (again[0].tolist(), again[1].tolist())


@given(LABELS, st.integers(0, 3), st.integers(0, 3))
def test_shots_are_so_many_of_each_class_and_hold_those_of_fewer(
    labels: NDArray[np.int64], seed: int, draw: int
) -> None:
    drawn = [set(shots_of(labels, shots, seed, draw).tolist()) for shots in (1, 2, 4)]
    assert drawn[0] <= drawn[1] <= drawn[2]
    for shots, places in zip((1, 2, 4), drawn, strict=True):
        counts = np.bincount(labels[list(places)], minlength=5)
        assert counts.tolist() == np.minimum(np.bincount(labels, minlength=5), shots).tolist()


def test_draws_and_seeds_differ() -> None:
    labels = np.repeat(np.arange(4), 30)
    drawn = [tuple(shots_of(labels, 2, seed, draw).tolist()) for seed in range(3) for draw in range(3)]
    assert len(set(drawn)) == 9
    assert len({tuple(split(labels, seed)[1].tolist()) for seed in range(3)}) == 3


def test_an_interval_of_one_draw_is_that_of_images() -> None:
    hits = np.arange(400) < 130
    assert interval(hits[None], 3) == pytest.approx(bootstrap_interval(130, 400, 3), abs=0.006)


def test_an_interval_of_several_draws_agrees_with_resampling_both() -> None:
    generator = np.random.default_rng(5)
    hits = generator.random((4, 120)) < np.array([0.3, 0.4, 0.5, 0.6])[:, None]
    shares = []
    for _ in range(4000):
        draws, images = generator.integers(0, 4, 4), generator.integers(0, 120, 120)
        shares.append(hits[np.ix_(draws, images)].mean())
    assert interval(hits, 0) == pytest.approx(tuple(np.quantile(shares, (0.025, 0.975))), abs=0.01)
    low, high = bootstrap_interval(int(hits.sum() / 4), 120)
    assert interval(hits, 0)[0] < low
    assert interval(hits, 0)[1] > high


def test_classes_that_lie_apart_are_learned_and_noise_is_not() -> None:
    apart = linear(names(6), points(6, 10, 0.05), points(6, 10, 0.05, seed=1))
    assert (apart.top1, apart.top5, apart.mean_class_top1, apart.held_out_top1) == (1, 1, 1, 1)
    generator = np.random.default_rng(2)
    train, test = (Points(generator.normal(size=(300, 4)), generator.integers(0, 5, 300)) for _ in range(2))
    noise = linear(names(5), train, test)
    assert noise.top5 is None
    assert abs(noise.top1 - 0.2) < 4 * (0.16 / 300) ** 0.5
    assert noise.top1_interval[0] <= noise.top1 <= noise.top1_interval[1]


def test_a_class_is_judged_by_its_own_images() -> None:
    test = points(3, 8, 0.05, seed=1)
    test = test.at(np.flatnonzero(test.labels != 1))
    test.labels[:2] = 2  # so the first class has six, and the last ten, of which two are wrong
    found = linear(names(3), points(3, 10, 0.05), test)
    assert found.per_class == tuple(map(ClassAccuracy, names(3), (6, 0, 10), (1.0, None, 0.8)))
    assert found.mean_class_top1 == pytest.approx(0.9)
    assert found.top1 == pytest.approx(14 / 16)


@pytest.mark.filterwarnings("error")
def test_one_shot_of_many_classes_is_no_matter_for_a_warning() -> None:
    assert few_shot(points(30, 5, 0.05), points(30, 2, 0.05, seed=1), 1, 2).top1 > 0.5


def test_more_shots_do_better_and_a_seed_says_which() -> None:
    train, test = points(8, 40, 0.9), points(8, 25, 0.9, seed=1)
    found = [few_shot(train, test, shots, 3, seed=4) for shots in (1, 16)]
    assert found[0].top1 + 0.05 < found[1].top1 <= linear(names(8), train, test).top1 + 0.05
    assert found[0].top1 == pytest.approx(np.mean(found[0].draws))
    assert len(found[0].draws) == len(set(found[0].draws)) == 3
    assert found[0] == few_shot(train, test, 1, 3, seed=4)
    assert found[0] != few_shot(train, test, 1, 3, seed=5)
    low, high = found[0].top1_interval
    assert low < found[0].top1 < high


def test_shots_that_a_class_has_too_few_images_for_are_left_out_by_name() -> None:
    train = points(3, 10, 0.05)
    train = train.at(np.flatnonzero((train.labels != 1) | (np.arange(30) < 15)))
    found = probe(names(3), train, points(3, 4, 0.05, seed=1), [1, 4, 8], num_draws=2)
    assert [result["shots"] for result in found["few_shot"]] == [1, 4]
    assert found["left_out"] == [{"shots": 8, "why": "class 1 has 4 images that are not held out"}]
    assert [entry["name"] for entry in found["linear"]["per_class"]] == names(3)


def test_a_training_set_that_cannot_do_is_refused() -> None:
    train = points(4, 3, 0.1)
    with pytest.raises(UserError, match="2 of 6 classes have no image to learn from: class 4, class 5"):
        probe(names(6), train, train)
    with pytest.raises(UserError, match="one to hold out"):
        probe(names(4), train.at(np.array([0, 3, 6, 9])), train)
