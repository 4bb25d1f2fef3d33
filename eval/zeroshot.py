"""Zero-shot classification: an image's class is the one whose description it is most similar to.

A class is described by the mean of its prompts' unit embeddings, scaled to unit length again (clip's protocol, which
CLIPA follows). Top-k is the share of images whose class is among the k most similar; equally similar classes stand in
the folder's order, so a model that maps everything to one point scores what guessing scores (`eval.retrieval.ranks`).

Images are resized and cropped to the res of the budget that the checkpoint was trained at, and prompts cut to its text
tokens. An interval is a bootstrap over images: it says how far another draw of as many such images might lie, and
nothing about another training run.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from eval import figures
from eval.class_folder import ClassFolder, Unreadable, open_class_folder, read_batches, read_pixels, thumbnail
from eval.figures import percent
from eval.retrieval import Encoder, check_finite, ranks
from eval.templates import find_templates
from pipelines.contract import TokenBudget
from prep.errors import UserError
from prep.progress import bar
from train.text_tokens import num_too_long, tokens_of

TOP = 5
NUM_EXAMPLES = 32
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """top1 is a fraction, None for a class without a readable image (it still is a possible answer)."""

    name: str
    num_images: int
    top1: float | None


@dataclass(frozen=True, slots=True)
class ZeroShotExample:
    """One image of the set, its class and the most similar class."""

    file: Path
    class_name: str
    predicted: str


@dataclass(frozen=True, slots=True)
class ZeroShotResult:
    """Accuracies and chance levels are fractions, intervals 95%.

    top5 and what belongs to it are None with five classes or fewer, where it would say nothing.
    mean_class_top1: the mean of the classes' accuracies, each class counting the same.
    num_prompts_cut: prompts longer than the budget's text tokens, which lost their end.
    """

    folder: str
    templates: str
    num_classes: int
    num_images: int
    num_prompts_cut: int
    top1: float
    top1_interval: Interval
    chance_top1: float
    top5: float | None
    top5_interval: Interval | None
    chance_top5: float | None
    mean_class_top1: float
    per_class: tuple[ClassAccuracy, ...]
    unreadable: tuple[Unreadable, ...]
    examples: tuple[ZeroShotExample, ...]

    def to_json(self) -> dict[str, Any]:
        """What `eval.json` holds of it: the fields, paths as strings, and num_unreadable."""
        value = asdict(self)
        for entry in value["unreadable"]:
            entry["path"] = str(entry["path"])
        for entry in value["examples"]:
            entry["file"] = str(entry["file"])
        return {**value, "num_unreadable": len(self.unreadable)}


def bootstrap_interval(num_hits: int, num: int, seed: int = 0, num_resamples: int = 10_000) -> Interval:
    """The central 95% of an accuracy under resampling of images (percentile bootstrap; Efron 1979).

    The hits in `num` draws with replacement from images of which `num_hits` are hits are Binomial(num, num_hits /
    num), so the resamples are drawn as such. With no hits, or nothing but hits, the interval is one point: a bootstrap
    cannot see what the sample does not hold.
    """
    shares = np.random.default_rng(seed).binomial(num, num_hits / num, num_resamples) / num
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def prompt_tokens(
    prompts: list[str], text_tokens: int, tokenizer: str = "clip", end_token: bool = True
) -> tuple[Tensor, int]:
    """Token ids int64 [P, text_tokens] and how many of the prompts had to be cut; see `train.text_tokens`."""
    of_model = text_tokens, tokenizer, end_token
    return tokens_of(prompts, *of_model), num_too_long(prompts, *of_model)


def class_embeddings(
    model: Encoder,
    class_names: tuple[str, ...],
    templates: tuple[str, ...],
    text_tokens: int,
    device: str = "cpu",
    tokenizer: str = "clip",
    end_token: bool = True,
) -> tuple[Tensor, int]:
    """Unit vectors float [C, D], one a class, and the number of prompts that `text_tokens` cut.

    Each prompt's embedding is normalised, a class's are averaged, the average normalised (clip's prompt ensemble).
    """
    prompts = [template.format(name) for name in class_names for template in templates]
    tokens, num_cut = prompt_tokens(prompts, text_tokens, tokenizer, end_token)
    parts = [model.encode_text(part.to(device)).float() for part in tokens.split(1024)]
    embeddings = normalize(check_finite(torch.cat(parts), "prompts"), dim=-1)
    return normalize(embeddings.unflatten(0, (len(class_names), len(templates))).mean(dim=1), dim=-1), num_cut


def _encode(
    model: Encoder, folder: ClassFolder, res: int, batch_size: int, device: str
) -> tuple[Tensor, Tensor, tuple[Unreadable, ...]]:
    """Image features float [N, D], their places in the folder's files int64 [N], and what could not be read."""
    features, index = [], []
    unreadable: list[Unreadable] = []
    with bar(len(folder.files), f"zero-shot {folder.path.name}", "images") as progress:
        for batch in read_batches(folder, res, batch_size):
            unreadable += batch.unreadable
            if len(batch.index):
                features.append(model.encode_image(batch.images.to(device)).float())
                index.append(batch.index)
            progress.advance(len(batch.index) + len(batch.unreadable))
    if not features:
        first = f"{unreadable[0].path.name}: {unreadable[0].problem}"
        raise UserError(
            str(folder.path),
            f"none of its {len(folder.files):,} files is a readable image; {first}",
            "Point at a folder that has one folder of images per class.",
        )
    return check_finite(torch.cat(features), "images"), torch.cat(index), tuple(unreadable)


def _per_class(names: tuple[str, ...], labels: Tensor, hits: Tensor) -> tuple[ClassAccuracy, ...]:
    num = labels.bincount(minlength=len(names)).tolist()
    num_hits = labels[hits].bincount(minlength=len(names)).tolist()
    return tuple(ClassAccuracy(name, n, h / n if n else None) for name, n, h in zip(names, num, num_hits, strict=True))


def _drawn(labels: Tensor, num: int, seed: int) -> Tensor:
    """Places int64 [<= num] of images drawn by the seed, not chosen by how well they do, evenly over the classes."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    met: Counter[int] = Counter()
    turns = []
    for label in labels[shuffled].tolist():
        turns.append(met[label])
        met[label] += 1
    return shuffled[torch.tensor(turns).argsort(stable=True)[:num]]


def _examples(
    folder: ClassFolder, files: Tensor, features: Tensor, classes: Tensor, seed: int
) -> tuple[ZeroShotExample, ...]:
    """files: int64 [N], the features' places in the folder's files."""
    drawn = _drawn(torch.from_numpy(folder.labels)[files], NUM_EXAMPLES, seed)
    predicted = (features[drawn.to(features.device)] @ classes.T).argmax(dim=1).tolist()
    return tuple(
        ZeroShotExample(folder.files[file], folder.class_names[folder.labels[file]], folder.class_names[answer])
        for file, answer in zip(files[drawn].tolist(), predicted, strict=True)
    )


def evaluate(
    model: Encoder,
    budget: TokenBudget,
    folder: Path,
    templates: str = "simple",
    batch_size: int = 128,
    device: str = "cpu",
    seed: int = 0,
    tokenizer: str = "clip",
    end_token: bool = True,
) -> ZeroShotResult:
    """Top-1 and top-5 on a folder per class, at the budget's res and text tokens; `seed` is the bootstrap's.

    tokenizer, end_token: of the model, as in `train.model_config.TextConfig`.

    Raises `UserError` when the folder is no such set (see `open_class_folder`), none of its files can be read, the
    list of templates is unknown, or the model gives embeddings that are not finite.
    """
    sentences = find_templates(templates)
    opened = open_class_folder(folder)
    num_classes = len(opened.class_names)
    with torch.inference_mode():
        classes, num_cut = class_embeddings(
            model, opened.class_names, sentences, budget.text_tokens, device, tokenizer, end_token
        )
        features, index, unreadable = _encode(model, opened, budget.res, batch_size, device)
        labels = torch.from_numpy(opened.labels)[index]
        places = torch.arange(num_classes, device=features.device)
        rank = ranks(features, classes, labels.to(features.device), places).cpu()
        examples = _examples(opened, index, features, classes, seed)
    num, top1, top5 = len(rank), int((rank < 1).sum()), int((rank < TOP).sum())
    per_class = _per_class(opened.class_names, labels, rank < 1)
    tells = num_classes > TOP
    return ZeroShotResult(
        folder=str(folder),
        templates=templates,
        num_classes=num_classes,
        num_images=num,
        num_prompts_cut=num_cut,
        top1=top1 / num,
        top1_interval=bootstrap_interval(top1, num, seed),
        chance_top1=1 / num_classes,
        top5=top5 / num if tells else None,
        top5_interval=bootstrap_interval(top5, num, seed) if tells else None,
        chance_top5=TOP / num_classes if tells else None,
        mean_class_top1=float(np.mean([entry.top1 for entry in per_class if entry.top1 is not None])),
        per_class=per_class,
        unreadable=unreadable,
        examples=examples,
    )


def interval_text(interval: Interval) -> str:
    """As people read it: 29.3–33.4%."""
    low, high = interval
    return f"{low * 100:.1f}–{high:.1%}"


def draw(result: ZeroShotResult, path: Path) -> None:
    """The result's examples as a grid of pictures with their answers, a PNG at `path`."""
    tiles = [
        figures.Tile(thumbnail(read_pixels(example.file)), example.class_name, example.predicted)
        for example in result.examples
    ]
    title = f"Zero-shot: {percent(result.top1)} of {result.num_images:,} images right"
    what = f"{Path(result.folder).name}, {result.num_classes:,} classes"
    spread = f"95% interval {interval_text(result.top1_interval)}, guessing {percent(result.chance_top1)}"
    figures.zeroshot(tiles, title, f"{what}; {spread}; images drawn at random, evenly over classes", path)
