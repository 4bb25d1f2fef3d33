"""`python -m train.bench`: both steps train the same, verdicts follow from what was measured, mistakes are named."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prep.errors import UserError
from train import bench_steps
from train.bench import main
from train.bench_steps import OurStep, Taken, TheirStep, Work
from train.bench_table import Compared, make_report, report_table, verdicts
from train.bench_wait import FedStep
from train.flops import training_flops
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.models import MODELS

from .damage import small_store

CLIP_LIKE = ModelConfig(
    24,
    VisionConfig(8, 64, 2, 1, class_token=True, pre_norm=True, pool="class", norm_eps=1e-5, patch_bias=False),
    TextConfig(width=32, depth=2, num_heads=2),
)
WORK = Work("tiny", 16, 6, 8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny", CLIP_LIKE)
    # It would stay with this process, which has other tests to run.
    monkeypatch.setattr(bench_steps, "keep_freed_memory", lambda: True)
    # At which the optimizer shows in a few steps.
    monkeypatch.setattr(bench_steps, "LEARNING_RATE", 3e-3)


def losses(make: Callable[[Work], OurStep | TheirStep], num: int = 8) -> list[float]:
    taken = make(WORK).take(num)
    assert taken.seconds > 0
    assert taken.core_seconds > 0
    return taken.losses


def test_both_steps_train_the_same() -> None:
    ours = losses(OurStep)
    assert losses(TheirStep) == pytest.approx(ours, abs=1e-3)
    assert ours[-1] < ours[0] - 0.2


@pytest.mark.parametrize(("name", "value"), [("BETAS", (0.5, 0.98)), ("WEIGHT_DECAY", 60.0), ("LEARNING_RATE", 4e-3)])
def test_another_optimizer_would_be_seen(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    theirs = losses(TheirStep)
    monkeypatch.setattr(bench_steps, name, value)
    assert losses(OurStep) != pytest.approx(theirs, abs=4e-3)


def test_a_step_that_is_fed_waits_for_less_than_it_takes(tmp_path_factory: pytest.TempPathFactory) -> None:
    fed = FedStep(WORK, str(small_store(tmp_path_factory)))
    for num in (1, 3):
        waited, seconds = fed.wait(num)
        assert 0 < waited < seconds
    fed._batches.close()


def compared(ours: list[float], theirs: list[float], wait: float, work: Work = WORK, peak: float = 1e12) -> Compared:
    mine, others = ([Taken(seconds, seconds / 2, [1.0]) for seconds in values] for values in (ours, theirs))
    return Compared(work, mine, others, [[1.0], [1.0]], [10, 20], [5e11, peak], (wait, 100.0))


def test_ratios_are_those_of_each_turn() -> None:
    """A machine that is ten times as slow in one turn is so for both."""
    row, other = make_report([compared([1, 10, 2], [2, 20, 4], 1), compared([1], [1], 1, peak=2e11)])["rows"]
    assert row["ratios"] == row["core_ratios"] == [0.5, 0.5, 0.5]
    assert row["images_per_second"] == {"ours": 4, "open_clip": 2}
    useful = 8 * training_flops(CLIP_LIKE, WORK.budget)
    assert row["mfu"] == {"ours": pytest.approx(useful / 2e12), "open_clip": pytest.approx(useful / 4e12)}
    assert row["peak_flops"] == other["peak_flops"] == 1e12


@pytest.mark.parametrize(
    ("budget", "seconds", "wait", "said"),
    [
        ((16, 6), 1.0, 1.9, ["reached", "reached"]),
        ((16, 6), 1.01, 2.0, ["missed", "missed"]),
        ((112, 16), 0.95, 0.0, ["reached", "reached"]),
        ((112, 16), 0.96, 3.0, ["missed", "missed"]),
    ],
)
def test_verdicts_flip_at_their_targets(budget: tuple[int, int], seconds: float, wait: float, said: list[str]) -> None:
    work = replace(WORK, res=budget[0], text_tokens=budget[1])
    report = make_report([compared([seconds], [1.0], wait, work)])
    assert [line.rstrip(")").rpartition(" ")[2] for line in verdicts(report)] == said
    assert report_table(report).row_count == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--budgets", "100:16"], "--budgets"),
        (["--budgets", "112"], "--budgets"),
        (["--budgets", "112:99"], "--budgets"),
        (["--threads", "999"], "--threads"),
        (["--batch-size", "1"], "--batch-size"),
        (["--turns", "0"], "--turns"),
    ],
)
def test_mistakes_are_named(options: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        main(options)
    assert named in str(caught.value)


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "s16_v1", "--budgets", "32:4", "--batch-size", "2", "--threads", "1", "--turns", "1"]
    main([*options, "--no-wait", "--json", str(tmp_path / "step.json")])
    row = json.loads((tmp_path / "step.json").read_text())["rows"][0]
    assert row["name"] == "(I5,T4)"
    assert row["first_losses"]["ours"] == pytest.approx(row["first_losses"]["open_clip"], abs=1e-3)
    assert min(row["memory"].values()) > 2**28
    assert "(I5,T4), 1 threads" in capsys.readouterr().out


FAULTS = """
import resource, torch
from train.heap import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
if keep_freed_memory():
    faults()
print(faults())
"""


def test_freed_memory_is_kept() -> None:
    """Eight tensors of 64 MiB: the system gives each anew, page by page, or none."""
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, ran.stdout.split())
    assert before >= 8 * 2**26 // 2**21
    assert after < before / 8
