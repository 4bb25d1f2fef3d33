"""A study's plans: those that ship, and what is refused in one."""

from pathlib import Path

import pytest
from rich.console import Console

from eval.study_estimate import estimate
from eval.study_judge import Judge
from eval.study_list import commands
from eval.study_plan import StudyPlan, choices
from eval.study_plan_file import load_plan, shipped_plans
from eval.study_run import Study, scaled
from prep.errors import UserError
from prep.store import Store
from train.flops import training_flops
from train.hardware import find_hardware

from .test_study import PLAN, SWEEP
from .test_study import plan as plan

MORE_SEEDS = PLAN.replace("[rates]", '[more_seeds]\n"few" = [3, 4]\n[rates]', 1)
FEW = """
[[tables]]
name = "few"
cross = { size = ["s"], image = "all" }
"""


@pytest.mark.parametrize("name", shipped_plans())
def test_every_cell_that_a_shipped_plan_names_is_trained(name: str) -> None:
    plan = load_plan(name)
    assert plan.file.claims
    assert plan.file.figures
    for claim in plan.file.claims:
        for more in choices(claim):
            for label in (claim.high, *claim.lower):
                plan.sweep.recipe(plan.of_claim(claim, label, more).name)


def flops_of(plan: StudyPlan, cell: str) -> float:
    recipe = plan.sweep.recipe(cell)
    stage = recipe.stages[0]
    return stage.num_samples * training_flops(recipe.model, stage.budget)


@pytest.mark.parametrize("size", ["s", "m", "l"])
@pytest.mark.parametrize(("name", "full", "short"), [("laptop", "i64", "i16"), ("cc3m", "i196", "i49")])
def test_equal_compute_is_equal(name: str, full: str, short: str, size: str) -> None:
    """And the one that it is held against is at full length, from its first sample, and warmed up for its share."""
    plan = load_plan(name)
    equal, two = f"{size}_{full}_equal_{size}_t32_own", f"{size}_{short}_t16_own"
    assert flops_of(plan, equal) / flops_of(plan, two) == pytest.approx(1, abs=0.01)
    first, last = plan.sweep.recipe(equal).stages
    assert first.budget == last.budget
    short_stage = plan.sweep.recipe(two).stages[0]
    share = short_stage.warmup_samples / short_stage.num_samples
    assert first.warmup_samples / first.num_samples == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_the_rivals_of_equal_compute_differ_in_their_learning_rate_alone(size: str) -> None:
    plan = load_plan("laptop")
    (claim,) = (claim for claim in plan.file.claims if claim.kind == "beats")
    factors = {"": 1.0, "_quarter": 0.25, "_half": 0.5, "_double": 2.0}
    assert set(claim.others) == {f"i64_equal_*{name}" for name in factors}
    base = plan.sweep.recipe(f"{size}_i64_equal_{size}_t32_own")
    for name, factor in factors.items():
        rival = plan.sweep.recipe(f"{size}_i64_equal_{size}{name}_t32_own")
        assert rival.stages == scaled(base, factor).stages
        assert rival.model == base.model


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("seeds = [0]", "seeds = [0, 0]", "seeds"),
        ('low = "i4"', 'low = "i5"', "i5"),
        ('kind = "drop"', 'kind = "fall"', "kind"),
        ('x = "image tokens"', 'x = "pixels"', "x"),
        ('table = "image lengths"', 'table = "lengths"', "table"),
        ("factors = [1.0, 2.0]", "factors = []", "factors"),
        ('axis = "size"', 'axis = "width"', "width"),
        ("few", "fewer", "'fewer'"),
        ("[3, 4]", "[0, 3]", "few"),
        ("[3, 4]", "[9]", "rates.seed"),
        ("[3, 4]", "[]", "few"),
    ],
)
def test_a_mistake_in_a_plan_names_its_place(plan: Path, old: str, new: str, place: str) -> None:
    plan.with_name("tiny.sweep.toml").write_text(SWEEP + FEW)
    plan.write_text(MORE_SEEDS)
    load_plan(str(plan))
    plan.write_text(MORE_SEEDS.replace(old, new, 1))
    with pytest.raises(UserError, match=place):
        load_plan(str(plan))


def test_further_seeds_are_for_the_cells_of_their_table(plan: Path, store: Store, tmp_path: Path) -> None:
    """And the list, the estimate and the count of trainings know it."""
    plan.with_name("tiny.sweep.toml").write_text(SWEEP + FEW)
    plan.write_text(MORE_SEEDS)
    found = load_plan(str(plan))
    assert found.seeds == (0, 3, 4)
    study = Study(found, tmp_path / "out", {"": store.path}, Judge(tmp_path, None, "simple", "cpu", 1, False), 1)
    trainings = study.cells({"s": 1.0, "l": 1.0})
    assert len(trainings) == study.num_trainings() == 1 + 4 + 2 * 2
    assert {training.cell for training in trainings if training.seed == 3} == {"s_i4", "s_i16"}
    assert [training.seed for training in trainings if training.untrained] == [0]
    listed = "\n".join(commands(study, [], None, 0))
    assert ":s_i4  seeds 0 3 4" in listed
    assert ":l_i4  seeds 0\n" in listed
    console = Console(record=True, width=200)
    needs = estimate(found, found.sweep.cells, (3, 4), 1, console, hardware=find_hardware("h100"))
    assert needs.num_trainings == 4 + 4
    assert "2 cells, 2 seed(s): 8 trainings," in console.export_text()
    needs = estimate(found, found.sweep.cells, found.seeds, 1, console, hardware=find_hardware("h100"))
    assert needs.num_trainings == 4 + 4 + 4
    assert "4 cells, 1 to 3 seed(s): 12 trainings and 1 controls" in console.export_text()


def test_two_claims_of_one_name_are_refused(plan: Path) -> None:
    plan.write_text(PLAN + PLAN[PLAN.index("[[claims]]") :])
    with pytest.raises(UserError, match=r"claims.1.name"):
        load_plan(str(plan))
