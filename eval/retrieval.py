"""Retrieval: for each caption find its image among all images of a set, and for each image one of its captions.

What recall@k counts, and how ties fall, is in `eval.recall`. Images that cannot be read are counted and named, and
their captions go with them. An interval is a bootstrap over images, each drawn with all its captions: it says how far
another draw of as many such images might lie, and nothing about another training run.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval import figures
from eval.captioned import CaptionedSet, CaptionedSource, ModelInput, open_captioned
from eval.figures import percent
from eval.preprocess import thumbnail
from eval.recall import RECALLS, chance_recall, ranks, ranks_both_ways, recalls, resampled_interval
from eval.retrieval_features import Encoder, NotFinite, PairFeatures, check_finite, pair_features
from eval.retrieval_result import RetrievalExample, RetrievalResult
from pipelines.contract import TokenBudget

__all__ = ["Encoder", "NotFinite", "RetrievalResult", "chance_recall", "check_finite", "evaluate", "ranks", "recalls"]

NUM_SHOWN = 5


def _examples(encoded: PairFeatures, rank: Tensor, num: int, seed: int) -> tuple[RetrievalExample, ...]:
    """`num` captions drawn by the seed, not chosen by how well they do, in the set's order."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(encoded.texts), generator=generator)[:num].sort().values
    scores = encoded.texts[drawn] @ encoded.images.T
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :NUM_SHOWN]
    first = torch.searchsorted(encoded.owners, encoded.owners[drawn])
    return tuple(
        RetrievalExample(int(encoded.index[encoded.owners[text]]), int(rank[text]), tuple(found), text - start)
        for text, start, found in zip(drawn.tolist(), first.tolist(), encoded.index[order].tolist(), strict=True)
    )


def _result(
    source: CaptionedSource,
    opened: CaptionedSet,
    seen: ModelInput,
    encoded: PairFeatures,
    num_examples: int,
    seed: int,
    device: str,
) -> RetrievalResult:
    num_images, num_captions = len(encoded.images), len(encoded.texts)
    images, texts, owners = (tensor.to(device) for tensor in (encoded.images, encoded.texts, encoded.owners))
    rank, back = (found.cpu() for found in ranks_both_ways(images, texts, owners))
    counts = encoded.owners.bincount(minlength=num_images).numpy()
    per_image = Counter(counts.tolist())
    hits = {k: np.bincount(encoded.owners.numpy()[(rank < k).numpy()], minlength=num_images) for k in RECALLS}
    one = np.ones(num_images, np.int64)
    return RetrievalResult(
        store=str(source.path),
        num_images=num_images,
        num_captions=num_captions,
        num_distinct_captions=encoded.num_distinct,
        text_to_image=recalls(rank),
        image_to_text=recalls(back),
        chance={k: chance_recall(k, num_images) for k in RECALLS},
        examples=_examples(encoded, rank, num_examples, seed),
        chance_image_to_text={
            k: sum(num * chance_recall(k, num_captions, right) for right, num in per_image.items()) / num_images
            for k in RECALLS
        },
        text_to_image_interval={k: resampled_interval(hits[k], counts, seed) for k in RECALLS},
        image_to_text_interval={k: resampled_interval((back < k).long().numpy(), one, seed) for k in RECALLS},
        captions_per_image=dict(sorted(per_image.items())),
        images=str(source.images) if source.images else None,
        split=source.chosen_split,
        captions=source.captions,
        text_mask=opened.text_mask(seen.budget),
        num_captions_cut=encoded.num_cut,
        num_captions_lost=opened.num_captions - num_captions,
        num_captions_empty=opened.num_empty,
        unreadable=(*opened.faults, *encoded.unreadable),
        preprocess=opened.preprocess(seen.kind),
        preprocess_asked=seen.kind,
    )


def evaluate(
    model: Encoder,
    budget: TokenBudget,
    source: CaptionedSource | Path,
    batch_size: int = 128,
    device: str = "cpu",
    num_examples: int = 5,
    seed: int = 0,
    tokenizer: str = "clip",
    end_token: bool = True,
    kind: str = "centre",
    opened: CaptionedSet | None = None,
    cache: Path | None = None,
    model_key: str = "",
) -> RetrievalResult:
    """Recall@1/5/10 in both directions over a whole set, at the budget's res and text tokens.

    source: a path alone stands for all captions there. tokenizer, end_token: of the model, as in
    `train.model_config.TextConfig`. kind: of `eval.preprocess.Preprocess`, for images that are not a store's.
    opened: the set, where that is known. cache, model_key: see `eval.retrieval_features.pair_features`.

    Raises `UserError` when the path is no retrieval set, a store was not built at `budget.res`, no image can be read,
    or the model gives embeddings that are not finite.
    """
    source = source if isinstance(source, CaptionedSource) else CaptionedSource(source)
    opened = opened or open_captioned(source)
    seen = ModelInput(budget, tokenizer, end_token, kind)
    with torch.inference_mode():
        encoded = pair_features(model, opened, seen, batch_size, device, cache, model_key)
        return _result(source, opened, seen, encoded, num_examples, seed, device)


def draw(result: RetrievalResult, path: Path) -> None:
    """The result's examples as a line of pictures each, a PNG at `path`."""
    opened = open_captioned(result.source)
    rows = []
    for example in result.examples:
        own, *found = map(thumbnail, opened.pixels([example.row, *example.retrieved]))
        caption = opened.captions(example.row)[example.caption]
        rows.append(figures.RetrievalRow(caption, own, tuple(found), example.rank, result.num_images))
    first, five = (f"{percent(result.text_to_image[k])} (guessing {percent(result.chance[k])})" for k in (1, 5))
    drawn = f"{len(rows)} of {result.num_captions:,} captions, drawn at random"
    figures.retrieval(rows, f"{drawn}; framed: the right one. Of all, {first} find it first, {five} among five", path)
