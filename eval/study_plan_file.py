"""Reading a study's plan: strictly, and with every cell that it names looked up before anything is trained."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eval.study_judge import PREPROCESSES
from eval.study_plan import KINDS, XS, Claim, Figure, PlanFile, StudyPlan, choices
from eval.templates import find_templates
from prep.errors import UserError
from train.config import from_table, read_toml
from train.sweep import find_sweep, load_sweep

PLANS = Path(__file__).parent / "plans"


def shipped_plans() -> list[str]:
    """Names of the plans in eval/plans."""
    return sorted(path.stem for path in PLANS.glob("*.toml"))


def load_plan(name_or_path: str) -> StudyPlan:
    """A plan by its file or by name. Raises `UserError` when there is none, or naming what is wrong in it."""
    found = [path for path in (Path(name_or_path), PLANS / f"{name_or_path}.toml") if path.is_file()]
    if not found:
        problem = "wanted a plan: a TOML file, or the name of one that ships; found neither"
        raise UserError(f"--plan {name_or_path}", problem, f"Shipped plans: {', '.join(shipped_plans())}.")
    path = found[0]
    file: PlanFile = from_table(PlanFile, read_toml(path), path.name)
    beside = path.parent / file.sweep
    named = str(beside) if beside.is_file() else file.sweep
    sweep = load_sweep(named)
    plan = StudyPlan(path.stem, file, sweep, find_sweep(named) or Path(named))
    _check(plan, path.name)
    return plan


def _check(plan: StudyPlan, place: str) -> None:
    file, axes = plan.file, plan.sweep.axes
    if not file.seeds or len(set(file.seeds)) < len(file.seeds):
        raise UserError(f"{place}, seeds", f"wanted different seeds, found {list(file.seeds)}", "Write [0, 1, 2].")
    find_templates(file.templates)
    if file.preprocess not in PREPROCESSES:
        problem = f"wanted one of {', '.join(PREPROCESSES)}; found {file.preprocess!r}"
        raise UserError(f"{place}, preprocess", problem, "See eval/study_judge.py.")
    named = {"rates.axis": file.rates.axis} | ({"store_axis": file.store_axis} if file.stores else {})
    for where, axis in named.items():
        if axis not in axes:
            raise UserError(f"{place}, {where}", f"no axis is called {axis!r}", f"Known: {', '.join(axes)}.")
    for label in file.stores:
        if label not in axes[file.store_axis]:
            known = f"Known: {', '.join(axes[file.store_axis])}."
            raise UserError(f"{place}, stores.{label}", f"{file.store_axis} has no label {label!r}", known)
    factors = file.rates.factors
    if not factors or not all(0 < factor < math.inf for factor in factors) or len(set(factors)) < len(factors):
        problem = f"wanted different factors above 0, found {list(factors)}"
        raise UserError(f"{place}, rates.factors", problem, "Write [0.5, 1.0, 2.0].")
    _check_more_seeds(plan, place)
    if file.rates.seed in plan.seeds:
        problem = f"{file.rates.seed} is one of the plan's seeds: rates chosen on it would favour it"
        raise UserError(f"{place}, rates.seed", problem, "Take a seed that no cell is trained with.")
    with _at(f"{place}, rates.at"):
        for label in axes[file.rates.axis]:
            plan.cell({file.rates.axis: label})
    for number, labels in enumerate(file.untrained):
        with _at(f"{place}, untrained.{number}"):
            plan.cell(labels)
    for number, figure in enumerate(file.figures):
        _check_figure(plan, figure, f"{place}, figures.{number}")
    for number, claim in enumerate(file.claims):
        if claim.name in {before.name for before in file.claims[:number]}:
            problem = f"another claim is called {claim.name!r} already"
            raise UserError(f"{place}, claims.{number}.name", problem, "Give each its own name.")
        _check_claim(plan, claim, f"{place}, claims.{number}")


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Name the place in the file at which no cell was found."""
    try:
        yield
    except UserError as error:
        raise UserError(place, error.problem, error.remedy) from error


def _check_more_seeds(plan: StudyPlan, place: str) -> None:
    for table, seeds in plan.file.more_seeds.items():
        if table not in plan.sweep.tables:
            known = ", ".join(plan.sweep.tables)
            raise UserError(f"{place}, more_seeds", f"no table is called {table!r}", f"Known: {known}.")
        if not seeds or len({*seeds, *plan.file.seeds}) < len(seeds) + len(plan.file.seeds):
            problem = f"wanted seeds that differ, and from {list(plan.file.seeds)}; found {list(seeds)}"
            raise UserError(f"{place}, more_seeds.{table}", problem, "Write [3, 4].")


def _check_figure(plan: StudyPlan, figure: Figure, place: str) -> None:
    if figure.table not in plan.sweep.tables:
        known = ", ".join(plan.sweep.tables)
        raise UserError(f"{place}.table", f"no table is called {figure.table!r}", f"Known: {known}.")
    if (figure.x not in XS and figure.x) or bool(figure.x) != bool(figure.series):
        problem = f"wanted x ({', '.join(XS)}) with series, or neither; found {figure.x!r} and {figure.series!r}"
        raise UserError(f"{place}.x", problem, "Without both, the figure has one line a cell.")
    if figure.series and figure.series not in plan.sweep.axes:
        known = ", ".join(plan.sweep.axes)
        raise UserError(f"{place}.series", f"no axis is called {figure.series!r}", f"Known: {known}.")
    cells = plan.cells_of(figure)
    if not cells or (figure.curves and not all(figure.curve_of(cell.labels[figure.series]) for cell in cells)):
        wrong = f"no cell of the table has {figure.at}" if not cells else f"{cells[0].labels} ... are on no curve"
        raise UserError(place, wrong, "Change at or curves.")


def _check_claim(plan: StudyPlan, claim: Claim, place: str) -> None:
    if claim.kind not in KINDS:
        raise UserError(f"{place}.kind", f"no kind is called {claim.kind!r}", f"Known: {', '.join(KINDS)}.")
    many = {"best": True, "cost": True, "beats": bool(claim.others)}.get(claim.kind, False)
    if bool(claim.others) != many or bool(claim.low) == bool(claim.others):
        raise UserError(place, f"a claim of kind {claim.kind} wants either low or others", "See eval/study_plan.py.")
    num_choices = len(choices(claim))
    if len(claim.over) > 1 or (claim.kind == "drop" and num_choices < 2) or not all(claim.over.values()):
        raise UserError(f"{place}.over", "wanted one axis and its labels in order", 'Write { size = ["s", "l"] }.')
    for more in choices(claim):
        for label in (claim.high, *claim.lower):
            with _at(place):
                cell = plan.of_claim(claim, label, more)
        if claim.kind == "recovery" and len(plan.sweep.recipe(cell.name).stages) < 2:
            raise UserError(place, f"{cell.name} has one stage, which recovers nothing", "Name a cell of two stages.")
