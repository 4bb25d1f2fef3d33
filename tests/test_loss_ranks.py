"""The losses and the accumulation on two and three real ranks (gloo): what one process computes at the whole batch."""

import multiprocessing
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from train.accumulation import accumulated_backward
from train.logit_grid import slices
from train.loss import contrastive, sigmoid
from train.tiled_loss import tiled_contrastive, tiled_sigmoid

PATIENCE = 120.0
"""Seconds that the ranks may take all together; then they hang."""
OWN = 5
"""Rows that a rank has: no multiple of the tile."""
TILE = 3
Loss = Callable[..., torch.Tensor]
LOSSES: dict[str, tuple[Loss, Loss]] = {
    "contrastive": (contrastive, tiled_contrastive),
    "sigmoid": (sigmoid, tiled_sigmoid),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
WORLDS = (2, 3)
WAYS = ("at once", "in parts", "frozen image")

Found = dict[str, torch.Tensor]


class Towers(nn.Module):
    """Two linear encoders and the scalars that a loss takes. bfloat16: of the features alone."""

    def __init__(self, loss: str, dtype: str, frozen: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4), nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.tensor(7.0))
        self.bias = nn.Parameter(torch.tensor(-3.0)) if loss == "sigmoid" else None
        self.narrow = dtype == "bfloat16"
        self.to(torch.float32 if self.narrow else DTYPES[dtype])
        self.image.requires_grad_(not frozen)

    def forward(self, data: torch.Tensor) -> tuple[torch.Tensor, ...]:
        data = data.to(self.scale.dtype)
        image, text = normalize(self.image(data[:, :6])), normalize(self.text(data[:, 6:]))
        if self.narrow:
            image, text = image.bfloat16(), text.bfloat16()
        return (image, text, self.scale, *([] if self.bias is None else [self.bias]))


def data(world: int) -> torch.Tensor:
    return torch.randn(world * OWN, 12, generator=torch.Generator().manual_seed(world), dtype=torch.float64)


def gradients(model: nn.Module, loss: torch.Tensor) -> Found:
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"loss": loss.detach(), **found}


def of_a_rank(loss: str, dtype: str, way: str, group: distributed.ProcessGroup) -> Found:
    """The loss, and gradients after DDP's mean, of this rank."""
    model = Towers(loss, dtype, frozen=way == "frozen image")
    wrapped = DistributedDataParallel(model, process_group=group)
    rank, world = distributed.get_rank(group), distributed.get_world_size(group)
    own = data(world)[rank * OWN : (rank + 1) * OWN]

    def loss_of(*encoded: torch.Tensor) -> torch.Tensor:
        return LOSSES[loss][1](*encoded, tile=TILE, group=group)

    if way == "in parts":
        value = accumulated_backward(lambda rows: wrapped(own[rows]), slices(OWN, 2), loss_of, wrapped.no_sync)
    else:
        value = loss_of(*wrapped(own))
        value.backward()
    return gradients(model, value)


def of_one_process(loss: str, dtype: str, way: str, world: int) -> Found:
    model = Towers(loss, dtype, frozen=way == "frozen image")
    image, text, *scalars = model(data(world))
    wide = model.scale.dtype
    value = LOSSES[loss][0](image.to(wide), text.to(wide), *scalars)
    value.backward()
    return gradients(model, value)


def bare(loss: str, world: int, rank: int, group: distributed.ProcessGroup | None) -> Found:
    """The gradients that `backward` hands to a rank's features, and to scalars that no DDP averages."""
    own = slice(0, world * OWN) if group is None else slice(rank * OWN, (rank + 1) * OWN)
    scalars = [torch.tensor(7.0), torch.tensor(-3.0)][: 2 if loss == "sigmoid" else 1]
    given = [normalize(data(world)[own, :4]), normalize(data(world)[own, 4:8]), *scalars]
    given = [tensor.requires_grad_() for tensor in given]
    value = LOSSES[loss][0](*given) if group is None else LOSSES[loss][1](*given, tile=TILE, group=group)
    found = torch.autograd.grad(value, given)
    return dict(zip(("image", "text", "scale", "bias"), found, strict=False))


class Largest(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.num = max(self.num, made.numel() if torch.is_tensor(made) else 0)
        return made


def most_numbers(group: distributed.ProcessGroup) -> torch.Tensor:
    """Of the largest tensor of both losses, with 40 rows a rank of 2 numbers and tiles of 8."""
    image, text = (torch.randn(40, 2, requires_grad=True) for _ in range(2))
    with Largest() as largest:
        tiled_contrastive(image, text, torch.tensor(1.0), tile=8, group=group).backward()
        tiled_sigmoid(image, text, torch.tensor(1.0), torch.tensor(0.0), tile=8, group=group).backward()
    return torch.tensor(largest.num)


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/ranks", timedelta(seconds=PATIENCE), rank=rank, world_size=max(WORLDS)
    )
    groups = {world: distributed.new_group(list(range(world))) for world in WORLDS}
    found: dict[str, Found] = {}
    for world, group in groups.items():
        if isinstance(group, distributed.ProcessGroup):
            for case in product(LOSSES, DTYPES, WAYS):
                found[" ".join((*case, str(world)))] = of_a_rank(*case, group)
            found |= {f"bare {loss} {world}": bare(loss, world, rank, group) for loss in LOSSES}
            found[f"most {world}"] = {"numbers": most_numbers(group)}
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def run_ranks(target: Callable[[int, Path], None], num: int, folder: Path) -> None:
    """All ranks, each in a process of its own; fails when one fails or all hang."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed"])
    ranks = [context.Process(target=target, args=(rank, folder)) for rank in range(num)]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + PATIENCE
    try:
        for process in ranks:
            process.join(max(0.0, deadline - time.monotonic()))
        assert [process.exitcode for process in ranks] == [0] * num  # None: it hangs
    finally:
        for process in ranks:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Found]]:
    """What each of three ranks found; ranks 0 and 1 are also the group of two."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(run_rank, max(WORLDS), folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(max(WORLDS))]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_ranks_compute_what_one_process_does(
    found: list[dict[str, Found]], loss: str, dtype: str, way: str, world: int
) -> None:
    ranks = [found[rank][" ".join((loss, dtype, way, str(world)))] for rank in range(world)]
    expected = of_one_process(loss, dtype, way, world)
    tolerance = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 0.02}[dtype]
    for rank in ranks:
        torch.testing.assert_close(rank, expected, rtol=tolerance, atol=tolerance)
        for name, tensor in rank.items():
            assert torch.equal(tensor, ranks[0][name])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_features_are_handed_world_times_their_gradient_and_scalars_the_whole(
    found: list[dict[str, Found]], loss: str, world: int
) -> None:
    whole = bare(loss, world, 0, None)
    for rank in range(world):
        own = slice(rank * OWN, (rank + 1) * OWN)
        expected = {name: gradient[own] * world if gradient.dim() else gradient for name, gradient in whole.items()}
        torch.testing.assert_close(found[rank][f"bare {loss} {world}"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("world", WORLDS)
def test_no_rank_holds_its_rows_of_logits(found: list[dict[str, Found]], world: int) -> None:
    assert {found[rank][f"most {world}"]["numbers"].item() for rank in range(world)} == {world * 40 * 2}
