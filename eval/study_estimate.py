"""What a study will take, before it is begun: cells, trainings, FLOPs, hours and disk, table by table.

Hours are those of `train.step_time`, on a device that is measured or named, and what small models feel besides: AdamW's
pass over all parameters, which moves 32 bytes each (it reads weight, gradient and two moments and writes all but the
gradient, which another pass writes) and is shared by few samples; and, on a CPU, decoding, which takes the same cores.
Here, a few real steps of each size then say by how much that is wrong. No step takes less than a hundredth of a second.
Judging and making stores come on top.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from eval.study_plan import StudyPlan
from eval.study_probe import Machine, measured, step_seconds
from train import memory
from train.hardware import HARDWARE, Hardware
from train.plan_report import count, duration
from train.recipe import Recipe, Stage
from train.stage_plan import LOADER_RATES, RATES_AT, Asked, make_plan
from train.sweep import Cell

_LEAST_STEP = 0.01
"""Seconds, whatever the device: a step of a dozen blocks launches about two thousand kernels of some 5 microseconds
each, and the loader hands over a batch."""
_BUSY = 1.3
_SEARCH = "search for learning rates"
_DECODED = {"online": "margin copies, JPEG", "bank": "crop bank, JPEG"}
_STATE = 12
"""Bytes of a checkpoint, a parameter: float32 weights and two moments."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of some trainings together. hours: of one job. decoding: core-hours of decoding. loader_cores: the most that a
    stage needs to keep up with its device. kept: bytes of the checkpoints that each training ends with; spare: of the
    one more that it has while it writes one.
    """

    num_trainings: int = 0
    num_samples: int = 0
    flops: float = 0.0
    hours: float = 0.0
    decoding: float = 0.0
    loader_cores: float = 0.0
    kept: tuple[float, ...] = ()
    spare: tuple[float, ...] = ()

    def __add__(self, other: "Needs") -> "Needs":
        """Both, one after the other."""
        return Needs(
            self.num_trainings + other.num_trainings,
            self.num_samples + other.num_samples,
            self.flops + other.flops,
            self.hours + other.hours,
            self.decoding + other.decoding,
            max(self.loader_cores, other.loader_cores),
            self.kept + other.kept,
            self.spare + other.spare,
        )

    def times(self, num: int) -> "Needs":
        """So many alike."""
        return sum((self for _ in range(num)), Needs())

    def checkpoint_bytes(self, jobs: int, *, keep: bool) -> float:
        """The most that lies on the disk while the largest are trained together; keep: beside all the others'."""
        if keep:
            return sum(self.kept) + sum(sorted(self.spare)[-jobs:])
        return sum(sorted(map(sum, zip(self.kept, self.spare, strict=True)))[-jobs:])


def needs_of(recipe: Recipe, hardware: Hardware, slowness: float = 1.0) -> Needs:
    """What one training of a recipe takes on a device. slowness: steps measured, over what is computed."""
    plan = make_plan(recipe, Asked(hardware, num_devices=1, checkpointing=False))
    steps = [
        max(stage.num_samples * slowness * step_seconds(recipe, stage, hardware), stage.num_steps * _LEAST_STEP)
        for stage in recipe.stages
    ]
    decoding = [stage.num_samples / _decoded_a_second(stage) for stage in recipe.stages]
    seconds = sum(steps) if hardware.autocast else sum(steps) + sum(decoding)
    cores = max(decoded / step for decoded, step in zip(decoding, steps, strict=True))
    parameters = memory.num_parameters(recipe.model, recipe.stages[-1].budget)
    # One at the end of each stage, and the newest; the last is both.
    a_checkpoint = float(_STATE * parameters)
    kept = (a_checkpoint * len(recipe.stages),)
    spent = seconds / 3600, sum(decoding) / 3600
    return Needs(1, recipe.num_samples, plan.training_flops, *spent, cores, kept, (a_checkpoint,))


def _decoded_a_second(stage: Stage) -> float:
    """Images that the loader decodes a second on a core: nine tenths of what one takes at 112 px are taken to grow with
    its pixels.
    """
    a_core = LOADER_RATES[_DECODED[stage.crops]]
    return a_core / (0.9 * (stage.budget.res / RATES_AT) ** 2 + 0.1)


