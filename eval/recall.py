"""Ranks and recall: where the right answer stands among all answers, for any number of queries and answers.

Recall@k is the share of queries with a right answer among their first k. A query's answers are in the order of a
stable sort by cosine similarity: the **rank** of the right one is the number of wrong ones that are strictly more
similar, plus the equally similar ones that stand before it. So a model that maps everything to one point scores what
guessing scores, not 100%, and captions that read the same share their hits. A query with several right answers has the
rank of the best of them (as CLIP_benchmark counts hits).

Similarities are made a tile at a time, small enough for a processor's cache, and one tile serves both directions.
Beside the features, memory is a tile and a few numbers a query and an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import comb, isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RECALLS = (1, 5, 10)
_TILE = {"cpu": 1 << 19}
"""Similarities held at a time: 2 MiB on CPUs, where larger tiles leave the second-level cache; else _LARGE_TILE."""
_LARGE_TILE = 1 << 26

Interval = tuple[float, float]


@dataclass
class _Side:
    """One direction: best similarity float [N] of a right answer, `first` int64 [N], the place of the first such one,
    and how many wrong answers stand before it, int64 [N].
    """

    best: Tensor
    first: Tensor
    count: Tensor = field(init=False)
    _below: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.count = torch.zeros_like(self.first)
        self._below = torch.nextafter(self.best, self.best.new_tensor(-torch.inf))

    @staticmethod
    def of(pair_scores: Tensor, queries: Tensor, answers: Tensor, num: int) -> "_Side":
        """From the right pairs: their similarities float [P], and the places of their ends, int64 [P] each."""
        best = pair_scores.new_full((num,), -torch.inf).scatter_reduce(0, queries, pair_scores, "amax")
        level = pair_scores == best[queries]
        end = torch.full((num,), torch.iinfo(torch.int64).max, device=queries.device)
        return _Side(best, end.scatter_reduce(0, queries[level], answers[level], "amin"))

    def add(self, scores: Tensor, flags: Tensor, own: slice, other: slice) -> None:
        """Count what stands before the right answers in a tile, float [own, other], right pairs at -inf.

        flags: the same shape and type, to write to. Where the tile lies before `first` as a whole, equals count too.
        """
        best, first = self.best[own], self.first[own]
        limit = torch.where(first >= other.stop, self._below[own], best)
        # Sums of ones in the type of the scores are several times as fast as those of booleans.
        self.count[own] += torch.gt(scores, limit[:, None], out=flags).sum(dim=1).long()
        within = ((first > other.start) & (first < other.stop)).nonzero()[:, 0]
        if len(within):
            place = torch.arange(other.start, other.stop, device=first.device)
            level = (scores[within] == best[within, None]) & (place < first[within, None])
            self.count[own.start + within] += level.sum(dim=1)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The right pairs, by tile: rows and columns int64 [P], and starts, {(tile's row, tile's column): (start, end)}."""

    rows: Tensor
    columns: Tensor
    inside: dict[tuple[int, int], tuple[int, int]]
    height: int
    width: int

    @staticmethod
    def of(rows: Tensor, columns: Tensor, shape: tuple[int, int], max_scores: int) -> "_Pairs":
        height = max(1, min(isqrt(max_scores // 2), shape[0]))
        width = max(1, min(max_scores // height, shape[1]))
        num_across = -(-shape[1] // width)
        tile = rows // height * num_across + columns // width
        tile, order = tile.sort()
        found, counts = tile.unique_consecutive(return_counts=True)
        ends = counts.cumsum(0).tolist()
        inside = {
            divmod(number, num_across): (end - count, end)
            for number, count, end in zip(found.tolist(), counts.tolist(), ends, strict=True)
        }
        return _Pairs(rows[order], columns[order], inside, height, width)

    def tiles(self, shape: tuple[int, int]) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
        """Every tile: its rows, its columns, and which pairs lie in it."""
        for row in range(-(-shape[0] // self.height)):
            for column in range(-(-shape[1] // self.width)):
                yield *self.bounds(row, column, shape), self.inside.get((row, column), (0, 0))

    def bounds(self, row: int, column: int, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of one tile."""
        top, left = row * self.height, column * self.width
        return slice(top, min(top + self.height, shape[0])), slice(left, min(left + self.width, shape[1]))

    def scores(self, left: Tensor, right: Tensor) -> Tensor:
        """The similarities of the pairs, float [P], out of the very tiles that will be counted: equals stay equal."""
        found, shape = left.new_empty(len(self.rows)), (len(left), len(right))
        for (row, column), (start, end) in self.inside.items():
            own, other = self.bounds(row, column, shape)
            tile = left[own] @ right[other].T
            found[start:end] = tile[self.rows[start:end] - own.start, self.columns[start:end] - other.start]
        return found


def _count(
    left: Tensor, right: Tensor, rows: Tensor, columns: Tensor, both: bool, max_scores: int | None
) -> list[Tensor]:
    """Ranks of the rows, and where `both` those of the columns, from the right pairs (rows[i], columns[i])."""
    shape = len(left), len(right)
    pairs = _Pairs.of(rows, columns, shape, max_scores or _TILE.get(left.device.type, _LARGE_TILE))
    scores = pairs.scores(left, right)
    there = _Side.of(scores, pairs.rows, pairs.columns, shape[0])
    back = _Side.of(scores, pairs.columns, pairs.rows, shape[1]) if both else None
    for side in (there, back):
        assert side is None or bool(side.best.isfinite().all()), "a query without a right answer"
    for own, other, (start, end) in pairs.tiles(shape):
        tile = left[own] @ right[other].T
        flags = torch.empty_like(tile)
        tile[pairs.rows[start:end] - own.start, pairs.columns[start:end] - other.start] = -torch.inf
        there.add(tile, flags, own, other)
        if back is not None:
            back.add(tile.T, flags.T, other, own)
    return [side.count for side in (there, back) if side is not None]


def ranks(
    queries: Tensor, gallery: Tensor, query_ids: Tensor, gallery_ids: Tensor, max_scores: int | None = None
) -> Tensor:
    """The rank of each query's best right answer, int64 [Q], 0 the best; see the module's docstring for ties.

    queries: float [Q, D]. gallery: float [G, D]. query_ids int64 [Q], gallery_ids int64 [G]: an answer is right when
    its id is the query's; each query has at least one. max_scores: similarities held at a time.
    """
    ordered, order = gallery_ids.sort(stable=True)
    starts, ends = (torch.searchsorted(ordered, query_ids, right=right) for right in (False, True))
    counts = ends - starts
    rows = torch.arange(len(queries), device=counts.device).repeat_interleave(counts)
    within = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    return _count(queries, gallery, rows, order[starts[rows] + within], False, max_scores)[0]


def ranks_both_ways(
    images: Tensor, texts: Tensor, owners: Tensor, max_scores: int | None = None
) -> tuple[Tensor, Tensor]:
    """Ranks of images for captions, int64 [C], and of captions for images, int64 [I]; as two calls of `ranks` give.

    images: float [I, D]. texts: float [C, D]. owners: int64 [C], each caption's image; each image has at least one.
    """
    columns = torch.arange(len(texts), device=texts.device)
    of_images, of_texts = _count(images, texts, owners, columns, True, max_scores)
    return of_texts, of_images


def recalls(rank: Tensor) -> dict[int, float]:
    """Recall@k for each k of RECALLS, from ranks int64 [Q]."""
    return {k: float((rank < k).double().mean()) for k in RECALLS}


def chance_recall(k: int, num_answers: int, num_right: int = 1) -> float:
    """Recall@k of guessing: the chance that k of num_answers, drawn without replacement, include a right one."""
    drawn = min(k, num_answers)
    return 1.0 - comb(num_answers - num_right, drawn) / comb(num_answers, drawn)


def resampled_interval(
    hits: NDArray[np.int64], counts: NDArray[np.int64], seed: int = 0, num_resamples: int = 10_000
) -> Interval:
    """The central 95% of sum(hits) / sum(counts) when groups are drawn with replacement (Efron 1979, percentiles).

    hits, counts: int64 [N], a group (an image with all its captions) each: queries that hit, and queries. Groups that
    agree in both are alike, so a resample is one multinomial draw over the kinds of group, however many groups.
    """
    kinds, sizes = np.unique(np.stack([hits, counts], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(hits), sizes / len(hits), num_resamples)
    shares = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)
