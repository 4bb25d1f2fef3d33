"""The whole road in small, as a stranger runs it: real tars, both stages, a kill, a resume, pictures."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from eval.compare import full_length, interval
from eval.demo import MARK, Step, run_steps
from prep.errors import UserError
from train.config import load_recipe

from .tiny_demo import FinishedDemo, demo_command

# Whole programs, one after another: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(1200)


def demo(out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(demo_command(out, *options), capture_output=True, text=True, check=False)


def test_the_summary_holds_every_number(finished_demo: FinishedDemo) -> None:
    out = finished_demo.out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_classes"] == 100
    assert summary["samples_seen"] == {"short": 1920, "full": 960}
    assert summary["pairs"] == {"read": 120, "kept": 120, "rejected": 0}
    assert 0 <= summary["top1"] <= summary["top5"] <= 1
    for way in ("text_to_image", "image_to_text"):
        assert set(summary["recalls"][way]) == {"1", "5", "10"}
    assert set(summary["seconds"]) == {"data", "prep", "prep_retrieval", "train", "eval"}


def test_the_pictures_are_pictures(finished_demo: FinishedDemo) -> None:
    out = finished_demo.out
    for name in ("curves", "zeroshot", "retrieval"):
        with Image.open(out / "run" / "eval" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_screen_says_what_happened_and_what_it_names_exists(finished_demo: FinishedDemo) -> None:
    screen = finished_demo.screen
    for part in ("What happened", "Look at", "Your own pairs", "--compare"):
        assert part in screen
    named = [word for line in screen.split("Look at")[1].split("Your own")[0].splitlines() for word in line.split()[:1]]
    assert len(named) == 5
    assert all(Path(name).is_file() for name in named)


def test_run_again_it_does_nothing_again(finished_demo: FinishedDemo) -> None:
    out = finished_demo.out
    stamps = {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name.endswith((".tar", ".arrow", ".png"))
    }
    again = demo(out)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 5
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_other_settings_are_named_and_a_strangers_folder_is_left_alone(
    finished_demo: FinishedDemo, tmp_path: Path
) -> None:
    out = finished_demo.out
    other = demo(out, "--seed", "9")
    assert other.returncode == 2
    assert "a demo with another seed lies here: 1, now 9" in other.stderr
    (tmp_path / "thesis.tex").write_text("x")
    mine = demo(tmp_path, "--fresh")
    assert mine.returncode == 2
    assert "not a demo's" in mine.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_fresh_begins_anew_with_other_settings(finished_demo: FinishedDemo, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    shutil.copytree(finished_demo.out, out, ignore=shutil.ignore_patterns("zeroshot*"))
    (out / "run" / "notes.txt").write_text("mine")
    process = subprocess.Popen(
        demo_command(out, "--seed", "9", "--fresh"), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    said = [next(process.stdout)]
    while "python -m prep.demo" not in said[-1]:
        said.append(next(process.stdout))
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert "done before" not in "".join(said)
    assert not {"run", "store", "retrieval-store", "summary.json"} & {path.name for path in out.iterdir()}
    mark = json.loads((out / "demo.json").read_text())
    assert mark["settings"]["seed"] == 9
    assert mark["seconds"] == {}


def test_a_failing_step_names_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And its time counts when it succeeds later."""
    out, console = tmp_path / "demo", Console()
    step = Step("train", "train", ("train.run", "no_such_recipe", "--store", str(out), "--out", str(out / "run")))
    with pytest.raises(UserError, match="the step train: its program stopped"):
        run_steps(out, [step], {"pairs": 1}, False, console)
    assert "no_such_recipe: wanted a recipe" in capfd.readouterr().err
    interrupted = json.loads((out / MARK).read_text())["interrupted"]["train"]
    mended = replace(step, command=("train.run", "--help"))
    seconds = run_steps(out, [mended], {"pairs": 1}, False, console)
    assert seconds["train"] > interrupted > 0
    assert json.loads((out / MARK).read_text())["interrupted"] == {}


def test_full_length_fills_the_given_time() -> None:
    recipe = load_recipe("demo")
    plain = full_length(recipe, seconds=100, samples_per_second=512)
    assert plain.num_samples == 51_200
    assert [stage.budget for stage in plain.stages] == [recipe.stages[-1].budget]
    assert plain.stages[0].learning_rate == recipe.stages[0].learning_rate


def test_intervals_over_seeds_are_students() -> None:
    middle, half = interval([0.2, 0.3, 0.4])
    assert middle == pytest.approx(0.3)
    assert half == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert interval([0.5]) == (0.5, None)
