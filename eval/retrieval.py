"""Retrieval: for each caption find its image among all images of a store, and for each image its caption.

Recall@k is the share of queries with a right answer among their first k. A query's answers are in the order of a
stable sort by cosine similarity: the **rank** of the right one is the number of wrong ones that are strictly more
similar, plus the equally similar ones that stand before it. So a model that maps everything to one point scores what
guessing scores, not 100%, and captions that read the same share their hits.

Similarities are computed a few queries at a time, so memory stays bounded; `ranks` takes any number of right answers
per query, which is what several captions per image need.
"""

from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from eval import figures
from eval.class_folder import thumbnail
from eval.figures import percent
from pipelines.contract import TokenBudget
from pipelines.evaluation import batches
from pipelines.pixels import decode
from pipelines.store_view import ImageView
from prep.errors import UserError
from prep.progress import bar
from prep.store import Store, open_store

RECALLS = (1, 5, 10)
NUM_SHOWN = 5
_MAX_SCORES = 1 << 24


class Encoder(Protocol):
    """The two halves of a CLIP; `train.model.CLIP` is one."""

    def encode_image(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, R, R] to L2-normalised float [B, D]."""
        ...

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids int64 [B, T] to L2-normalised float [B, D]."""
        ...


@dataclass(frozen=True, slots=True)
class RetrievalExample:
    """One caption and what it found. row: the caption's own row in the store. rank: of its own image, 0 the best.

    retrieved: rows of the NUM_SHOWN most similar images, best first.
    """

    row: int
    rank: int
    retrieved: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Recalls as fractions, by k. chance: what guessing scores, by k, the same in both directions.

    num_distinct_captions: captions that still differ after the budget's text reduction; fewer than num_captions means
    that no model could reach 100%.
    """

    store: str
    num_images: int
    num_captions: int
    num_distinct_captions: int
    text_to_image: dict[int, float]
    image_to_text: dict[int, float]
    chance: dict[int, float]
    examples: tuple[RetrievalExample, ...]

    def to_json(self) -> dict[str, Any]:
        """What `eval.json` holds of it; the k become strings, as JSON has it."""
        value = asdict(self)
        for key in ("text_to_image", "image_to_text", "chance"):
            value[key] = {str(k): share for k, share in value[key].items()}
        return value


def ranks(
    queries: Tensor, gallery: Tensor, query_ids: Tensor, gallery_ids: Tensor, max_scores: int = _MAX_SCORES
) -> Tensor:
    """The rank of each query's best right answer, int64 [Q], 0 the best; see the module's docstring for ties.

    queries: float [Q, D]. gallery: float [G, D]. query_ids int64 [Q], gallery_ids int64 [G]: an answer is right when
    its id is the query's; each query has at least one. max_scores: similarities held at a time (at least one query's).
    """
    found = []
    position = torch.arange(len(gallery), device=gallery.device)
    size = max(1, max_scores // len(gallery))
    for part, ids in zip(queries.split(size), query_ids.split(size), strict=True):
        scores = part @ gallery.T
        right = gallery_ids == ids[:, None]
        assert bool(right.any(dim=1).all()), "a query without a right answer"
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        level = scores == best
        first = (level & right).int().argmax(dim=1, keepdim=True)
        found.append((scores > best).sum(dim=1) + (level & (position < first)).sum(dim=1))
    return torch.cat(found)


def recalls(rank: Tensor) -> dict[int, float]:
    """Recall@k for each k of RECALLS, from ranks int64 [Q]."""
    return {k: float((rank < k).double().mean()) for k in RECALLS}


def chance_recall(k: int, num_answers: int, num_right: int = 1) -> float:
    """Recall@k of guessing: the chance that k of num_answers, drawn without replacement, include a right one."""
    drawn = min(k, num_answers)
    return 1.0 - comb(num_answers - num_right, drawn) / comb(num_answers, drawn)


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


def _examples(images: Tensor, texts: Tensor, rank: Tensor, num: int, seed: int) -> tuple[RetrievalExample, ...]:
    """`num` captions drawn by the seed, not chosen by how well they do, in the store's order."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(texts), generator=generator)[:num].sort().values
    order = (texts[rows.to(texts.device)] @ images.T).sort(dim=1, descending=True, stable=True).indices[:, :NUM_SHOWN]
    return tuple(
        RetrievalExample(row, int(rank[row]), tuple(found))
        for row, found in zip(rows.tolist(), order.tolist(), strict=True)
    )


