"""The comparison, really run for one seed on the tiny demo: what it writes, and that it does nothing twice."""

import json
import shutil
from io import StringIO
from itertools import chain
from pathlib import Path
from statistics import median

import pytest
from rich.console import Console

from eval.compare import NAMES, compare, full_length
from train import checkpoint
from train.config import load_recipe
from train.log import read_log

from .tiny_demo import SMALL, FinishedDemo

# Whole programs, one after another: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(1200)
RECIPE = load_recipe("demo", SMALL)
IMAGES_PER_CLASS = 2


def run_compare(out: Path) -> str:
    screen = StringIO()
    compare(out, RECIPE, [RECIPE.seed], Console(file=screen, width=200))
    return screen.getvalue()


def stamps(out: Path) -> dict[Path, int]:
    folders = (path for path in out.rglob("checkpoints"))
    files = chain.from_iterable(folder.rglob("*.safetensors") for folder in folders)
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def compared(finished_demo: FinishedDemo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the demo with fewer pictures to classify, and what the comparison said about it."""
    out = tmp_path_factory.mktemp("compare") / "demo"
    for name in ("zeroshot", "zeroshot_shift"):
        for path in sorted((finished_demo.out / "data" / name).glob(f"*/00[0-{IMAGES_PER_CLASS - 1}].jpg")):
            copy = out / path.relative_to(finished_demo.out)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for name in ("store", "retrieval-store", "run"):
        shutil.copytree(finished_demo.out / name, out / name)
    return out, run_compare(out)


def outcomes(out: Path) -> dict[str, dict[str, float]]:
    return {row["kind"]: row for row in json.loads((out / "compare.json").read_text())["outcomes"]}


def test_every_kind_has_its_numbers(compared: tuple[Path, str]) -> None:
    out, screen = compared
    found = outcomes(out)
    assert list(found) == ["two_stage", "full_length", "shuffled", "untrained"]
    assert all(name in screen for name in NAMES.values())
    for row in found.values():
        assert row["seed"] == RECIPE.seed
        assert 0 <= row["top1"] <= row["top5"] <= 1
    assert found["two_stage"]["samples_seen"] == found["shuffled"]["samples_seen"] == RECIPE.num_samples
    assert found["two_stage"]["flops"] == pytest.approx(found["shuffled"]["flops"])
    assert [found["untrained"][key] for key in ("samples_seen", "seconds", "flops")] == [0, 0, 0]


def test_the_json_is_json_and_holds_the_gain(compared: tuple[Path, str]) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    out, _ = compared
    found = json.loads((out / "compare.json").read_text(), parse_constant=refuse)
    top1 = [outcomes(out)[kind]["top1"] for kind in ("two_stage", "full_length")]
    assert found["gain_top1"] == pytest.approx(top1[0] - top1[1])
    assert found["gain_top1_half_width"] is None, "one seed has no interval"


def test_full_length_is_as_long_as_the_clock_says(compared: tuple[Path, str]) -> None:
    out, _ = compared
    rates = [line.samples_per_second for line in read_log(out / "run") if line.stage == 1]
    seconds = checkpoint.read_state(checkpoint.found(out / "run")[-1]).seconds
    wanted = full_length(RECIPE, seconds, median(rate for rate in rates if rate is not None))
    run = out / "compare" / f"seed{RECIPE.seed}" / "full_length"
    assert load_recipe(str(run / "recipe.toml")) == wanted
    assert outcomes(out)["full_length"]["samples_seen"] == wanted.num_samples
    assert {line.stage_name for line in read_log(run)} == {RECIPE.stages[-1].name}


def test_the_captions_of_the_control_are_shuffled_and_nothing_else(compared: tuple[Path, str]) -> None:
    out, _ = compared
    control = load_recipe(str(out / "compare" / f"seed{RECIPE.seed}" / "shuffled" / "recipe.toml"))
    assert control == load_recipe("demo", [*SMALL, "shuffle_captions=true"])


def test_restarted_it_trains_nothing_again(compared: tuple[Path, str], finished_demo: FinishedDemo) -> None:
    out, _ = compared
    before, numbers = stamps(out), (out / "compare.json").read_text()
    run = [path for path in before if path.is_relative_to(out / "run")]
    weights = {path: (finished_demo.out / path.relative_to(out)).read_bytes() for path in run}
    assert {path: path.read_bytes() for path in run} == weights, "the demo's own run is the two-stage run of its seed"
    run_compare(out)
    assert stamps(out) == before
    assert (out / "compare.json").read_text() == numbers
