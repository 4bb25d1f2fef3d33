"""What a study's own models take on this machine: the device by `train.probe`, and a few steps of each size."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

import torch

from eval.study_plan import StudyPlan
from pipelines.contract import Batch
from train.hardware import Hardware
from train.heap import keep_freed_memory
from train.memory import activation_bytes
from train.model import CLIP
from train.optimizer import make_optimizer
from train.parallel import shared
from train.probe import probe
from train.ranks import Ranks
from train.recipe import Recipe
from train.step import Step

_PROBE_SECONDS, _STEPS_SECONDS = 3.0, 2.0
_MOST_BYTES = 2e9
"""Of activations: a larger batch is tried in part."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A device. seconds: {label of the plan's search axis: of a sample, in the first stage of the search's cell}; empty
    for a device that is not here. On a CPU they are those in which its cores worked for us, as on a quiet machine;
    busy: how many times as long it was by the clock.
    """

    hardware: Hardware
    seconds: dict[str, float]
    busy: float = 1.0


def measured(plan: StudyPlan, device: str, threads: int) -> Machine:
    """This machine's device, as a job of so many threads finds it; under a minute for three sizes."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(threads or before)
        keep_freed_memory()
    try:
        hardware = probe(device, _PROBE_SECONDS)[0]
        axis = plan.file.rates.axis
        cells = {label: plan.cell({axis: label}).name for label in plan.sweep.axes[axis]}
        taken = {label: _a_sample(plan.sweep.recipe(cell), device) for label, cell in cells.items()}
        busy = max(clock / work for work, clock in taken.values())
        return Machine(hardware, {label: work for label, (work, _) in taken.items()}, busy)
    finally:
        torch.set_num_threads(before)


def _a_sample(recipe: Recipe, device: str) -> tuple[float, float]:
    """Seconds of a sample, of work and by the clock: the trainer's own step on the same noise, at a rate of zero."""
    stage = recipe.stages[0]
    budget, bfloat16 = stage.budget, recipe.precision == "bfloat16"
    num = max(2, min(stage.batch_size, int(_MOST_BYTES / activation_bytes(recipe.model, budget, bfloat16, False))))
    torch.manual_seed(0)
    model = CLIP(recipe.model, budget, stage.image_positions).to(device).train()
    ranks, optimizer = Ranks(device), make_optimizer(model, recipe.optimizer)
    step = Step(model, shared(model, ranks, "ddp"), optimizer, ranks, bfloat16)
    images = torch.randint(0, 256, (num, 3, budget.res, budget.res), dtype=torch.uint8, device=device)
    tokens = torch.randint(1, recipe.model.text.vocabulary_size, (num, budget.text_tokens), device=device)
    batch, places = Batch(images, tokens, torch.arange(num)), torch.arange(num, device=device)

    def once() -> tuple[float, float]:
        began, worked = perf_counter(), process_time()
        step.take(batch, places, 0.0).loss.item()
        clock = perf_counter() - began
        return (process_time() - worked) / torch.get_num_threads() if device == "cpu" else clock, clock

    once()
    times = [once()]
    while sum(clock for _, clock in times) < _STEPS_SECONDS:
        times.append(once())
    works, clocks = zip(*times, strict=True)
    return median(works) / num, median(clocks) / num
