"""What a retrieval set is, wherever it lies: images, each with one caption or more.

A set of image files knows its captions as texts, which are tokenised as prompts are (`train.text_tokens`): what is too
long loses its end, and is counted. A store has token ids already (`eval.captioned_store`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from eval.labelled_set import ImageSource, LabelledSet, Pixels, Unreadable
from eval.preprocess import Preprocess
from pipelines.contract import TokenBudget
from prep.errors import UserError
from train.text_tokens import num_too_long, tokens_of

# As `prep.captions` cuts them.
_MAX_CHARACTERS = 8192

CAPTIONS = ("all", "first")
"""Which captions of an image take part."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """How a model sees a pair: a budget; its text tower's tokenizer and whether texts end with a token of their own
    (`train.model_config.TextConfig`); the kind of `eval.preprocess.Preprocess`.
    """

    budget: TokenBudget
    tokenizer: str = "clip"
    end_token: bool = True
    kind: str = "centre"


@dataclass(frozen=True, slots=True)
class CaptionedBatch:
    """images: uint8 [B, 3, R, R]; index: int64 [B], their places in the set, ascending. B is 0 when none was readable.

    tokens: int64 [C, T], all captions of these images; owners: int64 [C], each one's image as its place in the batch.
    num_cut: captions with more tokens than the budget. unreadable: images that were met and are not among these.
    """

    images: torch.Tensor
    index: torch.Tensor
    tokens: torch.Tensor
    owners: torch.Tensor
    num_cut: int
    unreadable: tuple[Unreadable, ...] = ()


class CaptionedSet(Protocol):
    """Images with captions. Made by `eval.captioned.open_captioned`.

    num_images: that have a caption. num_captions: that could take part if every image is readable, those of `faults`
    included. faults: what was met while listing and is no image of the set. num_empty: captions without a word, which
    are passed over. fingerprint: hex digest of what decides images and captions. content: one of captions,
    names and sizes, which a copy shares.
    """

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    @property
    def num_images(self) -> int: ...  # noqa: D102

    @property
    def num_captions(self) -> int: ...  # noqa: D102

    @property
    def num_empty(self) -> int: ...  # noqa: D102

    @property
    def faults(self) -> tuple[Unreadable, ...]: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def content(self) -> str: ...  # noqa: D102

    def text_mask(self, budget: TokenBudget) -> str:
        """How captions are reduced to the budget: its own mask, or `truncate` where only that can be done."""
        ...

    def preprocess(self, kind: str) -> str:
        """The kind of `Preprocess` that images are seen in where `kind` is asked for."""
        ...

    def read(self, seen: ModelInput, batch_size: int) -> Iterator[CaptionedBatch]:
        """Every image once, in order, with its captions."""
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """One image's captions, in the order of `read`."""
        ...

    def pixels(self, places: Sequence[int]) -> list[Pixels]:
        """Some images' pixels, uint8 [H, W, 3] each, for pictures. Raises `ImageError` or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found while listing a set of files. captions: of each image, at least one. lost: captions of `faults`.

    faults, num_empty: as in `CaptionedSet`.
    """

    captions: tuple[tuple[str, ...], ...]
    faults: tuple[Unreadable, ...]
    num_empty: int
    lost: int = 0


@dataclass(frozen=True, slots=True)
class CaptionedFiles:
    """A set whose images lie in files or tars and whose captions are texts: see `CaptionedSet`."""

    path: Path
    listing: Listing
    source: ImageSource
    fingerprint: str
    content: str

    @property
    def num_images(self) -> int:
        """Images that have a caption."""
        return len(self.listing.captions)

    @property
    def num_captions(self) -> int:
        """Captions, those of images that are not in the set included."""
        return sum(map(len, self.listing.captions)) + self.listing.lost

    @property
    def num_empty(self) -> int:
        """Captions without a word."""
        return self.listing.num_empty

    @property
    def faults(self) -> tuple[Unreadable, ...]:
        """What is no image of the set."""
        return self.listing.faults

    def text_mask(self, budget: TokenBudget) -> str:
        """Always `truncate`: word classes are known of prepared captions alone."""
        return "truncate"

    def preprocess(self, kind: str) -> str:
        """The one that is asked for."""
        return kind

    @property
    def _images(self) -> LabelledSet:
        """The images alone, as if all of one class."""
        return LabelledSet(self.path, ("",), np.zeros(self.num_images, np.int64), self.fingerprint, self.source)

    def read(self, seen: ModelInput, batch_size: int) -> Iterator[CaptionedBatch]:
        """Every image that can be read, with its captions."""
        of_model = seen.budget.text_tokens, seen.tokenizer, seen.end_token
        for batch in self._images.read(Preprocess(seen.budget.res, seen.kind), batch_size):
            own = [self.listing.captions[place] for place in batch.index.tolist()]
            texts = [text for captions in own for text in captions]
            owners = torch.arange(len(own)).repeat_interleave(torch.tensor([len(captions) for captions in own]).long())
            cut = num_too_long(texts, *of_model)
            yield CaptionedBatch(batch.images, batch.index, tokens_of(texts, *of_model), owners, cut, batch.unreadable)

    def captions(self, index: int) -> tuple[str, ...]:
        """One image's captions."""
        return self.listing.captions[index]

    def pixels(self, places: Sequence[int]) -> list[Pixels]:
        """Some images' pixels, uint8 [H, W, 3] each, in the order asked for."""
        ordered = sorted(set(places))
        found = {place: job() for place, job in zip(ordered, self.source.jobs(ordered, None), strict=True)}
        return [found[place] for place in places]


def with_words(captions: list[str], which: str) -> tuple[tuple[str, ...], int]:
    """The captions that hold a word, runs of white space as one space, and how many hold none. which: of CAPTIONS."""
    whole = [text for text in (_plain(caption) for caption in captions) if text]
    return tuple(whole if which == "all" else whole[:1]), len(captions) - len(whole)


def _plain(caption: str) -> str:
    # Repairing a text takes time that grows with the square of it, and only its first tokens count. Half of a
    # surrogate pair, which JSON can spell, has no UTF-8.
    return " ".join(caption.split())[:_MAX_CHARACTERS].encode("utf-8", "replace").decode()


def check_captions(which: str) -> None:
    """Raise `UserError` for a choice that is none of CAPTIONS."""
    if which not in CAPTIONS:
        problem = f"wanted one of {', '.join(CAPTIONS)}, found {which!r}"
        raise UserError("--captions", problem, "Leave it out for all captions of an image.")


def checked(opened: CaptionedFiles, wanted: str) -> CaptionedFiles:
    """The set unchanged. Raises `UserError` when no image is left, naming the first reason; wanted: in words."""
    if not opened.num_images:
        first = next(iter(opened.faults), None)
        why = f"; the first of {len(opened.faults):,} faults is {first.path}: {first.problem}" if first else ""
        remedy = "Every image needs a caption of its own, and a file that can be read."
        raise UserError(str(opened.path), f"wanted {wanted}, found no image with a caption{why}", remedy)
    return opened
