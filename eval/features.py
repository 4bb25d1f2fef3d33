"""Image features of a labelled set, and the cache that makes a second evaluation read no image.

A cached file is found by what decides its values: the checkpoint's weights and model, the set's fingerprint, the
preprocessing. It holds a hash of its own content; one that is damaged is said to be, and made anew. Text is encoded
each time: class names and templates are few.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from eval.feature_files import kept_or_made, read_tensors, unreadable_as_text, unreadable_of_text, write_tensors
from eval.labelled_set import LabelledSet, Unreadable, digest
from eval.preprocess import Preprocess
from eval.retrieval import Encoder, check_finite
from prep.errors import UserError
from prep.files import hash_file
from prep.progress import bar
from train.checkpoint import LoadedModel, stage_at

# Part of every key: raise it when the same weights and images would give other values.
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Features:
    """values: float32 [N, D] on the CPU, unit vectors. index: int64 [N], places among the set's images, ascending.

    unreadable: images of the set that have none.
    """

    values: torch.Tensor
    index: torch.Tensor
    unreadable: tuple[Unreadable, ...]


def model_key(loaded: LoadedModel, *, ema: bool = False) -> str:
    """A hash of what decides a loaded model's image features at any res: its files, its parts, its positions."""
    files = [loaded.path / "weights.safetensors", *([loaded.path / "ema.safetensors"] if ema else [])]
    positions = stage_at(loaded.recipe, loaded.samples_seen).image_positions
    return digest([*map(hash_file, files), json.dumps(asdict(loaded.recipe.model), sort_keys=True), positions])


def image_features(
    model: Encoder,
    labelled: LabelledSet,
    preprocess: Preprocess,
    batch_size: int = 128,
    device: str = "cpu",
    cache: Path | None = None,
    model_key: str = "",
) -> Features:
    """The features of every image that has a class and can be read, from the cache where they are there.

    cache: a folder, made if need be; None, or no `model_key`, for no cache. Raises `UserError` when none of the images
    can be read, and `eval.retrieval.NotFinite` for a model whose features are no numbers.
    """
    if cache is None or not model_key:
        return _computed(model, labelled, preprocess, batch_size, device)
    key = digest([_VERSION, model_key, labelled.fingerprint, str(preprocess.res), preprocess.kind])
    path = cache / f"{key}.safetensors"
    return kept_or_made(path, _read, lambda: _computed(model, labelled, preprocess, batch_size, device), _write)


def _computed(model: Encoder, labelled: LabelledSet, preprocess: Preprocess, batch_size: int, device: str) -> Features:
    values, index = [], []
    unreadable: list[Unreadable] = []
    title = f"{labelled.name} at {preprocess.res} px"
    with torch.inference_mode(), bar(labelled.num_judged, title, "images") as progress:
        for batch in labelled.read(preprocess, batch_size):
            unreadable += batch.unreadable
            if len(batch.index):
                values.append(model.encode_image(batch.images.to(device)).float().cpu())
                index.append(batch.index)
            progress.advance(len(batch.index) + len(batch.unreadable))
    if not values:
        bad = [*unreadable, *labelled.faults]
        first = f"; {Path(bad[0].path).name}: {bad[0].problem}" if bad else ""
        problem = f"none of its {labelled.num_judged:,} files is a readable image{first}"
        raise UserError(str(labelled.path), problem, "Point at a set of images, such as a folder of them per class.")
    return Features(check_finite(torch.cat(values), "images"), torch.cat(index), tuple(unreadable))


def _write(path: Path, features: Features) -> None:
    bad = unreadable_as_text(features.unreadable)
    write_tensors(path, {"values": features.values, "index": features.index}, {"unreadable": bad})


def _read(path: Path) -> Features:
    tensors, told = read_tensors(path, ("values", "index"), ("unreadable",))
    return Features(tensors["values"], tensors["index"], unreadable_of_text(told["unreadable"]))
