"""Opening a retrieval set of any kind, by what lies at its path:

a store of prep.build   its captions, or the first of each image           eval.captioned_store
a JSON file             Karpathy's COCO and Flickr30k, beside the images   eval.captioned_karpathy
webdataset tars         0001.jpg + 0001.txt, one caption a line            eval.captioned_tars
"""

from dataclasses import dataclass
from pathlib import Path

from eval.captioned_karpathy import open_karpathy
from eval.captioned_set import CaptionedBatch, CaptionedSet, ModelInput, check_captions
from eval.captioned_store import CaptionedStore, open_captioned_store
from eval.captioned_tars import open_captioned_tars, tars_of
from prep.errors import UserError

__all__ = ["CaptionedBatch", "CaptionedSet", "CaptionedSource", "CaptionedStore", "ModelInput", "open_captioned"]

_REMEDY = "Give a store of prep.build, a JSON file as Karpathy's splits are, or a folder of webdataset tars."


@dataclass(frozen=True, slots=True)
class CaptionedSource:
    """Where a retrieval set lies. images, split: of a JSON file, see `eval.captioned_karpathy`; None: its defaults.

    captions: which of an image's captions take part, of `eval.captioned_set.CAPTIONS`.
    """

    path: Path
    images: Path | None = None
    split: str | None = None
    captions: str = "all"

    @property
    def is_json(self) -> bool:
        """Whether it looks like Karpathy's splits."""
        return self.path.is_file() and self.path.suffix == ".json"

    @property
    def chosen_split(self) -> str | None:
        """The split, `test` where none was named; None for what has none."""
        return (self.split or "test") if self.is_json else None

    @property
    def is_store(self) -> bool:
        """Whether it looks like a store."""
        return self.path.is_dir() and (self.path / "manifest.json").exists()


def open_captioned(source: CaptionedSource) -> CaptionedSet:
    """List the images and their captions; nothing is decoded yet.

    Raises `UserError` when the path is none of the three, or no image with a caption is in it.
    """
    check_captions(source.captions)
    path = source.path
    if source.is_json:
        return open_karpathy(path, source.images, source.chosen_split or "", source.captions)
    for option, value in (("--images", source.images), ("--split", source.split)):
        if value is not None:
            raise UserError(f"{option} {value}", f"{path} is no JSON file of captions, and has none", "Leave it out.")
    if not source.is_store and (tars := tars_of(path)):
        return open_captioned_tars(path, tars, source.captions)
    if not path.exists():
        raise UserError(str(path), "wanted a retrieval set, but nothing is there", _REMEDY)
    return open_captioned_store(path, source.captions)
