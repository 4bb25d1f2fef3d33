"""Measure what this machine does, as a device to plan with: `train.plan --probe`, well under a minute.

    peak         FLOP/s of the best of some products of square matrices, bfloat16 on a GPU, float32 on a CPU
    bandwidth    bytes/s, read and written, of copying a tensor that no cache holds
    efficiency   from whole training steps (towers, loss, AdamW) of a small and a wide model: seconds that
                 `train.step_time` expects at an efficiency of 1, over those that they took; the two's geometric mean

How far the two lie apart says how well the one number does; both are told. Measure on a quiet machine, with as many
threads as will train.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch

from pipelines.contract import TokenBudget
from train.flops import training_flops
from train.hardware import Hardware
from train.loss import contrastive
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.optimizer import make_optimizer
from train.recipe import OptimizerConfig
from train.step_time import ideal_seconds

# With few ids: a real batch is so large that AdamW on a table of words is nothing beside it.
_SMALL = ModelConfig(128, VisionConfig(8, 128, 4, 4), TextConfig(128, 2, 4, vocabulary_size=1024))
_WIDE = ModelConfig(512, VisionConfig(16, 768, 2, 12), TextConfig(512, 2, 8, vocabulary_size=1024))
_DEEP = 12
"""Blocks of the wide towers on a GPU, which two would leave waiting for the CPU."""


@dataclass(frozen=True, slots=True)
class Tower:
    """A measured model. flops_per_second: useful ones. efficiency: expected over measured seconds."""

    name: str
    seconds_per_sample: float
    flops_per_second: float
    mfu: float
    efficiency: float


def probe(device: str = "cpu", seconds: float = 4.0) -> tuple[Hardware, tuple[Tower, ...]]:
    """The device and its two towers. seconds: of each of the four measurements, at least one repeat."""
    on_gpu = device != "cpu"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    size, copied = (8192, 2**30) if on_gpu else (2048, 2**28)
    if on_gpu:
        name, memory = torch.cuda.get_device_name(), float(torch.cuda.get_device_properties(0).total_memory)
    else:
        name = f"CPU, {torch.get_num_threads()} threads"
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    peak = 2 * size**3 / min(_times(lambda: torch.mm(a, b), device, seconds))
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * copied / min(_times(lambda: target.copy_(source), device, seconds))
    hardware = Hardware(name, peak, bandwidth, memory, efficiency=1.0, price=0.0, autocast=on_gpu)
    wide = _WIDE
    if on_gpu:
        wide = replace(wide, vision=replace(wide.vision, depth=_DEEP), text=replace(wide.text, depth=_DEEP))
    towers = (
        _tower("small", _SMALL, TokenBudget(32, 12), 2048 if on_gpu else 64, hardware, device, seconds),
        _tower("wide", wide, TokenBudget(112, 16), 512 if on_gpu else 16, hardware, device, seconds),
    )
    return replace(hardware, efficiency=(towers[0].efficiency * towers[1].efficiency) ** 0.5), towers


def _tower(
    name: str,
    config: ModelConfig,
    budget: TokenBudget,
    batch_size: int,
    hardware: Hardware,
    device: str,
    seconds: float,
) -> Tower:
    model = CLIP(config, budget).to(device)
    optimizer = make_optimizer(model, OptimizerConfig())
    images = torch.zeros(batch_size, 3, budget.res, budget.res, dtype=torch.uint8, device=device)
    tokens = torch.ones(batch_size, budget.text_tokens, dtype=torch.int64, device=device)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=hardware.autocast):
            features = model(images, tokens)
        contrastive(*features).backward()
        optimizer.step()
        optimizer.zero_grad()

    a_sample = median(_times(step, device, seconds)) / batch_size
    rate = training_flops(config, budget) / a_sample
    ideal = ideal_seconds(config, budget, hardware, checkpointing=False)
    return Tower(name, a_sample, rate, rate / hardware.peak_flops, ideal / a_sample)


def _times(work: Callable[[], object], device: str, seconds: float) -> list[float]:
    """Seconds that `work` takes, again and again for so long; two times before that do not count."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    for _ in range(2):
        once()
    times = [once()]
    while sum(times) < seconds:
        times.append(once())
    return times
