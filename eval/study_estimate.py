"""What a study will take, before it is begun: cells, trainings, FLOPs, hours and disk, table by table.

Hours are those of `train.step_time`, on a device that is measured or named, and what small models feel besides: AdamW's
pass over all parameters, which moves 32 bytes each (it reads weight, gradient and two moments and writes all but the
gradient, which another pass writes) and is shared by few samples; and, on a CPU, decoding, which takes the same cores.
Here, a few real steps of each size then say by how much that is wrong. Judging and making stores come on top.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from eval.study_plan import StudyPlan
from eval.study_probe import Machine, measured
from train import memory
from train.hardware import HARDWARE, Hardware
from train.plan_report import count, duration
from train.recipe import Recipe, Stage
from train.stage_plan import LOADER_RATES, RATES_AT, Asked, make_plan
from train.step_time import sample_seconds
from train.sweep import Cell

_ADAMW_BYTES = 32
_BUSY = 1.3
_DECODED = {"online": "margin copies, JPEG", "bank": "crop bank, JPEG"}
_STATE = 12
"""Bytes of a checkpoint, a parameter: float32 weights and two moments."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of some trainings together. hours: of one job. decoding: core-hours of decoding. loader_cores: the most that a
    stage needs to keep up with its device. checkpoint_bytes: of all of them, kept; largest: of one training.
    """

    num_trainings: int = 0
    num_samples: int = 0
    flops: float = 0.0
    hours: float = 0.0
    decoding: float = 0.0
    loader_cores: float = 0.0
    checkpoint_bytes: float = 0.0
    largest: float = 0.0

    def __add__(self, other: "Needs") -> "Needs":
        """Both, one after the other."""
        return Needs(
            self.num_trainings + other.num_trainings,
            self.num_samples + other.num_samples,
            self.flops + other.flops,
            self.hours + other.hours,
            self.decoding + other.decoding,
            max(self.loader_cores, other.loader_cores),
            self.checkpoint_bytes + other.checkpoint_bytes,
            max(self.largest, other.largest),
        )

    def times(self, num: int) -> "Needs":
        """So many alike."""
        return sum((self for _ in range(num)), Needs())


def needs_of(recipe: Recipe, hardware: Hardware, slowness: float = 1.0) -> Needs:
    """What one training of a recipe takes on a device. slowness: steps measured, over what is computed."""
    plan = make_plan(recipe, Asked(hardware, num_devices=1, checkpointing=False))
    rates = [_decoded_a_second(stage) for stage in recipe.stages]
    steps = sum(stage.num_samples * slowness * step_seconds(recipe, stage, hardware) for stage in recipe.stages) / 3600
    decoding = sum(stage.num_samples / rate for stage, rate in zip(recipe.stages, rates, strict=True)) / 3600
    hours = steps if hardware.autocast else steps + decoding
    parameters = memory.num_parameters(recipe.model, recipe.stages[-1].budget)
    cores = max(planned.images_per_host / rate for planned, rate in zip(plan.stages, rates, strict=True))
    # One at the end of each stage, and the newest; the last is both.
    kept = float(_STATE * parameters * len(recipe.stages))
    return Needs(1, recipe.num_samples, plan.training_flops, hours, decoding, cores, kept, kept + _STATE * parameters)


def step_seconds(recipe: Recipe, stage: Stage, hardware: Hardware) -> float:
    """Seconds of a sample's share of a step, computed: the towers' and the optimizer's."""
    towers = sample_seconds(recipe.model, stage.budget, hardware, checkpointing=False)
    adamw = memory.num_parameters(recipe.model, stage.budget) * _ADAMW_BYTES / hardware.bandwidth
    return towers + adamw / hardware.efficiency / stage.batch_size


def _decoded_a_second(stage: Stage) -> float:
    """Images that the loader decodes a second on a core: nine tenths of what one takes at 112 px are taken to grow with
    its pixels.
    """
    a_core = LOADER_RATES[_DECODED[stage.crops]]
    return a_core / (0.9 * (stage.budget.res / RATES_AT) ** 2 + 0.1)


def _slowness(plan: StudyPlan, machine: Machine) -> dict[str, float]:
    """By label of the search's axis: measured over computed; 1 for what was not measured."""
    axis = plan.file.rates.axis
    found = dict.fromkeys(plan.sweep.axes[axis], 1.0)
    for label, seconds in machine.seconds.items():
        recipe = plan.sweep.recipe(plan.cell({axis: label}).name)
        found[label] = seconds / step_seconds(recipe, recipe.stages[0], machine.hardware)
    return found


