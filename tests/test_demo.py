"""The whole road in small, as a stranger runs it: real tars, both stages, a kill, a resume, pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from eval.compare import full_length, interval
from train import checkpoint
from train.config import load_recipe

from .test_train_run import TINY

SMALL = [*TINY, "stages.0.samples=1920", "stages.1.samples=960"]


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "eval.demo", *SMALL, "--out", str(out), "--pairs", "120", *options]


def demo(out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(out, *options), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that was killed with SIGKILL in the middle of its training and started again."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, start_new_session=True)
    while not checkpoint.found(out / "run"):
        assert process.poll() is None, "the demo ended before its first checkpoint"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "summary.json").exists()
    done = demo(out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_summary_holds_every_number(finished: tuple[Path, str]) -> None:
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_classes"] == 100
    assert summary["samples_seen"] == {"short": 1920, "full": 960}
    assert summary["pairs"] == {"read": 120, "kept": 120, "rejected": 0}
    assert 0 <= summary["top1"] <= summary["top5"] <= 1
    for way in ("text_to_image", "image_to_text"):
        assert set(summary["recalls"][way]) == {"1", "5", "10"}
    assert set(summary["seconds"]) == {"data", "prep", "prep_retrieval", "train", "eval"}


def test_the_pictures_are_pictures(finished: tuple[Path, str]) -> None:
    out, _ = finished
    for name in ("curves", "zeroshot", "retrieval"):
        with Image.open(out / "run" / "eval" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_screen_says_what_happened_and_what_it_names_exists(finished: tuple[Path, str]) -> None:
    _, screen = finished
    for part in ("What happened", "Look at", "Your own pairs", "--compare"):
        assert part in screen
    named = [word for line in screen.split("Look at")[1].split("Your own")[0].splitlines() for word in line.split()[:1]]
    assert len(named) == 4
    assert all(Path(name).is_file() for name in named)


def test_run_again_it_does_nothing_again(finished: tuple[Path, str]) -> None:
    out, _ = finished
    stamps = {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name.endswith((".tar", ".arrow", ".png"))
    }
    again = demo(out)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 5
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_other_settings_are_named_and_a_strangers_folder_is_left_alone(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = finished
    other = demo(out, "--seed", "9")
    assert other.returncode == 2
    assert "a demo with another seed lies here: 1, now 9" in other.stderr
    (tmp_path / "thesis.tex").write_text("x")
    mine = demo(tmp_path, "--fresh")
    assert mine.returncode == 2
    assert "not a demo's" in mine.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_a_failing_step_names_itself(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "stages.0.batch_size=119", "--pairs", "1")
    assert done.returncode == 2
    assert "the step train" in done.stderr
    assert "would repeat samples" in done.stderr
    assert "Traceback" not in done.stderr


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
