"""The stores that a study's plan asks for beside the main one: which are still to be built, and building them.

What can be wrong with a build is said before the first training, by `prep.build`'s own reading of its options.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.programs import run_program
from eval.study_cell import Training
from eval.study_run import Study
from prep import build_options
from prep.build_options import Asked
from prep.errors import UserError
from prep.plan import adopt
from prep.store import open_store


@dataclass(frozen=True, slots=True)
class StoreBuild:
    """A call of `prep.build` that makes a store, or what it lacks."""

    out: Path
    arguments: tuple[str, ...]


def store_builds(study: Study, source: Sequence[str], trainings: Iterable[Training]) -> list[StoreBuild]:
    """What is to be built from the pairs `source`, so that these trainings have their stores.

    A store has the resolutions of all the plan's cells on it, whichever are trained: they decide what originals are
    decoded at. Raises `UserError` when there are no pairs to build from, options are none of prep.build's, or a store
    that is there was made of other pairs or with other options.
    """
    builds, plan = [], study.plan
    for label in sorted({training.store_label for training in trainings} - set(study.stores)):
        out, options = study.out / "stores" / label, plan.file.stores[label]
        if not source:
            if not (out / "manifest.json").is_file():
                problem = f"the plan trains some cells on a store made with {' '.join(options)}"
                raise UserError(f"--store {label}=STORE", problem, "Give it, or the pairs to make it from (--input).")
            continue
        recipes = [plan.sweep.recipe(cell.name) for cell in plan.sweep.cells if plan.store_of(cell) == label]
        sizes = sorted({stage.budget.res for recipe in recipes for stage in recipe.stages})
        arguments = ("--input", *source, "--out", str(out), "--res", *map(str, sizes), *options)
        asked = _asked(arguments, f"plan {plan.name}, stores.{label}")
        if asked.folder.url != str(out):
            raise UserError(f"plan {plan.name}, stores.{label}", "--out is the study's to choose", "Leave it out.")
        if not _is_complete(asked):
            builds.append(StoreBuild(out, arguments))
    # A tagger takes memory that the trainings want.
    build_options.tagger.cache_clear()
    return builds


def make_stores(builds: Iterable[StoreBuild]) -> None:
    """Build them. Raises `UserError` when a build ends in an error."""
    for build in builds:
        if not run_program("prep.build", build.arguments):
            raise UserError(
                str(build.out), "the build stopped with the message above", "Mend it and run the study again."
            )


def _asked(arguments: Sequence[str], place: str) -> Asked:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return build_options.parse(list(arguments), "")
    except SystemExit as error:
        problem = said.getvalue().strip().rpartition("error: ")[2] if error.code else "--help builds nothing"
        raise UserError(place, problem, "See python -m prep.build --help.") from error
    except UserError as error:
        raise UserError(f"{place}: {error.place}", error.problem, error.remedy) from error


def _is_complete(asked: Asked) -> bool:
    """Whether a store has all of its files and all that is asked for. Raises `UserError` when it is another one."""
    try:
        held = open_store(asked.folder.path).manifest.columns
    except UserError:
        return False  # the build goes on with it, or says why it cannot
    if any(column.folder not in held for column in asked.columns):
        return False
    adopt(asked.folder, asked.inputs, asked.columns)  # with no column that is new it only compares
    return True
