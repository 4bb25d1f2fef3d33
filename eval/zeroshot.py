"""Zero-shot classification: an image's class is the one whose description it is most similar to.

A class is described by its prompts (`eval.prompts`). Top-k is the share of images whose class is among the k most
similar; equally similar classes stand in the set's order, so a model that maps everything to one point scores what
guessing scores (`eval.scores.class_ranks`).

Images are brought to the res of the budget that the checkpoint was trained at, and prompts cut to its text tokens. An
interval is a bootstrap over images: it says how far another draw of as many such images might lie, and nothing about
another training run.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.features import Features, image_features
from eval.labelled import LabelledSet, Unreadable, open_labelled
from eval.preprocess import Preprocess
from eval.prompts import class_embeddings, cut_prompts, prompt_tokens
from eval.retrieval import Encoder
from eval.scores import (
    ClassAccuracy,
    Confusion,
    Interval,
    best_of_names,
    bootstrap_interval,
    by_class,
    class_ranks,
    confusions,
    interval_text,
)
from eval.templates import find_templates
from pipelines.contract import TokenBudget

__all__ = [
    "BudgetScore",
    "ZeroShotExample",
    "ZeroShotResult",
    "bootstrap_interval",
    "class_embeddings",
    "evaluate",
    "interval_text",
    "prompt_tokens",
]

TOP = 5
NUM_SHOWN = 8
NUM_EXAMPLES = 32
_NUM_UNMATCHED = 20
# Of a pair of classes, each way.
_NUM_CONFUSED = 4


@dataclass(frozen=True, slots=True)
class ZeroShotExample:
    """One image of the set, its class and the most similar class. index: its place in the set."""

    file: Path | str
    class_name: str
    predicted: str
    index: int


@dataclass(frozen=True, slots=True)
class BudgetScore:
    """The same model at one of the budgets that it was trained at; fields as in `ZeroShotResult`."""

    res: int
    text_tokens: int
    top1: float
    top1_interval: Interval
    top5: float | None
    num_prompts_cut: int
    num_names_cut: int


@dataclass(frozen=True, slots=True)
class ZeroShotResult:
    """Accuracies and chance levels are fractions, intervals 95%.

    res, text_tokens: what the model saw. preprocess: one of eval.preprocess.KINDS. top5 and what belongs to it are None
    with five classes or fewer, where it would say nothing. mean_class_top1: the mean of the classes' accuracies, each
    class counting the same. num_prompts_cut: prompts longer than the text tokens, which lost their end; num_names_cut:
    of these, those that lost the class's name or a part of it; names_cut: the names that did. num_without_class: images
    of no class of the list, which were not judged; unmatched: their commonest labels. faults count as unreadable.
    confusions: pairs of classes by their mistakes; confused: pictures of the first of them. at_budgets: the scores at
    each (res, text tokens) that the model was trained at, in the order of its stages; empty where they were not asked.
    """

    folder: str
    templates: str
    preprocess: str
    res: int
    text_tokens: int
    num_classes: int
    num_images: int
    num_without_class: int
    unmatched: Mapping[str, int]
    num_prompts_cut: int
    num_names_cut: int
    names_cut: tuple[str, ...]
    top1: float
    top1_interval: Interval
    chance_top1: float
    top5: float | None
    top5_interval: Interval | None
    chance_top5: float | None
    mean_class_top1: float
    per_class: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]
    unreadable: tuple[Unreadable, ...]
    examples: tuple[ZeroShotExample, ...]
    confused: tuple[ZeroShotExample, ...]
    at_budgets: tuple[BudgetScore, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `eval.json` holds of it: the fields, paths as strings, and num_unreadable."""
        value = asdict(self)
        for entry in value["unreadable"]:
            entry["path"] = str(entry["path"])
        for entry in (*value["examples"], *value["confused"]):
            entry["file"] = str(entry["file"])
        return {**value, "num_unreadable": len(self.unreadable)}

    def at_budget(self) -> BudgetScore:
        """The score alone."""
        return BudgetScore(**{name: getattr(self, name) for name in BudgetScore.__dataclass_fields__})


