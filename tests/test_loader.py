"""The one contract of all loaders: index sets, ranks, resume, tokens, pixels. Parametrised for those to come."""

import io
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.contract import Batch, Draws, Loader, TokenBudget
from pipelines.evaluation import batches
from pipelines.pixels import cut, decode
from pipelines.store_view import ImageView
from pipelines.torch_loader import TorchLoader
from prep.crops import Augmentation, random_boxes
from prep.draws import row_keys
from prep.errors import UserError
from prep.store import Store

from .conftest import NUM_PAIRS
from .test_order import rows_at

MakeLoader = Callable[..., Loader]
BUDGET = TokenBudget(32, 8)


def torch_loader(
    store: Store, budget: TokenBudget, batch_size: int, seed: int, threads: int = 1, **draws: Any
) -> Loader:
    return TorchLoader(Draws((store,), budget, batch_size, seed, **draws), threads)


@pytest.fixture(params=[torch_loader])
def make(request: pytest.FixtureRequest) -> MakeLoader:
    found: MakeLoader = request.param
    return found


def take(loader: Loader, num: int) -> list[Batch]:
    return list(islice(iter(loader), num))


def same(a: Batch, b: Batch) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip((a.images, a.tokens, a.index), (b.images, b.tokens, b.index), strict=True)
    )


def test_shapes_and_types(make: MakeLoader, store: Store) -> None:
    batch = take(make(store, BUDGET, 12, seed=0), 1)[0]
    assert (batch.images.shape, batch.images.dtype) == ((12, 3, 32, 32), torch.uint8)
    assert (batch.tokens.shape, batch.tokens.dtype) == ((12, 8), torch.int64)
    assert (batch.index.shape, batch.index.dtype) == ((12,), torch.int64)


def test_an_epoch_holds_every_row_once(make: MakeLoader, store: Store) -> None:
    num_batches = NUM_PAIRS // 12
    seen = [batch.index for batch in take(make(store, BUDGET, 12, seed=3), 2 * num_batches)]
    for epoch in (seen[:num_batches], seen[num_batches:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(NUM_PAIRS))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_are_slices_of_the_same_global_batches(make: MakeLoader, store: Store, world: int) -> None:
    whole = take(make(store, BUDGET, 12, seed=0), 10)
    parts = [take(make(store, BUDGET, 12, seed=0, rank=rank, world=world), 10) for rank in range(world)]
    for i, batch in enumerate(whole):
        for name in ("images", "tokens", "index"):
            joined = torch.cat([getattr(part[i], name) for part in parts])
            assert torch.equal(joined, getattr(batch, name))


@pytest.mark.parametrize("skip", [1, 5, 11])
def test_starting_at_k_is_skipping_k(make: MakeLoader, store: Store, skip: int) -> None:
    whole = take(make(store, BUDGET, 10, seed=0), skip + 3)
    resumed = take(make(store, BUDGET, 10, seed=0, samples_seen=10 * skip), 3)
    assert all(same(a, b) for a, b in zip(whole[skip:], resumed, strict=True))


@pytest.mark.parametrize("threads", [0, 2, 3])
def test_threads_do_not_change_anything(make: MakeLoader, store: Store, threads: int) -> None:
    plain, threaded = (take(make(store, BUDGET, 16, seed=1, threads=t), 9) for t in (1, threads))
    assert all(same(a, b) for a, b in zip(plain, threaded, strict=True))


def test_another_seed_is_another_order_and_other_crops(make: MakeLoader, store: Store) -> None:
    a, b = (torch.cat([batch.index for batch in take(make(store, BUDGET, 12, seed=s), 8)]) for s in (0, 1))
    assert a.tolist() != b.tolist()


def test_crops_stay_near_what_pillow_makes_of_the_same_boxes(store: Store) -> None:
    """Pillow's bicubic is the independent judge: the mean difference stays under one level of 255."""
    loader = torch_loader(store, BUDGET, 24, seed=2)
    batch = take(loader, 1)[0]
    rows, epochs = rows_at(0, 24, NUM_PAIRS, 2)
    assert batch.index.tolist() == rows.tolist()
    stored = ImageView(store, 32).images(rows)
    boxes = random_boxes(row_keys(2, epochs, rows, "crop"), stored.widths, stored.heights, Augmentation())
    for image, encoded, (top, left, height, width) in zip(batch.images, stored.encoded, boxes.tolist(), strict=True):
        whole = Image.open(io.BytesIO(encoded.tobytes()))
        judge = whole.crop((left, top, left + width, top + height)).resize((32, 32), Image.Resampling.BICUBIC)
        difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(judge).astype(int))
        assert difference.mean() < 1


def test_every_resolution_holds_the_same_rows(store: Store) -> None:
    """At row i both resolutions show the same picture: halved, the larger copy is close to the smaller."""
    rows = np.arange(0, NUM_PAIRS, 7)
    found = [ImageView(store, res).images(rows) for res in store.manifest.resolutions]
    for place in range(len(rows)):
        pictures = []
        for images in found:
            shape = int(images.heights[place]), int(images.widths[place])
            pixels = decode(images.encoded[place], *shape, is_raw=False)
            pictures.append(cut(pixels, (0, 0, *pixels.shape[:2]), 16).float())
        assert (pictures[0] - pictures[1]).abs().mean() < 8


def test_shuffled_captions_are_others_and_all_are_used(make: MakeLoader, store: Store) -> None:
    plain, shuffled = (take(make(store, BUDGET, NUM_PAIRS, seed=0, shuffle_captions=on), 1)[0] for on in (False, True))
    assert torch.equal(plain.images, shuffled.images)
    moved = (plain.tokens != shuffled.tokens).any(dim=1).float().mean()
    assert moved > 0.9
    assert sorted(map(tuple, plain.tokens.tolist())) == sorted(map(tuple, shuffled.tokens.tolist()))


def test_evaluation_reads_every_row_once_in_order(store: Store) -> None:
    found = list(batches(store.path, BUDGET, 36))
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(NUM_PAIRS))
    assert [len(batch.images) for batch in found] == [36, 36, 24]


def test_a_resolution_that_was_not_built_is_named(make: MakeLoader, store: Store) -> None:
    with pytest.raises(UserError, match=r"wanted images at 64 px, but the store holds 16, 32"):
        take(make(store, TokenBudget(64, 8), 12, seed=0), 1)


def test_a_batch_that_does_not_divide_among_ranks_is_refused(make: MakeLoader, store: Store) -> None:
    with pytest.raises(UserError, match="multiple of the 5 ranks"):
        make(store, BUDGET, 12, seed=0, rank=0, world=5)
