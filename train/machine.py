"""How a run uses the machine: flags of `train.run`, never keys of a recipe. Results differ by them in rounding only."""

import resource
import time
from dataclasses import dataclass, field

import torch

from pipelines.choose import Host
from prep.errors import UserError


@dataclass(frozen=True, slots=True)
class Machine:
    """Machine facts of a run.

    loader: one of pipelines.choose.LOADERS, or "auto". replace_damaged: as in `Draws`. parallel: on many ranks, one of
    train.parallel.KINDS. compile: the towers, once a stage. checkpoint_blocks: see `CLIP.set_checkpointing`.
    micro_batch: samples that a rank encodes at once, 0 for all. ema: decay of an average of the weights, 0 for none.
    keep_checkpoints: the newest so many; keep_every: and the first after each so many samples, 0 for none. wandb: a
    project to report to, empty for none.
    """

    loader: str = "torch"
    host: Host = field(default_factory=Host)
    replace_damaged: bool = False
    parallel: str = "ddp"
    compile: bool = False
    checkpoint_blocks: bool = False
    micro_batch: int = 0
    ema: float = 0.0
    keep_checkpoints: int = 2
    keep_every: int = 0
    wandb: str = ""


# Dense FLOP/s of matrix products in bfloat16 and in float32 (TF32 is not used), by NVIDIA's data sheets.
_GPUS = {
    "H200": (989e12, 67e12),
    "H100 PCIe": (756e12, 51e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "A10": (125e12, 31.2e12),
}


def check_device(device: str) -> None:
    """Raise `UserError` when torch cannot use a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"--device {device}", f"torch cannot use it: {problem}", "Choose cpu or cuda.") from error


def peak_flops(device: str, bfloat16: bool) -> float | None:
    """What a device could do, FLOP/s, for MFU: a GPU by its data sheet, None for one that is not listed here.

    A CPU is measured, in a third of a second, with torch's threads as they are set: the best of some float32 products.
    (bfloat16 ones are as fast or slower on CPUs without units for them.)
    """
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        return next((rates[0 if bfloat16 else 1] for known, rates in _GPUS.items() if known in name), None)
    size = 1024
    a, b = torch.ones(size, size), torch.ones(size, size)
    best, until = float("inf"), time.perf_counter() + 0.3
    while (began := time.perf_counter()) < until:
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def most_memory(device: str) -> int:
    """Bytes, the most so far: allocated on a GPU, resident of the process on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