def needs_by_table(plan: StudyPlan, num_seeds: Mapping[str, int], machine: Machine) -> dict[str, tuple[int, Needs]]:
    """Number of cells, and what they take: the search, each table of the sweep for itself, and last all of it, each
    cell once. num_seeds: of the cells that are asked for, by name; the search is never cut short.
    """
    sweep, rates = plan.sweep, plan.file.rates
    asked = [cell for cell in sweep.cells if num_seeds.get(cell.name)]
    searched = [plan.cell({rates.axis: label}) for label in sweep.axes[rates.axis]]
    of_cell = {
        cell.name: needs_of(
            sweep.recipe(cell.name), machine.hardware, machine.slowness.get(cell.labels[rates.axis], 1.0)
        )
        for cell in [*searched, *asked]
    }

    def together(cells: Iterable[Cell]) -> tuple[int, Needs]:
        wanted = [cell for cell in cells if num_seeds.get(cell.name)]
        return len(wanted), sum((of_cell[cell.name].times(num_seeds[cell.name]) for cell in wanted), Needs())

    num_factors = len(rates.factors) if len(rates.factors) > 1 else 0
    search = sum((of_cell[cell.name].times(num_factors) for cell in searched), Needs())
    tables = {name: together(cells) for name, cells in sweep.tables.items()}
    num_cells, trained = together(asked)
    return {_SEARCH: (len(searched), search), **tables, "all, each cell once": (num_cells, search + trained)}


def estimate(
    plan: StudyPlan,
    cells: Sequence[Cell],
    seeds: Sequence[int],
    jobs: int,
    console: Console,
    device: str = "cpu",
    threads: int = 1,
    hardware: Hardware | None = None,
) -> Needs:
    """Print what these cells of the plan take with these seeds, `jobs` trainings at a time, and return it.

    hardware: what to plan for instead of this machine, whose `device` is measured with the threads that a job gets.
    With several jobs on a GPU each is taken to have a GPU of its own; on a CPU, its own share of the memory's speed.
    """
    if hardware is None:
        console.print(f"Measuring this machine ({device}) and the plan's models on it, under a minute ...")
        machine = measured(plan, device, threads)
    else:
        machine = Machine(hardware, {})
    hardware = machine.hardware
    num_seeds = {cell.name: len(set(plan.seeds_of(cell)) & set(seeds)) for cell in cells}
    found = needs_by_table(plan, num_seeds, machine)
    _, total = list(found.values())[-1]
    num_controls = len(set(plan.file.seeds) & set(seeds)) * sum(plan.cell(of) in cells for of in plan.file.untrained)
    console.print(_table(plan, found, jobs, hardware))
    console.print(_sentence(num_seeds, num_controls, total, jobs, hardware), soft_wrap=True)
    if machine.busy > _BUSY:
        console.print(
            f"This machine is busy with other work: by its clock a step takes {machine.busy:.1f} times as long."
        )
    return total


def _table(plan: StudyPlan, found: dict[str, tuple[int, Needs]], jobs: int, hardware: Hardware) -> Table:
    shown = Table(title=f"{plan.name}: {jobs} at a time on {hardware.name}", title_justify="left")
    shown.add_column("")
    for name in ("cells", "trainings", "samples", "training FLOPs", "hours of a job", "by the clock"):
        shown.add_column(name, justify="right")
    last = len(found) - 1
    for place, (name, (num, needs)) in enumerate(found.items()):
        if not needs.num_trainings:
            continue
        if place == last:
            shown.add_section()
        clock = duration(needs.hours / jobs)
        amounts = count(needs.num_samples), count(needs.flops), f"{needs.hours:,.1f}"
        numbers = (f"{needs.num_trainings:,}", *amounts, clock)
        shown.add_row(name, f"{num:,}", *numbers, end_section=not place)
    return shown


def _sentence(num_seeds: Mapping[str, int], num_controls: int, total: Needs, jobs: int, hardware: Hardware) -> str:
    gigabytes = 2**30
    nums = sorted({num for num in num_seeds.values() if num})
    seeds = " to ".join(f"{num:,}" for num in dict.fromkeys((nums[0], nums[-1]))) if nums else "0"
    said = (
        f"{sum(map(bool, num_seeds.values())):,} cells, {seeds} seed(s): {total.num_trainings:,} trainings"
        f"{f' and {num_controls:,} controls at random weights' if num_controls else ''}, {count(total.flops)}FLOP, "
        f"{duration(total.hours / jobs)} by the clock, judging and making stores not counted; "
        f"{max(total.checkpoint_bytes(jobs, keep=False) / gigabytes, 0.1):,.1f} GiB of checkpoints at a time, "
        f"{max(total.checkpoint_bytes(jobs, keep=True) / gigabytes, 0.1):,.1f} GiB with --keep-runs."
    )
    if hardware.autocast:
        said += (
            f" Decoding JPEGs takes {total.decoding:,.0f} core-hours: {total.decoding / total.hours:,.0f} cores a GPU "
            f"on average, {total.loader_cores:,.0f} at the most; with fewer the GPU waits."
        )
    if hardware in HARDWARE.values():
        said += f" At ${hardware.price:.3f} an hour: ${total.hours * hardware.price:,.0f}."
    return said
