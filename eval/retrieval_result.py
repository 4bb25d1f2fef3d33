"""What a retrieval evaluation found: `eval.retrieval`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.captioned import CaptionedSource
from eval.labelled_set import Unreadable
from eval.recall import Interval


@dataclass(frozen=True, slots=True)
class RetrievalExample:
    """One caption and what it found. row: its image's place in the set. rank: of its own image, 0 the best.

    retrieved: places of the NUM_SHOWN most similar images, best first. caption: its place among its image's captions.
    """

    row: int
    rank: int
    retrieved: tuple[int, ...]
    caption: int = 0


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Recalls as fractions, by k, with 95% intervals. chance: what guessing scores, by k, from caption to image;
    chance_image_to_text: from image to caption, where each of an image's captions is right.

    store, images, split, captions: what was asked, see `CaptionedSource`. num_distinct_captions: that still differ
    after reduction to the budget's text tokens by text_mask; fewer than num_captions means that no model could reach
    100%. captions_per_image: {number of captions: images that have so many}. num_captions_cut: with more tokens than
    the budget. num_captions_lost: of images that could not be read; num_captions_empty: without a word.
    preprocess: the kind of `eval.preprocess.Preprocess` that images were seen in, "centre" for a store's, whatever was
    asked: preprocess_asked.
    """

    store: str
    num_images: int
    num_captions: int
    num_distinct_captions: int
    text_to_image: dict[int, float]
    image_to_text: dict[int, float]
    chance: dict[int, float]
    examples: tuple[RetrievalExample, ...]
    chance_image_to_text: dict[int, float]
    text_to_image_interval: dict[int, Interval]
    image_to_text_interval: dict[int, Interval]
    captions_per_image: dict[int, int]
    images: str | None
    split: str | None
    captions: str
    text_mask: str
    num_captions_cut: int
    num_captions_lost: int
    num_captions_empty: int
    unreadable: tuple[Unreadable, ...]
    preprocess: str = "centre"
    preprocess_asked: str = "centre"

    @property
    def source(self) -> CaptionedSource:
        """The set, to be opened again."""
        images = Path(self.images) if self.images is not None else None
        return CaptionedSource(Path(self.store), images, self.split, self.captions)

    def to_json(self) -> dict[str, Any]:
        """What `eval.json` holds of it: the fields, and num_unreadable; the k become strings, as JSON has it."""
        value = asdict(self)
        for key, held in value.items():
            if isinstance(held, dict):
                value[key] = {str(k): share for k, share in held.items()}
        for entry in value["unreadable"]:
            entry["path"] = str(entry["path"])
        return {**value, "num_unreadable": len(self.unreadable)}
