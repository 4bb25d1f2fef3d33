"""The processes of a run: one, or as many as torchrun started, and the few things that they tell each other.

Gradients, features and weights travel in `train.parallel` and `train.tiled_loss`; this is for decisions, which all
ranks must make alike. A rank that dies breaks its neighbours' collectives, and torchrun ends the rest and names it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from prep.errors import UserError

T = TypeVar("T")

# The longest that ranks wait for one another: the first writes checkpoints of gigabytes while the others stand.
_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its kind. device: where its model lives, such as "cpu" or "cuda:1"."""

    device: str = "cpu"
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def group(self) -> distributed.ProcessGroup | None:
        """All ranks; None for a process alone."""
        return distributed.group.WORLD if self.world > 1 else None

    def any(self, flag: bool) -> bool:
        """Whether a flag is up on any rank."""
        if self.world == 1:
            return flag
        raised = torch.tensor(int(flag))
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return bool(raised.item())

    def first(self, value: T) -> T:
        """The first rank's value, on all of them."""
        if self.world == 1:
            return value
        values: list[T] = [value]
        distributed.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]

    def all(self, value: T) -> list[T]:
        """Everybody's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[T] = [value] * self.world
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Meet the other ranks, if torchrun started any, and part from them at the end. device: "cpu", "cuda" or one GPU.

    Raises `UserError` when there are more ranks than GPUs on this host, and when another rank is lost on the way.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(device)
        return
    local, rank = int(os.environ["LOCAL_RANK"]), int(os.environ["RANK"])
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            problem = f"rank {rank} is number {local} on this host, which has {torch.cuda.device_count()} GPUs"
            raise UserError("torchrun --nproc-per-node", problem, "Start as many processes as there are GPUs.")
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    # Decisions travel between CPUs, so that no GPU is waited for.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(device, rank, world)
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        problem = f"lost another rank: {str(error).splitlines()[0]}"
        raise UserError(f"rank {rank}", problem, "See what that one said; the same command goes on.") from error
    finally:
        distributed.destroy_process_group()
