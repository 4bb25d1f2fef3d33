"""The features of a retrieval set, images and captions, and their cache: as `eval.features`, in the same folder.

A hundred thousand images and half a million captions of 1,280 numbers are 3 GB: they are there once, never twice.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
import xxhash
from torch import Tensor

from eval.captioned import CaptionedSet, ModelInput
from eval.feature_files import kept_or_made, read_tensors, unreadable_as_text, unreadable_of_text, write_tensors
from eval.labelled_set import Unreadable, digest
from prep.errors import UserError
from prep.progress import bar

# Part of every key: raise it when the same weights and pairs would give other values.
_VERSION = "retrieval 1"
_TENSORS = ("images", "index", "texts", "owners")
_TOLD = ("num_distinct", "num_cut", "unreadable")


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
class PairFeatures:
    """images: float32 [I, D]; index: int64 [I], their places in the set. texts: float32 [C, D]; owners: int64 [C],
    places among images. All on the CPU. num_distinct, num_cut: captions that differ, and that were reduced.

    unreadable: images of the set that have none.
    """

    images: Tensor
    index: Tensor
    texts: Tensor
    owners: Tensor
    num_distinct: int
    num_cut: int
    unreadable: tuple[Unreadable, ...]


class Rows:
    """Vectors that come in parts, laid side by side as they come. most: how many are expected; more may come."""

    def __init__(self, most: int) -> None:
        self._held, self._most, self._num = torch.empty(0, 0), most, 0

    def add(self, part: Tensor, what: str) -> None:
        """Some more, float [B, D]. Raises `NotFinite`; what: they are, in words."""
        stop = self._num + len(part)
        if not self._num:
            self._held = torch.empty(max(self._most, stop), part.shape[1])
        elif stop > len(self._held):
            self._held = torch.cat([self._held, torch.empty_like(self._held[: stop - self._num + self._num // 2])])
        self._held[self._num : stop] = check_finite(part.float(), what)
        self._num = stop

    def all(self) -> Tensor:
        """All of them, float32 [N, D] on the CPU."""
        return self._held[: self._num]


def pair_features(
    model: Encoder,
    opened: CaptionedSet,
    seen: ModelInput,
    batch_size: int = 128,
    device: str = "cpu",
    cache: Path | None = None,
    model_key: str = "",
) -> PairFeatures:
    """The features of every image that can be read and of its captions, from the cache where they are there.

    cache: a folder, made if need be; None, or no `model_key`, for no cache. Raises `UserError` when none of the images
    can be read, and `NotFinite` for a model whose features are no numbers.
    """
    if cache is None or not model_key:
        return _computed(model, opened, seen, batch_size, device)
    shown = json.dumps(asdict(replace(seen, kind=opened.preprocess(seen.kind))), sort_keys=True)
    path = cache / f"{digest([_VERSION, model_key, opened.fingerprint, shown])}.safetensors"
    return kept_or_made(path, _read, lambda: _computed(model, opened, seen, batch_size, device), _write)


def _computed(model: Encoder, opened: CaptionedSet, seen: ModelInput, batch_size: int, device: str) -> PairFeatures:
    images, texts = Rows(opened.num_images), Rows(opened.num_captions)
    index: list[Tensor] = []
    owners: list[Tensor] = []
    # A digest for each caption: the tokens of half a million would be as large as their features.
    distinct: set[bytes] = set()
    unreadable: list[Unreadable] = []
    num_cut, num = 0, 0
    with torch.inference_mode(), bar(opened.num_images, "retrieval", "images") as progress:
        for batch in opened.read(seen, batch_size):
            unreadable += batch.unreadable
            progress.advance(len(batch.index) + len(batch.unreadable))
            if not len(batch.index):
                continue
            images.add(model.encode_image(batch.images.to(device)), "images")
            for part in batch.tokens.split(batch_size):
                texts.add(model.encode_text(part.to(device)), "captions")
            index.append(batch.index)
            owners.append(batch.owners + num)
            num += len(batch.index)
            num_cut += batch.num_cut
            distinct.update(xxhash.xxh3_128_digest(tokens.tobytes()) for tokens in batch.tokens.numpy())
    if not index:
        raise _nothing(opened, unreadable)
    places = torch.cat(index), torch.cat(owners)
    return PairFeatures(images.all(), places[0], texts.all(), places[1], len(distinct), num_cut, tuple(unreadable))


def _nothing(opened: CaptionedSet, unreadable: Sequence[Unreadable]) -> UserError:
    first = (*opened.faults, *unreadable)[0]
    problem = f"none of its {opened.num_images:,} images can be read; {first.path}: {first.problem}"
    return UserError(str(opened.path), problem, "Check the path, and --images of a JSON file.")


def _write(path: Path, found: PairFeatures) -> None:
    told = {
        "num_distinct": str(found.num_distinct),
        "num_cut": str(found.num_cut),
        "unreadable": unreadable_as_text(found.unreadable),
    }
    write_tensors(path, {name: getattr(found, name) for name in _TENSORS}, told)


def _read(path: Path) -> PairFeatures:
    tensors, told = read_tensors(path, _TENSORS, _TOLD)
    images, index, texts, owners = (tensors[name] for name in _TENSORS)
    num_distinct, num_cut = int(told["num_distinct"]), int(told["num_cut"])
    unreadable = unreadable_of_text(told["unreadable"])
    return PairFeatures(images, index, texts, owners, num_distinct, num_cut, unreadable)
