"""Retrieval: for each caption find its image among all images of a set, and for each image one of its captions.

What recall@k counts, and how ties fall, is in `eval.recall`. Images that cannot be read are counted and named, and
their captions go with them. An interval is a bootstrap over images, each drawn with all its captions: it says how far
another draw of as many such images might lie, and nothing about another training run.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from eval import figures
from eval.captioned import CaptionedSet, CaptionedSource, ModelInput, open_captioned
from eval.figures import percent
from eval.labelled_set import Unreadable
from eval.preprocess import thumbnail
from eval.recall import RECALLS, chance_recall, ranks, ranks_both_ways, recalls, resampled_interval
from eval.retrieval_result import RetrievalExample, RetrievalResult
from pipelines.contract import TokenBudget
from prep.errors import UserError
from prep.progress import bar

__all__ = ["Encoder", "NotFinite", "RetrievalResult", "chance_recall", "check_finite", "evaluate", "ranks", "recalls"]

NUM_SHOWN = 5


class Encoder(Protocol):
    """The two halves of a CLIP; `train.model.CLIP` is one."""

    def encode_image(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, R, R] to L2-normalised float [B, D]."""
        ...

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids int64 [B, T] to L2-normalised float [B, D]."""
        ...


class NotFinite(UserError):
    """A model whose embeddings are no numbers: its own fault, not that of what it is evaluated on."""


def check_finite(features: Tensor, what: str) -> Tensor:
    """The features unchanged. Raises `NotFinite` when any is not finite: next to NaN every answer would look right."""
    bad = int((~features.isfinite().all(dim=1)).sum())
    if bad:
        raise NotFinite(
            "the model",
            f"wanted finite embeddings, but {bad:,} of {len(features):,} {what} came out as NaN or infinity",
            "The training diverged: evaluate an earlier checkpoint (--checkpoint), or train at a lower learning rate.",
        )
    return features


@dataclass(frozen=True, slots=True)
class _Encoded:
    """images: float [I, D]; index: int64 [I], their places in the set. texts: float [C, D]; owners: int64 [C], places
    among images.
    """

    images: Tensor
    index: Tensor
    texts: Tensor
    owners: Tensor
    num_distinct: int
    num_cut: int
    unreadable: tuple[Unreadable, ...]


def _encode(model: Encoder, opened: CaptionedSet, seen: ModelInput, batch_size: int, device: str) -> _Encoded:
    images, index, texts, owners = [], [], [], []
    # A digest for each caption: the tokens of half a million would be as large as their features.
    distinct: set[bytes] = set()
    unreadable, num_cut, num = list(opened.faults), 0, 0
    with bar(opened.num_images, "retrieval", "images") as progress:
        for batch in opened.read(seen, batch_size):
            unreadable += batch.unreadable
            progress.advance(len(batch.index) + len(batch.unreadable))
            if not len(batch.index):
                continue
            images.append(model.encode_image(batch.images.to(device)).float())
            texts += [model.encode_text(part.to(device)).float() for part in batch.tokens.split(batch_size)]
            index.append(batch.index)
            owners.append(batch.owners + num)
            num += len(batch.index)
            num_cut += batch.num_cut
            distinct.update(map(_digest, batch.tokens.numpy()))
    if not images:
        first = unreadable[0]
        problem = f"none of its {opened.num_images:,} images can be read; {first.path}: {first.problem}"
        raise UserError(str(opened.path), problem, "Check the path, and --images of a JSON file.")
    return _Encoded(
        check_finite(torch.cat(images), "images"),
        torch.cat(index),
        check_finite(torch.cat(texts), "captions"),
        torch.cat(owners),
        len(distinct),
        num_cut,
        tuple(unreadable),
    )


def _digest(tokens: NDArray[np.int64]) -> bytes:
    return xxhash.xxh3_128_digest(tokens.tobytes())


def _examples(encoded: _Encoded, rank: Tensor, num: int, seed: int) -> tuple[RetrievalExample, ...]:
    """`num` captions drawn by the seed, not chosen by how well they do, in the set's order."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(encoded.texts), generator=generator)[:num].sort().values
    scores = encoded.texts[drawn.to(encoded.texts.device)] @ encoded.images.T
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :NUM_SHOWN].cpu()
    first = torch.searchsorted(encoded.owners, encoded.owners[drawn])
    return tuple(
        RetrievalExample(int(encoded.index[encoded.owners[text]]), int(rank[text]), tuple(found), text - start)
        for text, start, found in zip(drawn.tolist(), first.tolist(), encoded.index[order].tolist(), strict=True)
    )


def _result(
    source: CaptionedSource, opened: CaptionedSet, budget: TokenBudget, encoded: _Encoded, num_examples: int, seed: int
) -> RetrievalResult:
    num_images, num_captions = len(encoded.images), len(encoded.texts)
    rank, back = (
        found.cpu() for found in ranks_both_ways(encoded.images, encoded.texts, encoded.owners.to(encoded.texts.device))
    )
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
        text_mask=opened.text_mask(budget),
        num_captions_cut=encoded.num_cut,
        num_captions_lost=opened.num_captions - num_captions,
        num_captions_empty=opened.num_empty,
        unreadable=encoded.unreadable,
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
) -> RetrievalResult:
    """Recall@1/5/10 in both directions over a whole set, at the budget's res and text tokens.

    source: a path alone stands for all captions there. tokenizer, end_token: of the model, as in
    `train.model_config.TextConfig`. kind: of `eval.preprocess.Preprocess`, for images that are not a store's.

    Raises `UserError` when the path is no retrieval set, a store was not built at `budget.res`, no image can be read,
    or the model gives embeddings that are not finite.
    """
    source = source if isinstance(source, CaptionedSource) else CaptionedSource(source)
    opened = open_captioned(source)
    with torch.inference_mode():
        encoded = _encode(model, opened, ModelInput(budget, tokenizer, end_token, kind), batch_size, device)
        return _result(source, opened, budget, encoded, num_examples, seed)


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
