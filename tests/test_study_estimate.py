"""What a study is said to take before it is begun."""

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from eval import study_probe
from eval.study import main
from eval.study_estimate import Needs, estimate
from eval.study_plan import StudyPlan
from eval.study_plan_file import load_plan
from pipelines.contract import Batch
from train.hardware import Hardware, find_hardware


def planned(plan: StudyPlan, pattern: str, jobs: int) -> tuple[Needs, str]:
    console = Console(record=True, width=200)
    cells = [cell for cell in plan.sweep.cells if cell.name.startswith(pattern)]
    needs = estimate(plan, cells, plan.seeds, jobs, console, hardware=find_hardware("h100"))
    return needs, console.export_text()


def test_an_estimate_is_of_the_cells_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    plan = load_plan("laptop")
    found, said = planned(plan, "s_i4_t16_own", 1)
    num_searched = len(plan.sweep.axes["size"]) * len(plan.file.rates.factors)
    assert found.num_trainings == num_searched + len(plan.file.seeds)
    assert "1 cells" in said
    assert "taggers" not in said
    main(["--plan", "laptop", "--dry-run", "--gpu", "h100", "--cells", "s_i4_t16_own"])
    assert f"{found.num_trainings} trainings" in capsys.readouterr().out


def test_no_step_is_faster_than_its_kernels_are_launched() -> None:
    plan = load_plan("laptop")
    searched = [plan.cell({"size": label}) for label in plan.sweep.axes["size"]]
    num_steps = sum(stage.num_steps for cell in searched for stage in plan.sweep.recipe(cell.name).stages)
    found, _ = planned(plan, "no cell", 1)
    assert found.hours * 3600 >= 0.01 * num_steps * len(plan.file.rates.factors)


def test_kept_checkpoints_are_no_less_than_those_at_a_time() -> None:
    found, _ = planned(load_plan("clipa_v1"), "", 64)
    assert found.checkpoint_bytes(64, keep=False) < found.checkpoint_bytes(64, keep=True)
    three = Needs(kept=(10, 20, 40), spare=(1, 2, 4))
    assert [three.checkpoint_bytes(jobs, keep=False) for jobs in (1, 2, 9)] == [44, 66, 77]
    assert [three.checkpoint_bytes(jobs, keep=True) for jobs in (1, 2, 9)] == [74, 76, 77]


def test_a_trial_step_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine: here 0.2 s a sample, by a clock that the step alone moves."""
    now, sizes = [0.0], []

    class SlowStep:
        def __init__(self, *_: object) -> None: ...

        def take(self, batch: Batch, *_: object) -> SimpleNamespace:
            sizes.append(len(batch.images))
            now[0] += 0.2 * len(batch.images)
            return SimpleNamespace(loss=torch.zeros(()))

    monkeypatch.setattr(study_probe, "Step", SlowStep)
    for clock in ("perf_counter", "process_time"):
        monkeypatch.setattr(study_probe, clock, lambda: now[0])
    plan = load_plan("laptop")
    hardware = Hardware("slow", 1e9, 1e9, 1e9, 1.0, 0.0, autocast=False)
    recipe = plan.sweep.recipe(plan.cell({"size": "s"}).name)
    study_probe._slowness(recipe, "cpu", hardware)
    assert 1 < max(sizes) <= 4
    assert now[0] < 6
