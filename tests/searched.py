"""A tiny run to search with, what it says of a store plainly, and a model that counts what it is asked."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.search_index import SearchIndex, open_search_index
from pipelines.evaluation import batches
from prep.store import Store
from train.checkpoint import LoadedModel, load_model
from train.run import main as train_main

TINY = """
model.embed_dim=16 model.vision.width=16 model.vision.depth=1 model.text.width=16
stages.0.samples=32 stages.0.batch_size=16 stages.0.warmup_samples=0 stages.0.budget.res=16
stages.0.budget.text_tokens=8 stages.1.samples=16 stages.1.batch_size=16 stages.1.warmup_samples=0
stages.1.budget.res=32 stages.1.budget.text_tokens=12
"""


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two short stages, the last at 32 px."""
    out = tmp_path_factory.mktemp("search") / "run"
    train_main(["demo", *TINY.split(), "--store", str(store.path), "--out", str(out), "--threads", "1"])
    return out


@pytest.fixture(scope="module")
def loaded(run: Path) -> LoadedModel:
    return load_model(run)


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """The run, with nothing searched yet."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("search"))
    return tmp_path / "run"


def encoded(loaded: LoadedModel, store: Store) -> tuple[torch.Tensor, torch.Tensor]:
    """Every image's features and every first caption's, plainly."""
    with torch.inference_mode():
        found = [
            (loaded.model.encode_image(batch.images), loaded.model.encode_text(batch.tokens))
            for batch in batches(store.path, loaded.budget, 32)
        ]
    images, texts = zip(*found, strict=True)
    return torch.cat(images), torch.cat(texts)


class Counting:
    """The model, counting the images that it encodes; it breaks down after `last` of them."""

    def __init__(self, model: Any, last: int = 1 << 30) -> None:
        self.model, self.last, self.num = model, last, 0

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        if self.num + len(images) > self.last:
            raise KeyboardInterrupt
        self.num += len(images)
        return self.model.encode_image(images)  # type: ignore[no-any-return]


def counting(own: Path, loaded: LoadedModel, store: Store, last: int = 1 << 30) -> tuple[SearchIndex, Counting]:
    model = Counting(loaded.model, last)
    index = open_search_index(own, loaded, store, chunk_rows=40, batch_size=20)
    return replace(index, loaded=replace(loaded, model=model)), model  # type: ignore[arg-type]
