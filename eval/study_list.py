"""A study's trainings as commands, to be given wherever there are machines for them."""

import shlex
from collections.abc import Iterator, Sequence

from eval.study_cell import Training
from eval.study_plan import StudyPlan
from eval.study_run import Study
from train.config import RECIPES
from train.recipe import Recipe


def commands(
    study: Study, searches: Sequence[Training], cells: Sequence[Training] | None, num_done: int
) -> Iterator[str]:
    """Lines of a file to read and to run: what follows `train.run`, a training a line, and notes behind a #.

    searches, cells: those that are not done; cells: None while the search has not found all learning rates. Controls at
    random weights are not among the lines: nothing is trained.
    """
    plan = study.plan
    yield f"# plan {plan.name}, sweep {plan.sweep.name}: SWEEP:CELL, seed, learning rates, store, run"
    yield "# torchrun --nproc-per-node N -m train.run LINE; afterwards the study's own command judges what is finished"
    if num_done:
        yield f"# {num_done:,} more are done and judged"
    if searches:
        yield f"# the search for learning rates, by {plan.file.rates.axis}"
        yield from (_command(study, training) for training in searches)
    if cells is None:
        factors = ", ".join(f"{factor:g}" for factor in plan.file.rates.factors)
        yield f"# then, at learning rates x {factors} as the search finds: list again, with its results in OUT"
        for cell in plan.sweep.cells:
            yield f"# {_sweep(plan)}:{cell.name}  seeds {' '.join(map(str, plan.seeds_of(cell)))}"
    yield from (_command(study, training) for training in cells or () if not training.untrained)


def _sweep(plan: StudyPlan) -> str:
    """How `train.run` finds the sweep: by its name where it ships, else by its file's path."""
    return plan.sweep.name if plan.sweep_file.parent == RECIPES else str(plan.sweep_file)


def _command(study: Study, training: Training) -> str:
    plan = study.plan
    words = [f"{_sweep(plan)}:{training.cell}", *_changes(training.recipe, plan.sweep.recipe(training.cell))]
    return shlex.join([*words, "--store", str(training.store), "--out", str(study.out / "runs" / training.name)])


def _changes(recipe: Recipe, base: Recipe) -> list[str]:
    """The overrides that make of a cell's recipe the one that is trained."""
    changes = [f"seed={recipe.seed}"]
    for number, (stage, was) in enumerate(zip(recipe.stages, base.stages, strict=True)):
        if stage.learning_rate != was.learning_rate:
            changes.append(f"stages.{number}.learning_rate={stage.learning_rate!r}")
    return changes
