"""Does the short stage pay? The two-stage model against full length only for the same wall-clock, and two controls.

For each seed: the demo's recipe; its last stage alone, for as many samples as fit into the time that the two stages
took (at the speed that the last stage ran at); the recipe with captions shuffled, so that nothing can be learned but
the statistics of each side; and the untrained model. All see the same store, and are evaluated in the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from eval import retrieval, zeroshot
from eval.programs import run_program
from eval.run import evaluate_run
from prep.errors import UserError
from prep.files import write_json, written_aside
from train import checkpoint
from train.config import to_toml
from train.log import read_log
from train.model import CLIP
from train.recipe import Recipe

# 97.5% quantiles of Student's t with 1, 2, ... degrees of freedom, for 95% intervals over few seeds.
_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
# Beyond this share the clocks of a pair are called unequal.
MAX_CLOCK_DIFFERENCE = 0.1
NAMES = {
    "two_stage": "two stages",
    "full_length": "full length, same time",
    "shuffled": "captions shuffled",
    "untrained": "untrained",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model of the comparison. seconds: of training; flops: of training; accuracies as shares."""

    kind: str
    seed: int
    samples_seen: int
    seconds: float
    flops: float
    top1: float
    top5: float
    shift_top1: float
    recall_at_1: float

    @staticmethod
    def of(kind: str, seed: int, state: checkpoint.State, report: dict[str, Any]) -> "Outcome":
        """From a run's last state and its evaluation."""
        plain, shift = report["zeroshot"]
        recall = report["retrieval"]["text_to_image"]["1"]
        return Outcome(
            kind,
            seed,
            state.samples_seen,
            state.seconds,
            state.flops,
            plain["top1"],
            plain["top5"],
            shift["top1"],
            recall,
        )


