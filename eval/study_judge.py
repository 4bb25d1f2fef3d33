"""How every training of a study is judged: which images, which prompts, which answers were right.

Who was right is kept image by image, so that intervals can resample images, the same ones for all cells.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval import retrieval
from eval.captioned import CaptionedSource, ModelInput, open_captioned
from eval.class_names import find_classes
from eval.labelled import LabelledSet, open_labelled
from eval.labelled_set import NoImage
from eval.preprocess import KINDS, Preprocess
from eval.prompts import class_embeddings
from eval.retrieval import check_finite
from eval.scores import class_ranks
from eval.templates import find_templates
from pipelines.contract import TokenBudget
from pipelines.pixels import central_boxes, cut
from prep.errors import UserError
from prep.images import ImageError
from train.model import CLIP
from train.recipe import Recipe

PREPROCESSES = ("crop", *KINDS)
"""How an image becomes square. "crop": its central square is cut out, then resized, as a store's rows are; the others
resize first (`eval.preprocess`). Cut out first, nothing of what lies beside the square bleeds into its edge, which at
16 px is a part of the picture."""
BATCH = 256
_MOST_KEPT = 2**31
"""Bytes of pixels that a process keeps from one training to the next, for each res."""


@dataclass(frozen=True, slots=True)
class Judge:
    """How every training of a study is judged, and how it uses the machine.

    classes: a list of `eval.class_names`, empty for the set's own. preprocess: one of PREPROCESSES. threads: of the
    model, 0 as torch chooses. loader_threads: of a training's loader.
    """

    zeroshot: Path
    retrieval: Path | None
    templates: str
    device: str
    threads: int
    keep_runs: bool
    classes: str = ""
    preprocess: str = "crop"
    loader_threads: int = 1


def answers(model: CLIP, budget: TokenBudget, recipe: Recipe, judge: Judge, *, last: bool) -> dict[str, Any]:
    """top1, top5 as shares; hits: who was right, a bit an image, packed and in hex, for resampling images.

    last: whether retrieval is asked too. Raises `UserError` when no image can be read.
    """
    text = recipe.model.text
    labelled = _opened(judge.zeroshot, judge.classes)
    names = [name for names in labelled.names_of_classes for name in names]
    with torch.inference_mode():
        sentences = find_templates(judge.templates)
        classes, num_cut = class_embeddings(
            *(model, names, sentences, budget.text_tokens, judge.device, text.tokenizer, text.end_token)
        )
        encoded, index = [], []
        for images, places in _images(judge, budget.res):
            encoded.append(model.encode_image(images.to(judge.device)).float())
            index.append(places)
        labels = torch.from_numpy(labelled.labels)[torch.cat(index)]
        features = check_finite(torch.cat(encoded), "images")
        rank = class_ranks(features, classes, [len(of_class) for of_class in labelled.names_of_classes], labels)
    hits = (rank < 1).numpy()
    told: dict[str, Any] = {
        "res": budget.res,
        "text_tokens": budget.text_tokens,
        "num_images": len(hits),
        "num_prompts_cut": num_cut,
        "top1": float(hits.mean()),
        "top5": float((rank < 5).double().mean()),
        "hits": np.packbits(hits).tobytes().hex(),
    }
    if last and judge.retrieval is not None:
        found = retrieval.evaluate(
            *(model, budget, judge.retrieval, 128, judge.device), tokenizer=text.tokenizer, end_token=text.end_token
        )
        told |= {"recall_at_1": found.text_to_image[1]}
    return told


def check_retrieval(judge: Judge, recipes: Iterable[Recipe]) -> None:
    """Read one batch of the retrieval set as each recipe's last budget asks for it, before anything is trained.

    Raises `UserError` when there is no such set, or it is a store that lacks what a budget reads.
    """
    if judge.retrieval is None:
        return
    opened = open_captioned(CaptionedSource(judge.retrieval))
    texts = {(recipe.stages[-1].budget, recipe.model.text.tokenizer, recipe.model.text.end_token) for recipe in recipes}
    for budget, tokenizer, end_token in texts:
        next(opened.read(ModelInput(budget, tokenizer, end_token, "centre"), 1), None)


@cache
def _opened(zeroshot: Path, classes: str) -> LabelledSet:
    return open_labelled(zeroshot, find_classes(classes) if classes else None)


def _images(judge: Judge, res: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images uint8 [B, 3, res, res] and their places int64 [B]. Raises `UserError` when there are none."""
    labelled = _opened(judge.zeroshot, judge.classes)
    small = labelled.num_judged * 3 * res**2 <= _MOST_KEPT
    batches = _kept(judge.zeroshot, judge.classes, judge.preprocess, res) if small else _read(judge, res)
    num = 0
    for images, places in batches:
        num += len(places)
        yield images, places
    if not num:
        remedy = "eval.run --zeroshot names what is wrong with each."
        raise UserError(str(judge.zeroshot), "not one of its images can be read", remedy)


@cache
def _kept(zeroshot: Path, classes: str, preprocess: str, res: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """The batches of a small set, decoded once a process."""
    judge = Judge(zeroshot, None, "", "cpu", 0, False, classes, preprocess)
    return tuple(_read(judge, res))


def _read(judge: Judge, res: int) -> Iterator[tuple[Tensor, Tensor]]:
    labelled = _opened(judge.zeroshot, judge.classes)
    if judge.preprocess in KINDS:
        for batch in labelled.read(Preprocess(res, judge.preprocess), BATCH):
            if len(batch.index):
                yield batch.images, batch.index
        return
    places = np.flatnonzero(labelled.labels >= 0).tolist()
    with ThreadPoolExecutor(2, thread_name_prefix="judge") as pool:
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            squares = list(pool.map(lambda place: _square(labelled, place, res), some))
            read = [(square, place) for square, place in zip(squares, some, strict=True) if square is not None]
            if read:
                yield torch.stack([square for square, _ in read]), torch.tensor([place for _, place in read])


def _square(labelled: LabelledSet, place: int, res: int) -> Tensor | None:
    try:
        pixels = labelled.pixels(place)
    except (ImageError, NoImage, OSError):
        return None  # the same for every cell, and counted: num_images
    height, width = pixels.shape[:2]
    return cut(np.require(pixels, requirements="W"), central_boxes(np.array([width]), np.array([height]))[0], res)


def unpacked(hits: str, num_images: int) -> NDArray[np.bool_]:
    """`hits` of a result as bool [N]."""
    bits = np.frombuffer(bytes.fromhex(hits), np.uint8)
    return np.unpackbits(bits, count=num_images).astype(bool)
