"""What a study's own models take on this machine: the device by `train.probe`, and a few steps of each size.

What is computed of a step is here, too: by it a trial is kept short, and the trial says by how much it is wrong.
"""

from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter, process_time

import torch

from eval.study_plan import StudyPlan
from pipelines.contract import Batch
from train.hardware import Hardware
from train.heap import keep_freed_memory
from train.memory import activation_bytes, num_parameters
from train.model import CLIP
from train.optimizer import make_optimizer
from train.parallel import shared
from train.probe import probe
from train.ranks import Ranks
from train.recipe import Recipe, Stage
from train.step import Step
from train.step_time import sample_seconds

_PROBE_SECONDS, _STEPS_SECONDS = 3.0, 2.0
_MOST_BYTES, _LONG_STEP = 2e9, 0.5
"""Of activations, and seconds: of a batch that takes more a part is tried."""
_ADAMW_BYTES = 32


@dataclass(frozen=True, slots=True)
class Machine:
    """A device. slowness: {label of the plan's search axis: seconds of a step over those computed, in the first stage
    of the search's cell}; empty for a device that is not here. On a CPU they are those in which its cores worked for
    us, as on a quiet machine; busy: how many times as long it was by the clock.
    """

    hardware: Hardware
    slowness: dict[str, float]
    busy: float = 1.0


def step_seconds(recipe: Recipe, stage: Stage, hardware: Hardware) -> float:
    """Seconds of a sample's share of a step, computed: the towers' and the optimizer's."""
    towers = sample_seconds(recipe.model, stage.budget, hardware, checkpointing=False)
    adamw = num_parameters(recipe.model, stage.budget) * _ADAMW_BYTES / hardware.bandwidth
    return towers + adamw / hardware.efficiency / stage.batch_size


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
        taken = {label: _slowness(plan.sweep.recipe(cell), device, hardware) for label, cell in cells.items()}
        busy = max(clock / work for work, clock in taken.values())
        return Machine(hardware, {label: work for label, (work, _) in taken.items()}, busy)
    finally:
        torch.set_num_threads(before)


def _slowness(recipe: Recipe, device: str, hardware: Hardware) -> tuple[float, float]:
    """Seconds of a step over those that are computed for it, of work and by the clock: the trainer's own step on the
    same noise, at a rate of zero.
    """
    stage = recipe.stages[0]
    budget, bfloat16 = stage.budget, recipe.precision == "bfloat16"
    fitting = int(_MOST_BYTES / activation_bytes(recipe.model, budget, bfloat16, False))
    most = max(1, min(stage.batch_size, fitting))
    torch.manual_seed(0)
    model = CLIP(recipe.model, budget, stage.image_positions).to(device).train()
    ranks, optimizer = Ranks(device), make_optimizer(model, recipe.optimizer)
    step = Step(model, shared(model, ranks, "ddp"), optimizer, ranks, bfloat16)
    images = torch.randint(0, 256, (most, 3, budget.res, budget.res), dtype=torch.uint8, device=device)
    tokens = torch.randint(1, recipe.model.text.vocabulary_size, (most, budget.text_tokens), device=device)
    places = torch.arange(most, device=device)

    def once(num: int) -> tuple[float, float]:
        batch = Batch(images[:num], tokens[:num], torch.arange(num))
        began, worked = perf_counter(), process_time()
        step.take(batch, places[:num], 0.0).loss.item()
        clock = perf_counter() - began
        return (process_time() - worked) / torch.get_num_threads() if device == "cpu" else clock, clock

    once(1)
    num, last = 1, once(1)
    # Arithmetic alone does not say how long a step takes: some CPUs are slow at bfloat16.
    while num < most and last[1] < _LONG_STEP:
        num = min(2 * num, most)
        last = once(num)
    times = [once(num)]
    while sum(clock for _, clock in times) < _STEPS_SECONDS:
        times.append(once(num))
    works, clocks = zip(*times, strict=True)
    computed = num * step_seconds(recipe, replace(stage, batch_size=num), hardware)
    return median(works) / computed, median(clocks) / computed