def full_length(recipe: Recipe, seconds: float, samples_per_second: float) -> Recipe:
    """The last stage alone, long enough for `seconds`, with the learning rate and warm-up of the first."""
    first, last = recipe.stages[0], recipe.stages[-1]
    samples = max(last.batch_size, round(seconds * samples_per_second / last.batch_size) * last.batch_size)
    stage = replace(
        last,
        samples=samples,
        learning_rate=first.learning_rate,
        warmup_samples=min(first.warmup_samples, samples // 4),
    )
    return replace(recipe, name=f"{recipe.name}_full_length", stages=(stage,))


def _train(out: Path, run: Path, recipe: Recipe) -> None:
    path = run.with_suffix(".toml")
    with written_aside(path) as file:
        file.write(to_toml(recipe).encode())
    if not run_program("train.run", [str(path), "--store", str(out / "store"), "--out", str(run)]):
        raise UserError(str(run), "training stopped with the message above", "Mend it and run the comparison again.")


def _evaluate(out: Path, run: Path) -> dict[str, Any]:
    return evaluate_run(run, [out / "data" / "zeroshot", out / "data" / "zeroshot_shift"], out / "retrieval-store")


def _outcome(out: Path, kind: str, run: Path, recipe: Recipe) -> Outcome:
    done = checkpoint.found(run)
    if not done or int(done[-1].name) < recipe.num_samples:
        _train(out, run, recipe)
    return Outcome.of(kind, recipe.seed, checkpoint.read_state(checkpoint.found(run)[-1]), _evaluate(out, run))


def _timed_pair(out: Path, recipe: Recipe, two_stage_run: Path, console: Console) -> list[Outcome]:
    """The two-stage model, and full length for the seconds that the former took at the speed of its own last stage."""
    two_stage = _outcome(out, "two_stage", two_stage_run, recipe)
    last = len(recipe.stages) - 1
    rates = [line.samples_per_second for line in read_log(two_stage_run) if line.stage == last]
    timed = [rate for rate in rates if rate is not None]
    if not timed:
        raise UserError(str(two_stage_run), "its last stage is too short to be timed", "Give it more samples.")
    plain = full_length(recipe, two_stage.seconds, median(timed))
    full = _outcome(out, "full_length", _folder(out, recipe.seed) / "full_length", plain)
    if abs(full.seconds / two_stage.seconds - 1) > MAX_CLOCK_DIFFERENCE:
        console.print(
            f"The two took {two_stage.seconds:,.0f} and {full.seconds:,.0f} s: the machine was not equally busy. The "
            "samples were planned for equal time; delete both runs and try again for a fairer clock.",
            style="yellow",
        )
    return [two_stage, full]


def _folder(out: Path, seed: int) -> Path:
    return out / "compare" / f"seed{seed}"


def _untrained(out: Path, recipe: Recipe) -> Outcome:
    torch.manual_seed(recipe.seed)
    budget = recipe.stages[-1].budget
    model = CLIP(recipe.model, budget).eval()
    report = {
        "zeroshot": [
            zeroshot.evaluate(model, budget, out / "data" / name).to_json() for name in ("zeroshot", "zeroshot_shift")
        ],
        "retrieval": retrieval.evaluate(model, budget, out / "retrieval-store").to_json(),
    }
    return Outcome.of("untrained", recipe.seed, checkpoint.State(0, 0.0, 0.0), report)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half-width of the 95% interval by Student's t over seeds; no half-width for a single seed."""
    if len(values) < 2:
        return mean(values), None
    return mean(values), _STUDENT_T[min(len(values), 10) - 2] * stdev(values) / math.sqrt(len(values))


def _cell(values: Sequence[float]) -> str:
    middle, half = interval(values)
    return f"{middle:.1%}" + (f" ± {half * 100:.1f}" if half is not None else "")


def table(outcomes: list[Outcome]) -> Table:
    """The comparison, a row a kind: means over seeds with 95% intervals."""
    seeds = sorted({outcome.seed for outcome in outcomes})
    shown = Table(
        title=f"Means over training seeds {', '.join(map(str, seeds))} ± 95% intervals (Student's t); one data set",
        title_justify="left",
    )
    for name in ("model", "top-1", "top-5", "top-1, shifted", "recall@1", "samples", "seconds", "TFLOPs"):
        shown.add_column(name, justify="left" if name == "model" else "right")
    for kind, name in NAMES.items():
        rows = [outcome for outcome in outcomes if outcome.kind == kind]
        shares = [[getattr(row, field) for row in rows] for field in ("top1", "top5", "shift_top1", "recall_at_1")]
        shown.add_row(
            name,
            *map(_cell, shares),
            f"{mean(row.samples_seen for row in rows):,.0f}",
            f"{mean(row.seconds for row in rows):,.0f}",
            f"{mean(row.flops for row in rows) / 1e12:,.0f}",
        )
    return shown


def compare(out: Path, recipe: Recipe, seeds: Sequence[int], console: Console) -> None:
    """Train and evaluate all four kinds for each seed, print the table and write `compare.json`; restartable."""
    outcomes: list[Outcome] = []
    for seed in seeds:
        seeded = replace(recipe, seed=seed)
        console.print(f"\nSeed {seed}: two stages, then full length for the same time", style="bold")
        # The demo's own run is the two-stage run of its seed.
        outcomes += _timed_pair(
            out, seeded, out / "run" if seeded == recipe else _folder(out, seed) / "two_stage", console
        )
    for seed in seeds:
        seeded = replace(recipe, seed=seed)
        console.print(f"\nSeed {seed}: the controls", style="bold")
        shuffled = replace(seeded, shuffle_captions=True)
        outcomes += [
            _outcome(out, "shuffled", _folder(out, seed) / "shuffled", shuffled),
            _untrained(out, seeded),
        ]
    gains = [
        pair[0].top1 - pair[1].top1
        for pair in zip(*[[o for o in outcomes if o.kind == k] for k in ("two_stage", "full_length")], strict=True)
    ]
    console.print(table(outcomes))
    middle, half = interval(gains)
    spread = f" ± {half * 100:.1f}" if half is not None else " (one seed: no interval)"
    console.print(f"Two stages minus full length, top-1, seed by seed: {middle * 100:+.1f}{spread} points")
    rows = [{field: getattr(o, field) for field in Outcome.__dataclass_fields__} for o in outcomes]
    write_json(out / "compare.json", {"outcomes": rows, "gain_top1": middle, "gain_top1_half_width": half})
    console.print(f"Numbers: {out}/compare.json", highlight=False, markup=False)
