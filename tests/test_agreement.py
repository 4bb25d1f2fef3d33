"""The same features and the same answers, judged by open_clip, CLIP_benchmark, scikit-learn and by us."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from eval.linear_probe import Points, fit
from eval.prompts import class_embeddings
from eval.recall import ranks
from eval.scores import by_class, confusions
from eval.templates import Templates, find_templates
from tests.open_clip_models import our_model, reduced, their_model
from train.model import CLIP

NAMES = ("tench", "Gordon Setter", "jack-o'-lantern", "kite (bird of prey)", "T-shirt", "missile", "goldfish")
CASES = ("random", "skewed")


def answers(case: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit features float [N, D], unit class embeddings [C, D] and labels int64 [N]; a skewed set is of few classes."""
    generator = torch.Generator().manual_seed(CASES.index(case))
    num, num_classes = (600, 40) if case == "random" else (90, 9)
    classes = normalize(torch.randn(num_classes, 16, generator=generator), dim=-1)
    drawn = torch.rand(num, generator=generator) ** (1 if case == "random" else 4)
    labels = (drawn * num_classes).long()
    features = normalize(classes[labels] + 0.5 * torch.randn(num, 16, generator=generator), dim=-1)
    return features, classes, labels


def our_ranks(features: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ranks(features, classes, labels, torch.arange(len(classes)))


def our_mean_per_class(names: int, labels: torch.Tensor, hits: torch.Tensor) -> float:
    found = [entry.top1 for entry in by_class([str(name) for name in range(names)], labels, hits)]
    return float(np.mean([share for share in found if share is not None]))


def mended(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both have float() of an array of one number, which numpy refuses since 2.4."""
    monkeypatch.setattr(module, "float", lambda value: np.asarray(value).item(), raising=False)
    return module


@pytest.fixture(scope="module")
def models() -> tuple[Any, CLIP]:
    """A small model of open_clip's with random weights, and ours with the same."""
    pytest.importorskip("open_clip")
    shape = reduced("ViT-B-16")
    theirs = their_model(shape)
    return theirs, our_model(shape, theirs)


@pytest.mark.parametrize("name", ["simple", "imagenet"])
def test_class_embeddings_are_open_clips(models: tuple[Any, CLIP], name: str) -> None:
    import open_clip

    theirs, ours = models
    sentences = list(find_templates(name)) if name == "simple" else open_clip.OPENAI_IMAGENET_TEMPLATES
    length = ours.budget.text_tokens
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    build = open_clip.build_zero_shot_classifier
    expected = build(theirs, tokenizer, list(NAMES), sentences, num_classes_per_batch=3).T
    with torch.inference_mode():
        found, num_cut = class_embeddings(ours, NAMES, find_templates(name), length)
    assert num_cut == 0
    assert found.shape == expected.shape == (len(NAMES), 32)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    # Classes differ by much more than that.
    assert torch.pdist(found).min() > 1e-3


def test_class_embeddings_are_clip_benchmarks(models: tuple[Any, CLIP]) -> None:
    import open_clip

    metrics = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    theirs, ours = models
    length = ours.budget.text_tokens
    sentences = [sentence.replace("{}", "{c}") for sentence in find_templates("imagenet")]
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    expected = metrics.zero_shot_classifier(theirs, tokenizer, list(NAMES), sentences, "cpu", amp=False).T
    with torch.inference_mode():
        found, _ = class_embeddings(ours, NAMES, find_templates("imagenet"), length)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_the_canonical_ensemble_is_the_mean_of_its_prompts(models: tuple[Any, CLIP]) -> None:
    _, ours = models
    length = ours.budget.text_tokens
    with torch.inference_mode():
        found, _ = class_embeddings(ours, NAMES, find_templates("imagenet-81"), length)
        prompts = [sentence.format("kite bird of prey") for sentence in find_templates("imagenet-81").sentences]
        plain, _ = class_embeddings(ours, prompts, Templates(("{}",)), length)
    mean = plain.double().mean(dim=0)
    torch.testing.assert_close(found[3].double(), mean / mean.norm(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_accuracy_is_open_clips(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zero_shot = mended(pytest.importorskip("open_clip_train.zero_shot"), monkeypatch)
    features, classes, labels = answers(case)
    rank = our_ranks(features, classes, labels)
    expected = zero_shot.accuracy(100 * features @ classes.T, labels, topk=(1, 5))
    assert [int((rank < k).sum()) for k in (1, 5)] == expected
    assert 0 < expected[0] < expected[1] <= len(labels)


@pytest.mark.parametrize("case", CASES)
def test_accuracy_and_mean_per_class_recall_are_clip_benchmarks(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = mended(pytest.importorskip("clip_benchmark.metrics.zeroshot_classification"), monkeypatch)
    features, classes, labels = answers(case)
    rank = our_ranks(features, classes, labels)

    class Loader(list[Any]):
        dataset = SimpleNamespace(classes=NAMES)

    monkeypatch.setattr(metrics, "zero_shot_classifier", lambda *_, **__: classes.T)
    loader = Loader(zip(features.split(50), labels.split(50), strict=True))
    model = SimpleNamespace(encode_image=lambda images: images)
    expected = metrics.evaluate(model, loader, None, None, None, "cpu", amp=False)
    assert float((rank < 1).double().mean()) == pytest.approx(expected["acc1"], abs=1e-6)
    assert float((rank < 5).double().mean()) == pytest.approx(expected["acc5"], abs=1e-6)
    mean = our_mean_per_class(len(classes), labels, rank < 1)
    assert mean == pytest.approx(expected["mean_per_class_recall"], abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_every_number_is_scikit_learns(case: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    features, classes, labels = answers(case)
    rank, scores = our_ranks(features, classes, labels), features @ classes.T
    predicted, places = scores.argmax(dim=1), np.arange(len(classes))
    assert float((rank < 1).double().mean()) == pytest.approx(metrics.accuracy_score(labels, predicted))
    for k in (2, 5):
        expected = metrics.top_k_accuracy_score(labels, scores, k=k, labels=places)
        assert float((rank < k).double().mean()) == pytest.approx(expected)
    mean = our_mean_per_class(len(classes), labels, rank < 1)
    assert mean == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    matrix = metrics.confusion_matrix(labels, predicted, labels=places).tolist()
    pairs = confusions([str(place) for place in places], labels, predicted, most=10_000)
    ways = {(a, b): (matrix[a][b], matrix[b][a]) for b in range(len(matrix)) for a in range(b)}
    assert {pair.classes: (pair.num_first, pair.num_second) for pair in pairs} == {
        pair: counts for pair, counts in ways.items() if any(counts)
    }
    assert [pair.num for pair in pairs] == sorted((pair.num for pair in pairs), reverse=True)


def test_where_scores_are_equal_the_rule_is_ours() -> None:
    """The others leave it to a sort; in the order of classes, a model of one answer scores what guessing does."""
    features, classes, labels = torch.ones(12, 4), torch.ones(6, 4), torch.arange(12) % 6
    rank = our_ranks(features, classes, labels)
    assert [float((rank < k).double().mean()) for k in (1, 2, 5)] == pytest.approx([1 / 6, 2 / 6, 5 / 6])


@pytest.mark.parametrize("num_classes", [2, 7])
@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_a_probe_answers_as_scikit_learn_does(num_classes: int, strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(3)
    labels = np.repeat(np.arange(num_classes), 30)
    values = generator.normal(size=(num_classes, 10))[labels] + generator.normal(size=(len(labels), 10))
    train, test = Points(values[::2], labels[::2]), Points(values[1::2], labels[1::2])
    # By another solver, which shares no code with L-BFGS.
    solver = linear_model.LogisticRegression(C=1 / strength, solver="newton-cg", max_iter=500, tol=1e-8)
    theirs = solver.fit(train.values, train.labels)
    ours = fit(train, strength)
    assert float(ours.hits(test).mean()) == metrics.accuracy_score(test.labels, theirs.predict(test.values))
    scores = test.values @ ours.weights.T + ours.bias
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, theirs.predict_proba(test.values), atol=1e-4)


def test_pixels_end_at_the_same_accuracy(models: tuple[Any, CLIP], monkeypatch: pytest.MonkeyPatch) -> None:
    """From pixels to top-1 with open_clip's model and classifier, and with ours."""
    import open_clip

    theirs, ours = models
    length, res = ours.budget.text_tokens, ours.budget.res
    images = torch.randint(0, 256, (40, 3, res, res), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = (
        torch.tensor(value)[:, None, None] for value in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    weights = open_clip.build_zero_shot_classifier(theirs, tokenizer, list(NAMES), open_clip.OPENAI_IMAGENET_TEMPLATES)
    with torch.inference_mode():
        expected = theirs.encode_image((images / 255 - mean) / std, normalize=True) @ weights
        classes, _ = class_embeddings(ours, NAMES, find_templates("imagenet"), length)
        features = ours.encode_image(images)
    found = features @ classes.T
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    labels = torch.arange(40) % len(NAMES)
    accuracy = mended(pytest.importorskip("open_clip_train.zero_shot"), monkeypatch).accuracy
    rank = our_ranks(features, classes, labels)
    assert [int((rank < k).sum()) for k in (1, 5)] == accuracy(100 * expected, labels, topk=(1, 5))
