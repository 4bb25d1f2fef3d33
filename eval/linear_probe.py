"""A linear classifier on frozen features: how well classes lie apart in what a model sees, whatever it calls them.

Logistic regression with an L2 penalty, by L-BFGS, on the features as they are. The penalty's strength is searched as
CLIP's paper does (Radford et al. 2021, arXiv 2103.00020, appendix A.3): among 97 strengths from 1e-6 to 1e6, eight a
decade, first seven far apart, then ever closer around the best on held-out images; of equally good ones the strongest.
The last fit takes the held-out images in again. With few images a class they do not, as in CLIP_benchmark: then they
choose the strength, and nothing is learned from them.

Unlike in the paper, features are what `encode_image` gives, after the projection and of unit length, as CLIP_benchmark
has them, and so fits run until they have converged: at scikit-learn's own tolerance, made for longer features, those of
a weak penalty end long before.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError

STRENGTHS = np.logspace(-6, 6, 97)
HELD_OUT = 0.2
MAX_STEPS = 1000
_TOLERANCE = 1e-7
_FIRST_STEP = 16
MAX_FITS = 7 + 2 * 4
"""Of one search: the first seven, and two at each halving of the step."""

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Points:
    """Features with their classes. values: float64 [N, D]. labels: int64 [N], 0 to C - 1."""

    values: Floats
    labels: Places

    def at(self, places: Places) -> "Points":
        """Those at int64 [M] places."""
        return Points(self.values[places], self.labels[places])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Linear:
    """A fitted classifier. weights: float64 [C, D]. bias: float64 [C]. converged: within MAX_STEPS."""

    weights: Floats
    bias: Floats
    converged: bool

    def ranks(self, points: Points) -> Places:
        """How many classes come before the right one for each point, int64 [N]; equal scores in the classes' order."""
        scores = points.values @ self.weights.T + self.bias
        own = np.take_along_axis(scores, points.labels[:, None], axis=1)
        before = np.arange(scores.shape[1]) < points.labels[:, None]
        return np.asarray(((scores > own) | ((scores == own) & before)).sum(axis=1), np.int64)

    def hits(self, points: Points) -> NDArray[np.bool_]:
        """Whether each point's class comes first, bool [N]."""
        return np.asarray(self.ranks(points) == 0)


@dataclass(frozen=True, slots=True)
class Search:
    """strength: of the penalty, scikit-learn's 1 / C. accuracy: of held-out points. num_unconverged: of its fits."""

    strength: float
    accuracy: float
    num_unconverged: int


def fit(points: Points, strength: float) -> Linear:
    """The classifier of least loss: summed cross entropy + strength / 2 x squared weights. Every class has a point.

    Raises `UserError` when scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        problem = "wanted the package scikit-learn; it is not installed"
        raise UserError("eval.probe", problem, "pip install scikit-learn") from error

    model = LogisticRegression(C=1 / strength, solver="lbfgs", max_iter=MAX_STEPS, tol=_TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # One or two images a class: it asks whether labels are classes.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.fit(points.values, points.labels)
    weights, bias = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(weights) == 1:  # of two classes the second's log odds
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weights, bias, bool(np.max(model.n_iter_) < MAX_STEPS))


def search_strength(train: Points, held_out: Points, fitted: Callable[[], None] = lambda: None) -> Search:
    """The strength that does best on the held-out points; `fitted` is called after each of at most MAX_FITS fits."""
    accuracy: dict[int, float] = {}
    unconverged = 0
    places, step = list(range(0, len(STRENGTHS), _FIRST_STEP)), _FIRST_STEP
    while True:
        for place in places:
            if place not in accuracy and 0 <= place < len(STRENGTHS):
                model = fit(train, float(STRENGTHS[place]))
                accuracy[place] = float(model.hits(held_out).mean())
                unconverged += not model.converged
                fitted()
        best = max(accuracy, key=lambda place: (accuracy[place], place))
        if step == 1:
            return Search(float(STRENGTHS[best]), accuracy[best], unconverged)
        step //= 2
        places = [best - step, best + step]


def in_drawn_order(labels: Places, seed: Sequence[int]) -> tuple[Places, Places]:
    """Places int64 [N] in an order that the seed draws, and for each how many of its class came before, int64 [N]."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_class], labels[by_class], side="left")
    return by_class, np.arange(len(labels)) - starts


def split(labels: Places, seed: int, share: float = HELD_OUT) -> tuple[Places, Places]:
    """Places to learn from and places held out: of each class `share`, rounded, but at least one of each kind.

    The only image of a class is one to learn from.
    """
    places, turns = in_drawn_order(labels, [seed, 0])
    num = np.bincount(labels)[labels[places]]
    out = turns < np.clip(np.rint(num * share), 1, num - 1)
    return np.sort(places[~out]), np.sort(places[out])


def shots_of(labels: Places, shots: int, seed: int, draw: int) -> Places:
    """`shots` places of each class, as the seed and the draw have it; more shots hold those of fewer."""
    places, turns = in_drawn_order(labels, [seed, 1, draw])
    return np.sort(places[turns < shots])


def interval(hits: NDArray[np.bool_], seed: int = 0, num_resamples: int = 10_000) -> Interval:
    """The central 95% of mean accuracy under resampling of both draws and images. hits: bool [draws, N].

    Draws and images are resampled independently, with replacement (the pigeonhole bootstrap, Owen 2007): the interval
    speaks of other images and, with few shots, of other training images too. One draw: over the images alone.
    """
    # Images that the same draws get right are alike: few kinds, however many images.
    kinds, num = np.unique(hits, axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    images = generator.multinomial(hits.shape[1], num / hits.shape[1], num_resamples)
    draws = generator.multinomial(len(hits), np.full(len(hits), 1 / len(hits)), num_resamples)
    shares = ((draws @ kinds.astype(np.int64)) * images).sum(axis=1) / hits.size
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)