def _drawn(labels: Tensor, num: int, seed: int) -> Tensor:
    """Places int64 [<= num] of images drawn by the seed, not chosen by how well they do, evenly over the classes."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    met: Counter[int] = Counter()
    turns = []
    for label in labels[shuffled].tolist():
        turns.append(met[label])
        met[label] += 1
    return shuffled[torch.tensor(turns).argsort(stable=True)[:num]]


def _predicted(features: Tensor, embedded: Tensor, num_names: list[int], labels: Tensor, hits: Tensor) -> Tensor:
    """The answer to each image, int64 [N]: its class where it is a hit, else the most similar one."""
    parts = (part.to(embedded.device) @ embedded.T for part in features.split(4096))
    found = [best_of_names(scores, num_names).argmax(dim=1).cpu() for scores in parts]
    return torch.where(hits, labels, torch.cat(found))


def _confused(pairs: tuple[Confusion, ...], labels: Tensor, predicted: Tensor, seed: int) -> list[int]:
    """Places of images of each pair, a few of either class, drawn by the seed."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    found: list[int] = []
    for a, b in (ways for pair in pairs for ways in (pair.classes, pair.classes[::-1])):
        found += shuffled[(labels[shuffled] == a) & (predicted[shuffled] == b)][:_NUM_CONFUSED].tolist()
    return found


def evaluate(
    model: Encoder,
    budget: TokenBudget,
    labelled: LabelledSet | Path,
    templates: str = "simple",
    batch_size: int = 128,
    device: str = "cpu",
    seed: int = 0,
    tokenizer: str = "clip",
    end_token: bool = True,
    preprocess: str = "centre",
    cache: Path | None = None,
    model_key: str = "",
) -> ZeroShotResult:
    """Top-1 and top-5 on a labelled set, at the budget's res and text tokens; `seed` is the bootstrap's.

    tokenizer, end_token: of the model, as in `train.model_config.TextConfig`. preprocess: one of eval.preprocess.KINDS.
    cache, model_key: see `eval.features.image_features`.

    Raises `UserError` when the path is no such set (see `open_labelled`), none of its images can be read, the list of
    templates is unknown, or the model gives embeddings that are not finite.
    """
    sentences = find_templates(templates)
    opened = labelled if isinstance(labelled, LabelledSet) else open_labelled(labelled)
    text = budget.text_tokens, tokenizer, end_token
    with torch.inference_mode():
        names = [name for names in opened.names_of_classes for name in names]
        embedded, _ = class_embeddings(model, names, sentences, text[0], device, *text[1:])
        how = Preprocess(budget.res, preprocess)
        features = image_features(model, opened, how, batch_size, device, cache, model_key)
        cut = cut_prompts(names, sentences, *text)
        facts: dict[str, Any] = {
            "folder": str(opened.path),
            "templates": templates,
            "preprocess": preprocess,
            "res": budget.res,
            "text_tokens": budget.text_tokens,
            "num_prompts_cut": cut.num,
            "num_names_cut": cut.num_names,
            "names_cut": cut.classes,
        }
        return ZeroShotResult(**facts, **_answers(opened, features, embedded, seed))


def _answers(opened: LabelledSet, features: Features, embedded: Tensor, seed: int) -> dict[str, Any]:
    """All of a result that images decide. embedded: float [A, D], the names that classes are asked by."""
    names, index = opened.class_names, features.index
    num_names = [len(of_class) for of_class in opened.names_of_classes]
    labels = torch.from_numpy(opened.labels)[index]
    rank = class_ranks(features.values, embedded, num_names, labels)
    predicted = _predicted(features.values, embedded, num_names, labels, rank < 1)
    pairs = confusions(names, labels, predicted)

    def examples(chosen: list[int]) -> tuple[ZeroShotExample, ...]:
        images = [(int(index[place]), names[int(labels[place])], names[int(predicted[place])]) for place in chosen]
        return tuple(ZeroShotExample(opened.named(place), truth, answer, place) for place, truth, answer in images)

    num, top1, top5 = len(rank), int((rank < 1).sum()), int((rank < TOP).sum())
    tells = len(names) > TOP
    per_class = by_class(names, labels, rank < 1)
    return {
        "num_classes": len(names),
        "num_images": num,
        "num_without_class": sum(opened.unmatched.values()),
        "unmatched": dict(Counter(opened.unmatched).most_common(_NUM_UNMATCHED)),
        "top1": top1 / num,
        "top1_interval": bootstrap_interval(top1, num, seed),
        "chance_top1": 1 / len(names),
        "top5": top5 / num if tells else None,
        "top5_interval": bootstrap_interval(top5, num, seed) if tells else None,
        "chance_top5": TOP / len(names) if tells else None,
        "mean_class_top1": float(np.mean([entry.top1 for entry in per_class if entry.top1 is not None])),
        "per_class": per_class,
        "confusions": pairs,
        "unreadable": (*opened.faults, *features.unreadable),
        "examples": examples(_drawn(labels, NUM_EXAMPLES, seed).tolist()),
        "confused": examples(_confused(pairs[:NUM_SHOWN], labels, predicted, seed)),
    }