def needs_by_table(plan: StudyPlan, num_seeds: int, machine: Machine) -> dict[str, Needs]:
    """The search, each table of the sweep for itself, and last all of it, each cell once."""
    sweep, rates = plan.sweep, plan.file.rates
    slowness = _slowness(plan, machine)
    of_cell = {
        cell.name: needs_of(sweep.recipe(cell.name), machine.hardware, slowness[cell.labels[rates.axis]])
        for cell in sweep.cells
    }

    def together(cells: Iterable[Cell], num: int) -> Needs:
        return sum((of_cell[cell.name].times(num) for cell in cells), Needs())

    searched = [plan.cell({rates.axis: label}) for label in sweep.axes[rates.axis]]
    num_factors = len(rates.factors) if len(rates.factors) > 1 else 0
    search = together(searched, num_factors)
    tables = {name: together(cells, num_seeds) for name, cells in sweep.tables.items()}
    everything = search + together(sweep.cells, num_seeds)
    return {"search for learning rates": search, **tables, "all, each cell once": everything}


def estimate(
    plan: StudyPlan,
    seeds: Sequence[int],
    jobs: int,
    console: Console,
    device: str = "cpu",
    threads: int = 1,
    hardware: Hardware | None = None,
) -> Needs:
    """Print what the plan takes with these seeds, `jobs` trainings at a time, and return it.

    hardware: what to plan for instead of this machine, whose `device` is measured with the threads that a job gets.
    With several jobs on a GPU each is taken to have a GPU of its own; on a CPU, its own share of the memory's speed.
    """
    if hardware is None:
        console.print(f"Measuring this machine ({device}) and the plan's models on it, under a minute ...")
        machine = measured(plan, device, threads)
    else:
        machine = Machine(hardware, {})
    hardware = machine.hardware
    found = needs_by_table(plan, len(seeds), machine)
    total = list(found.values())[-1]
    console.print(_table(plan, found, jobs, hardware))
    console.print(_sentence(plan, len(seeds), total, jobs, hardware), soft_wrap=True)
    if machine.busy > _BUSY:
        console.print(
            f"This machine is busy with other work: by its clock a step takes {machine.busy:.1f} times as long."
        )
    return total


def _table(plan: StudyPlan, found: dict[str, Needs], jobs: int, hardware: Hardware) -> Table:
    shown = Table(title=f"{plan.name}: {jobs} at a time on {hardware.name}", title_justify="left")
    shown.add_column("")
    for name in ("cells", "trainings", "samples", "training FLOPs", "hours of a job", "by the clock"):
        shown.add_column(name, justify="right")
    last = len(found) - 1
    for place, (name, needs) in enumerate(found.items()):
        if not needs.num_trainings:
            continue
        cells = plan.sweep.tables.get(name, plan.sweep.cells)
        num = len(plan.sweep.axes[plan.file.rates.axis]) if not place else len(cells)
        if place in (1, last):
            shown.add_section()
        clock = duration(needs.hours / jobs)
        amounts = count(needs.num_samples), count(needs.flops), f"{needs.hours:,.1f}"
        numbers = (f"{needs.num_trainings:,}", *amounts, clock)
        shown.add_row(name, f"{num:,}", *numbers)
    return shown


def _sentence(plan: StudyPlan, num_seeds: int, total: Needs, jobs: int, hardware: Hardware) -> str:
    gigabytes = 2**30
    controls = len(plan.file.untrained) * num_seeds
    said = (
        f"{len(plan.sweep.cells):,} cells, {num_seeds:,} seed(s): {total.num_trainings:,} trainings"
        f"{f' and {controls:,} controls at random weights' if controls else ''}, {count(total.flops)}FLOP, "
        f"{duration(total.hours / jobs)} by the clock, judging and making stores not counted; "
        f"{max(total.largest * jobs / gigabytes, 0.1):,.1f} GiB of checkpoints at a time, "
        f"{total.checkpoint_bytes / gigabytes:,.1f} GiB with --keep-runs."
    )
    if hardware.autocast:
        said += (
            f" Decoding JPEGs takes {total.decoding:,.0f} core-hours: {total.decoding / total.hours:,.0f} cores a GPU "
            f"on average, {total.loader_cores:,.0f} at the most; with fewer the GPU waits."
        )
    if hardware in HARDWARE.values():
        said += f" At ${hardware.price:.3f} an hour: ${total.hours * hardware.price:,.0f}."
    return said
