"""Other loaders, as their users run them, on the same pairs and cores: open_clip, torchvision, Hugging Face, FFCV.

Each gives what its users train on: float pixels, normalised, of a random-resized crop of 40-100% of the area (FFCV:
uint8). "DCT-scaled" decodes at a half, a quarter or an eighth where that leaves at least `res` pixels: less than a crop
of 40% wants, and so the fastest that this way of loading can be.
"""

import io
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.bench_loaders import Spell, core_seconds
from pipelines.bench_pairs import PeerData
from prep.errors import UserError

CROP_AREA = (0.4, 1.0)
_BATCHES_AHEAD = 2  # torch's DataLoader: batches that each worker prepares beforehand
_ENDLESS = 1 << 40
_LONG = 1 << 19
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Batches = Iterator[Any]


@dataclass(frozen=True, slots=True)
class PeerSetup:
    """One peer. batch_size: in samples. beton: for FFCV, an export of the view named."""

    name: str
    data: PeerData | None
    res: int
    text_tokens: int
    batch_size: int
    workers: int
    scratch: str
    nltk_data: str | None = None
    beton: str = ""
    num_rows: int = 0
    is_bank: bool = False


def open_clip_batches(setup: PeerSetup, dct_scaled: bool = False) -> Batches:
    """open_clip's webdataset loader and its tokenizer with the syntax mask: images, texts."""
    missing = UserError(
        "--nltk-data",
        "NLTK's data, tokenizers/punkt_tab and taggers/averaged_perceptron_tagger_eng, are not found",
        "Point --nltk-data at their folder.",
    )
    if setup.nltk_data is not None:
        if not Path(setup.nltk_data, "tokenizers", "punkt_tab").is_dir():
            raise missing
        os.environ["NLTK_DATA"] = setup.nltk_data
    import open_clip.tokenizer
    import open_clip_train.data as theirs
    import webdataset
    from open_clip.transform import image_transform

    # It does not know the mark that newer versions of webdataset leave at the end of a tar.
    theirs.tar_file_expander = partial(theirs.tar_file_expander, eof_value=None)
    # It would ask the network for data of names that NLTK no longer reads.
    open_clip.tokenizer._nltk_init = True
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=setup.text_tokens, reduction_mask="syntax")
    try:
        tokenizer("a red dog runs")
    except LookupError as error:
        raise missing from error
    if dct_scaled:
        decode: Callable[..., object] = webdataset.decode
        webdataset.decode = lambda *_, **options: decode(lambda key, data: draft(key, data, setup.res), **options)
    assert setup.data is not None
    asked = SimpleNamespace(
        train_data=setup.data.tars,
        train_num_samples=_ENDLESS,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=setup.batch_size,
        workers=setup.workers,
        world_size=1,
    )
    transform = image_transform(setup.res, is_train=True, aug_cfg={"scale": CROP_AREA})
    return iter(theirs.get_wds_dataset(asked, transform, is_train=True, tokenizer=tokenizer).dataloader)


def draft(key: str, data: bytes, res: int) -> Image.Image | None:
    """A member of a tar decoded at the smallest size that JPEG allows with `res` pixels a side; None: no JPEG."""
    if key.rpartition(".")[2] not in ("jpg", "jpeg"):
        return None
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (res, res))
    return image.convert("RGB")


def _transform(res: int) -> Callable[[Any], torch.Tensor]:
    from torchvision.transforms import Compose, InterpolationMode, Normalize, RandomResizedCrop, ToTensor

    crop = RandomResizedCrop(res, scale=CROP_AREA, interpolation=InterpolationMode.BICUBIC)
    transform: Callable[[Any], torch.Tensor] = Compose([crop, ToTensor(), Normalize(_MEAN, _STD)])
    return transform


def _loaded(setup: PeerSetup, dataset: Any) -> Batches:
    # One epoch that never ends: a small set's own would spend their time on beginning.
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=_ENDLESS)
    return iter(torch.utils.data.DataLoader(dataset, setup.batch_size, sampler=sampler, num_workers=setup.workers))


def image_folder_batches(setup: PeerSetup) -> Batches:
    """torchvision's ImageFolder: images, class numbers."""
    from torchvision.datasets import ImageFolder

    assert setup.data is not None
    return _loaded(setup, ImageFolder(setup.data.images, _transform(setup.res)))


def hugging_face_batches(setup: PeerSetup) -> Batches:
    """Hugging Face's datasets: encoded images in a mapped Arrow file, transformed when asked for."""
    os.environ |= {"HF_HOME": setup.scratch, "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    import datasets

    assert setup.data is not None
    transform, folder = _transform(setup.res), Path(setup.scratch, "datasets")
    files = ({"image": {"bytes": path.read_bytes(), "path": None}} for path in Path(setup.data.images).rglob("*.jpg"))
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_list(list(files), features).save_to_disk(folder)

    def transformed(rows: dict[str, list[Any]]) -> dict[str, list[torch.Tensor]]:
        return {"image": [transform(image.convert("RGB")) for image in rows["image"]]}

    dataset = datasets.load_from_disk(folder)
    dataset.set_transform(transformed)
    return _loaded(setup, dataset)


def ffcv_batches(setup: PeerSetup) -> Batches:
    """FFCV's Loader on the bytes of one view: images, tokens, priorities, rows."""
    import ffcv.fields.rgb_image as rgb
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor, ToTorchImage

    if setup.is_bank:
        decoder = rgb.SimpleRGBImageDecoder()
    else:
        decoder = rgb.RandomResizedCropRGBImageDecoder((setup.res, setup.res), scale=CROP_AREA)
    loader = Loader(
        setup.beton,
        setup.batch_size,
        num_workers=setup.workers,
        order=OrderOption.RANDOM,
        # An epoch of a small set would be over in milliseconds: it sees each row many times.
        indices=np.tile(np.arange(setup.num_rows), max(1, _LONG // setup.num_rows)),
        pipelines={"image": [decoder, ToTensor(), ToTorchImage()]},
    )
    return chain.from_iterable(repeat(loader))


PEERS: dict[str, Callable[[PeerSetup], Batches]] = {
    "open_clip": open_clip_batches,
    "open_clip, DCT-scaled": lambda setup: open_clip_batches(setup, dct_scaled=True),
    "torchvision ImageFolder": image_folder_batches,
    "Hugging Face datasets": hugging_face_batches,
    "ffcv": ffcv_batches,
}


class PeerSubject:
    """A peer in use. Raises whatever stops it."""

    def __init__(self, setup: PeerSetup) -> None:
        warnings.simplefilter("ignore")
        # Their pipelines hold closures, which only forked workers can have.
        multiprocessing.set_start_method("fork", force=True)
        self.setup = setup
        self._batches = PEERS[setup.name](setup)
        next(self._batches)

    def alone(self, seconds: float) -> Spell:
        """Take batches for at least so long; those that lay ready are not counted."""
        for _ in range(_BATCHES_AHEAD * self.setup.workers + 1):
            next(self._batches)
        samples, began, used = 0, perf_counter(), core_seconds()
        while not samples or perf_counter() - began < seconds:
            samples += _size(next(self._batches))
        return Spell(samples, perf_counter() - began, core_seconds() - used)


def _size(batch: Sequence[torch.Tensor] | dict[str, torch.Tensor]) -> int:
    return len(batch["image"] if isinstance(batch, dict) else batch[0])
