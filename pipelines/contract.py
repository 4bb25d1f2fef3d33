"""The one contract of all loaders: a `Loader` is an iterable of `Batch`, and its whole state is one integer, samples
seen.

Given the same `Draws`, every loader yields the same rows in the same order with the same tokens, the same crop boxes
and the same jitter, on any number of ranks: rank r of w holds the r-th contiguous slice of each global batch. Iteration
never ends; the trainer decides when to stop. All of that is decided in `pipelines.drawing`; a loader adds the pixels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from prep.crops import Augmentation
from prep.errors import UserError
from prep.store import Store


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What the two encoders see in one stage.

    res: side in pixels of the square image. text_tokens: text tokens a caption, start and end included.
    text_mask: which tokens of a longer caption are kept, one of prep.text_masks.TEXT_MASKS. image_mask: which patches
    are kept while training, "none" or one of train.image_masks.IMAGE_MASKS. image_mask_ratio: the share of patches
    that it drops, 0 to less than 1.
    """

    res: int
    text_tokens: int
    text_mask: str = "syntax"
    image_mask: str = "none"
    image_mask_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """Colour jitter and grayscale, drawn for each sample; applied on the device by `pipelines.jitter`.

    brightness, contrast, saturation: factors are uniform in 1 +- so much; hue: a shift, uniform in +- so much of the
    colour circle; in an order of their own for each sample, with `probability`. gray_probability: of losing all colour.
    Defaults: CLIPA's for its larger models (paper 2305.07017), SimCLR's at strength 0.4.
    """

    brightness: float = 0.32
    contrast: float = 0.32
    saturation: float = 0.32
    hue: float = 0.08
    probability: float = 0.8
    gray_probability: float = 0.2


@dataclass(frozen=True)
class Draws:
    """All that decides which samples a rank gets, and how they are cut and masked; the same for every loader.

    stores, weights: mixed by weight, exactly (see `pipelines.mixture`); no weights: as one store, each row once an
    epoch. batch_size: global, a multiple of `world`. samples_seen: the position to start at. crops: "online", drawn
    from margin copies, or "bank", the store's own, one for each epoch in turn. encoding: "jpeg" or "raw" views; None:
    raw where there is one. jitter: None for none. captions: weights of the caption sources, see `TextView`.
    tokenizer: whose ids the model reads, "clip" or "bert". end_token: false for models that see no end of text
    (CLIPA's, over BERT's tokens). shuffle_captions: the control in which captions are dealt out anew among the images
    of a store (a random bijection, the same in every epoch; about one image keeps its own). window: of rows that are
    shuffled among each other, see
    `pipelines.order`; 0: all. replace_damaged: show the next whole row in place of one that is damaged, and count it;
    else a `DamagedError` ends the iteration.
    """

    stores: tuple[Store, ...]
    budget: TokenBudget
    batch_size: int
    seed: int
    samples_seen: int = 0
    rank: int = 0
    world: int = 1
    weights: tuple[int, ...] = ()
    crops: str = "online"
    encoding: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    jitter: ColorJitter | None = None
    captions: Mapping[str, float] = field(default_factory=dict)
    tokenizer: str = "clip"
    end_token: bool = True
    shuffle_captions: bool = False
    window: int = 0
    replace_damaged: bool = False

    def __post_init__(self) -> None:
        if self.batch_size % self.world:
            raise UserError(
                "batch_size",
                f"wanted a multiple of the {self.world} ranks, found {self.batch_size}",
                "Change the recipe's batch_size or the number of processes.",
            )

    @property
    def local_batch_size(self) -> int:
        """Samples of each global batch that this rank holds."""
        return self.batch_size // self.world


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's slice of a global batch.

    images: uint8 [B, 3, R, R], in memory as [B, R, R, 3]. tokens: int64 [B, T], start of text first, zero padded.
    index: int64 [B], rows in the store; with several stores, counted through all of them. jitter: float32 [B, 7], what
    `pipelines.jitter.apply` does to each image on the device; None where nothing is asked for.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    index: torch.Tensor
    jitter: torch.Tensor | None = None


class Loader(Protocol):
    """Anything that yields batches; see the module's docstring for what it owes."""

    @property
    def num_replaced(self) -> int:
        """Samples shown so far in place of damaged ones."""
        ...

    def __iter__(self) -> Iterator[Batch]: ...
