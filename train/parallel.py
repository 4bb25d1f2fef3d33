"""One model on many ranks: DDP or FSDP2, and the way between its tensors and whole ones.

Checkpoints hold whole tensors whatever the ranks were, so a run goes on with other ranks, or with one process.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from train.model import CLIP
from train.ranks import Ranks

KINDS = ("ddp", "fsdp")


@dataclass(frozen=True, slots=True)
class Parallel:
    """A model as the ranks share it.

    call: what to call in place of the model. no_sync: a context in which gradients stay on their rank.
    """

    call: nn.Module
    no_sync: Callable[[], AbstractContextManager[object]]


def shared(model: CLIP, ranks: Ranks, kind: str) -> Parallel:
    """Spread a model over the ranks; make its optimizer afterwards. kind: one of KINDS, alike for one process.

    ddp: every rank has all weights. fsdp: each has its part of each block, and of the rest. The temperature is on all.
    """
    if ranks.world == 1:
        return Parallel(model, nullcontext)
    if kind == "ddp":
        devices = [torch.device(ranks.device)] if ranks.device.startswith("cuda") else None
        wrapped = DistributedDataParallel(model, device_ids=devices, forward_sync_buffers=False)
        return Parallel(wrapped, wrapped.no_sync)
    mesh = init_device_mesh(torch.device(ranks.device).type, (ranks.world,))
    # A scalar cannot be cut; the loss hands its whole gradient to every rank.
    alone = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    for block in (*model.vision.blocks, *model.text.blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=alone)
    return Parallel(model, lambda: _unsynchronised(model))


@contextmanager
def _unsynchronised(model: nn.Module) -> Iterator[None]:
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be spread over ranks; every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def alike(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole tensor, spread as another is, on its device."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor.to(other.device)


def load_whole(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy whole tensors into a model's own, spread or not."""
    own = model.state_dict()
    assert own.keys() == tensors.keys(), own.keys() ^ tensors.keys()
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(alike(tensors[name], tensor))


def compiled(model: CLIP) -> None:
    """Compile a model's towers for one stage: a static graph each; where blocks are spread, a graph for each block."""
    if isinstance(model, FSDPModule):
        for block in (*model.vision.blocks, *model.text.blocks):
            block.compile(dynamic=False)
        return
    for name in ("encode_image", "encode_text"):
        setattr(model, name, torch.compile(getattr(model, name), dynamic=False))
