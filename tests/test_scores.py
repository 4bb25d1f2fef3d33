"""Intervals, confusions and tables of accuracies against plain loops."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.scores import ClassAccuracy, bootstrap_interval, by_class, class_ranks, confusions, write_per_class


@given(st.integers(1, 2000).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))))
def test_an_interval_holds_its_accuracy_and_is_drawn_by_its_seed(case: tuple[int, int]) -> None:
    num_hits, num = case
    low, high = bootstrap_interval(num_hits, num, num_resamples=500)
    assert 0 <= low <= num_hits / num <= high <= 1
    assert (low, high) == bootstrap_interval(num_hits, num, num_resamples=500)


def test_an_interval_agrees_with_resampled_images() -> None:
    hits = np.arange(300) < 90
    generator = np.random.default_rng(1)
    shares = [hits[generator.integers(0, 300, 300)].mean() for _ in range(4000)]
    assert bootstrap_interval(90, 300) == pytest.approx(tuple(np.quantile(shares, (0.025, 0.975))), abs=0.007)


def test_an_interval_narrows_with_more_images() -> None:
    (low, high), (lower, higher) = bootstrap_interval(10, 30), bootstrap_interval(1000, 3000)
    assert (high - low) / (higher - lower) == pytest.approx(10, rel=0.2)


@given(st.integers(2, 6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_confusions_are_counted_both_ways(num: int, answers: list[tuple[int, int]]) -> None:
    answers = [(truth % num, answer % num) for truth, answer in answers]
    labels, predicted = (torch.tensor([pair[way] for pair in answers]) for way in (0, 1))
    names = [f"c{i}" for i in range(num)]
    ways = Counter(pair for pair in answers if pair[0] != pair[1])
    found = confusions(names, labels, predicted, most=100)
    assert {(p.classes, p.num_first, p.num_second) for p in found} == {
        ((a, b), ways[a, b], ways[b, a]) for a in range(num) for b in range(a + 1, num) if ways[a, b] + ways[b, a]
    }
    assert [p.num for p in found] == sorted((p.num_first + p.num_second for p in found), reverse=True)
    assert all(p.names == (names[p.classes[0]], names[p.classes[1]]) for p in found)
    of = Counter(truth for truth, _ in answers)
    assert all(p.num_images == (of[p.classes[0]], of[p.classes[1]]) for p in found)
    assert confusions(names, labels, predicted, most=1) == found[:1]
    table = by_class(names, labels, labels == predicted)
    assert [entry.num_images for entry in table] == [of[i] for i in range(num)]


def test_the_table_reads_back(tmp_path: Path) -> None:
    hostile = 'a "cat", or\n=1+1'
    classes = [ClassAccuracy(hostile, 3, 1 / 3), ClassAccuracy("none", 0, None)]
    write_per_class(tmp_path / "x.csv", [("one", classes), ("two", classes[:1])])
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["one", hostile, "3", "1", "0.333333"]
    assert rows[2] == ["one", "none", "0", "0", ""]
    assert len(rows) == 4


@pytest.mark.parametrize("num_names", [[1, 3, 2, 1], [1, 1, 1, 1]])
def test_ranks_of_classes_are_those_of_a_sort(num_names: list[int]) -> None:
    """Similarities are small whole numbers, so that many are equal."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(-1, 2, (300, 4), generator=generator).float()
    names = torch.randint(-1, 2, (sum(num_names), 4), generator=generator).float()
    labels = torch.randint(len(num_names), (300,), generator=generator)
    wanted = []
    for scores, label in zip((features @ names.T).tolist(), labels.tolist(), strict=True):
        starts = [sum(num_names[:place]) for place in range(len(num_names))]
        of_class = [max(scores[start : start + num]) for start, num in zip(starts, num_names, strict=True)]
        wanted.append(sorted(range(len(num_names)), key=lambda place: (-of_class[place], place)).index(label))
    assert class_ranks(features, names, num_names, labels).tolist() == wanted