def evaluate(
    model: Encoder,
    budget: TokenBudget,
    store: Path,
    batch_size: int = 128,
    device: str = "cpu",
    num_examples: int = 5,
    seed: int = 0,
    tokenizer: str = "clip",
    end_token: bool = True,
) -> RetrievalResult:
    """Recall@1/5/10 in both directions over every row of a store, at the budget's res and text tokens.

    tokenizer, end_token: of the model, as in `train.model_config.TextConfig`.

    Raises `UserError` when the path is no store, the store is empty or was not built at `budget.res`, or the model
    gives embeddings that are not finite.
    """
    opened = open_store(store)
    num = opened.manifest.num_samples
    if not num:
        raise UserError(str(store), "wanted a store with samples in it, but it has none", "Build it from other pairs.")
    images, texts, tokens = [], [], []
    with torch.inference_mode(), bar(num, "retrieval", "pairs") as progress:
        for batch in batches(store, budget, batch_size, end_token, tokenizer):
            images.append(model.encode_image(batch.images.to(device)).float())
            texts.append(model.encode_text(batch.tokens.to(device)).float())
            tokens.append(batch.tokens)
            progress.advance(len(batch.index))
        image_features = check_finite(torch.cat(images), "images")
        text_features = check_finite(torch.cat(texts), "captions")
        ids = torch.arange(num, device=image_features.device)
        rank = ranks(text_features, image_features, ids, ids)
        return RetrievalResult(
            store=str(store),
            num_images=num,
            num_captions=num,
            num_distinct_captions=len(torch.cat(tokens).unique(dim=0)),
            text_to_image=recalls(rank),
            image_to_text=recalls(ranks(image_features, text_features, ids, ids)),
            chance={k: chance_recall(k, num) for k in RECALLS},
            examples=_examples(image_features, text_features, rank, num_examples, seed),
        )


def _captions(store: Store, rows: list[int]) -> list[str]:
    """The first clean caption of each row, as people read it."""
    starts = np.cumsum([0, *(shard.num_samples for shard in store.manifest.shards)])
    found = []
    for row in rows:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        captions = (
            store.captions(source, store.manifest.shards[place].shard)[row - int(starts[place])]
            for source in store.manifest.caption_sources
        )
        found.append(next(caption for own in captions for caption in own))
    return found


def draw(result: RetrievalResult, path: Path) -> None:
    """The result's examples as a line of pictures each, a PNG at `path`; in the largest resolution of the store."""
    store = open_store(Path(result.store))
    view = ImageView(store, max(store.manifest.resolutions))
    captions = _captions(store, [example.row for example in result.examples])
    rows = []
    for example, caption in zip(result.examples, captions, strict=True):
        images = view.images(np.array([example.row, *example.retrieved], np.int64))
        shapes = zip(images.encoded, images.heights.tolist(), images.widths.tolist(), strict=True)
        own, *found = (thumbnail(decode(*image, view.is_raw)) for image in shapes)
        rows.append(figures.RetrievalRow(caption, own, tuple(found), example.rank, result.num_images))
    first, five = (f"{percent(result.text_to_image[k])} (guessing {percent(result.chance[k])})" for k in (1, 5))
    drawn = f"{len(rows)} of {result.num_captions:,} captions, drawn at random"
    figures.retrieval(rows, f"{drawn}; framed: the right one. Of all, {first} find it first, {five} among five", path)
