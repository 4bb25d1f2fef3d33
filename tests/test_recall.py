"""Ranks against brute force, recalls against known answers, whatever the tile; intervals against a bootstrap."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from eval.recall import chance_recall, ranks, ranks_both_ways, recalls, resampled_interval
from eval.scores import bootstrap_interval

Vector = tuple[int, int, int]
# Whole numbers, so that sums are exact and equal similarities really are equal.
VECTORS = st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=1, max_size=9)


def brute_force_ranks(
    queries: list[Vector], gallery: list[Vector], query_ids: list[int], gallery_ids: list[int]
) -> list[int]:
    found = []
    for query, wanted in zip(queries, query_ids, strict=True):
        score = [sum(a * b for a, b in zip(query, answer, strict=True)) for answer in gallery]
        order = sorted(range(len(gallery)), key=lambda i: (-score[i], i))
        found.append(next(place for place, i in enumerate(order) if gallery_ids[i] == wanted))
    return found


@given(VECTORS, VECTORS, st.data())
def test_ranks_are_those_of_a_stable_sort_whatever_the_chunk(
    queries: list[Vector], gallery: list[Vector], data: st.DataObject
) -> None:
    gallery_ids = data.draw(st.lists(st.integers(0, 3), min_size=len(gallery), max_size=len(gallery)))
    query_ids = data.draw(st.lists(st.sampled_from(gallery_ids), min_size=len(queries), max_size=len(queries)))
    max_scores = data.draw(st.integers(1, 100))
    found = ranks(
        torch.tensor(queries).float(),
        torch.tensor(gallery).float(),
        torch.tensor(query_ids),
        torch.tensor(gallery_ids),
        max_scores,
    )
    assert found.tolist() == brute_force_ranks(queries, gallery, query_ids, gallery_ids)


def test_recall_by_hand() -> None:
    assert recalls(torch.tensor([0, 0, 3, 4, 5, 9, 10, 200])) == {1: 2 / 8, 5: 4 / 8, 10: 6 / 8}


def test_the_best_of_several_captions_counts() -> None:
    image, captions = torch.eye(3)[:1], torch.tensor([[0.5, 0, 0], [0.1, 0, 0], [0.9, 0, 0], [0.7, 0, 0]])
    assert ranks(image, captions, torch.tensor([7]), torch.tensor([7, 7, 8, 9])).tolist() == [2]


def test_a_perfect_model_scores_everything() -> None:
    features, ids = torch.eye(30), torch.arange(30)
    assert recalls(ranks(features, features, ids, ids)) == {1: 1.0, 5: 1.0, 10: 1.0}


def test_a_collapsed_model_scores_what_guessing_scores() -> None:
    one_point, ids = torch.ones(40, 8), torch.arange(40)
    found = recalls(ranks(one_point, one_point, ids, ids))
    assert found == {k: pytest.approx(chance_recall(k, 40)) for k in (1, 5, 10)}


def test_an_untrained_model_scores_what_guessing_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(2000, 16, generator=generator) for _ in range(2))
    ids = torch.arange(2000)
    found = recalls(ranks(images, texts, ids, ids))
    for k, share in found.items():
        chance = k / 2000
        assert abs(share - chance) < 4 * (chance * (1 - chance) / 2000) ** 0.5


def test_chance_by_hand() -> None:
    assert chance_recall(1, 10) == pytest.approx(0.1)
    assert chance_recall(10, 4) == 1.0
    assert chance_recall(2, 4, num_right=2) == pytest.approx(5 / 6)


@given(VECTORS, VECTORS, st.data())
def test_one_pass_gives_both_directions(images: list[Vector], texts: list[Vector], data: st.DataObject) -> None:
    # Each image has a caption, in any order.
    texts = (texts * len(images))[: max(len(texts), len(images))]
    more = [data.draw(st.integers(0, len(images) - 1)) for _ in texts[len(images) :]]
    owners = data.draw(st.permutations([*range(len(images)), *more]))
    max_scores = data.draw(st.integers(1, 100))
    both = ranks_both_ways(torch.tensor(images).float(), torch.tensor(texts).float(), torch.tensor(owners), max_scores)
    places = list(range(len(images)))
    assert both[0].tolist() == brute_force_ranks(texts, images, owners, places)
    assert both[1].tolist() == brute_force_ranks(images, texts, places, owners)


@pytest.mark.parametrize("max_scores", [None, 5000, 1 << 20])
def test_a_model_of_one_point_scores_what_guessing_scores_in_any_tile(max_scores: int | None) -> None:
    # No whole numbers: a similarity must be the same number wherever in a tile it is made.
    point = normalize(torch.randn(1, 48, generator=torch.Generator().manual_seed(3)), dim=-1)
    images, texts, owners = point.expand(300, 48), point.expand(900, 48), torch.arange(900) // 3
    of_texts, of_images = ranks_both_ways(images, texts, owners, max_scores)
    assert of_texts.tolist() == owners.tolist()
    assert of_images.tolist() == list(range(0, 900, 3))


def test_a_tile_may_be_of_any_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(17, 8, generator=generator), torch.randn(51, 8, generator=generator)
    owners = torch.arange(51) % 17
    wanted = ranks(texts, images, owners, torch.arange(17)), ranks(images, texts, torch.arange(17), owners)
    for max_scores in (1, 2, 3, 50, 997, 5000, 1 << 30):
        found = ranks_both_ways(images, texts, owners, max_scores)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])


def test_a_query_without_a_right_answer_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="without a right answer"):
        ranks(torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0, 5]), torch.tensor([0, 1]))


def test_an_interval_is_that_of_a_plain_bootstrap_over_images() -> None:
    generator = np.random.default_rng(1)
    counts = generator.integers(1, 6, 60)
    hits = generator.binomial(counts, generator.beta(1, 1, 60))
    drawn = generator.integers(0, 60, (20_000, 60))
    shares = hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    wanted = np.quantile(shares, (0.025, 0.975))
    assert resampled_interval(hits, counts) == pytest.approx(wanted, abs=0.01)
    # Captions of one image hit together: an interval that took them for independent would be too narrow.
    low, high = bootstrap_interval(int(hits.sum()), int(counts.sum()))
    assert high - low < 0.8 * (wanted[1] - wanted[0])


def test_with_one_caption_an_image_the_interval_is_zeroshots() -> None:
    hits = (np.arange(400) % 7 == 0).astype(np.int64)
    found, wanted = resampled_interval(hits, np.ones(400, np.int64)), bootstrap_interval(int(hits.sum()), 400)
    assert found == pytest.approx(wanted, abs=0.005)
    assert resampled_interval(np.zeros(5, np.int64), np.ones(5, np.int64)) == (0.0, 0.0)
