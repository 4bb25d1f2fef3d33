"""The study: its plans, and a tiny one from its first training to its page, interrupted and moved."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from eval.study import main
from eval.study_plan import StudyPlan, choices
from eval.study_plan_file import load_plan, shipped_plans
from prep.errors import UserError
from prep.store import Store
from train.flops import training_flops

SWEEP = """
cells = "{size}_{image}"
[base]
log_every = 1
checkpoint_every = 2
[base.model]
embed_dim = 8
vision = { patch_size = 8, width = 16, depth = 1, num_heads = 2 }
text = { width = 16, depth = 1, num_heads = 2 }
[[base.stages]]
name = "short"
samples = 32
batch_size = 16
learning_rate = 1e-3
budget = { res = 16, text_tokens = 8, text_mask = "syntax" }
[[base.stages]]
name = "full"
samples = 16
batch_size = 16
learning_rate = 1e-3
budget = { res = 32, text_tokens = 8, text_mask = "syntax" }
[axes.size]
s = ["model.vision.depth=1"]
l = ["model.vision.depth=2"]
[axes.image]
i4 = ["stages.0.budget.res=16"]
i16 = ["stages.0.budget.res=32"]
[[tables]]
name = "image lengths"
cross = { size = "all", image = "all" }
"""
PLAN = """
sweep = "tiny.sweep.toml"
seeds = [0]
untrained = [{ size = "s" }]
[rates]
axis = "size"
at = { image = "i4" }
factors = [1.0, 2.0]
seed = 9
[[figures]]
title = "Accuracy <b>against</b> image tokens"
table = "image lengths"
x = "image tokens"
series = "size"
[[claims]]
name = "1"
kind = "drop"
statement = "The drop shrinks"
axis = "image"
high = "i16"
low = "i4"
over = { size = ["s", "l"] }
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "tiny.sweep.toml").write_text(SWEEP)
    (tmp_path / "tiny.toml").write_text(PLAN)
    return tmp_path / "tiny.toml"


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        folder = tmp_path / "classes" / name
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30 + number), colour).save(folder / f"{number}.jpg")
    return tmp_path / "classes"


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
    ],
)
def test_a_mistake_in_a_plan_names_its_place(plan: Path, old: str, new: str, place: str) -> None:
    plan.write_text(PLAN.replace(old, new, 1))
    with pytest.raises(UserError, match=place):
        load_plan(str(plan))


def test_two_claims_of_one_name_are_refused(plan: Path) -> None:
    plan.write_text(PLAN + PLAN[PLAN.index("[[claims]]") :])
    with pytest.raises(UserError, match=r"claims.1.name"):
        load_plan(str(plan))


def test_a_whole_study(
    plan: Path, classes: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, asked again, gone on with after a loss, moved by its study.json, and refused when it is another one."""
    out = tmp_path / "study"
    command = ["--plan", str(plan), "--store", str(store.path), "--zeroshot", str(classes), "--jobs", "2"]
    main([*command, "--out", str(out)])
    told = json.loads((out / "study.json").read_bytes())
    assert set(told["cells"]) == {"s_i4", "s_i16", "l_i4", "l_i16"}
    assert len(told["results"]) == 4 + 4 + 1
    assert told["cells"]["l_i16"]["image_tokens"] == 16
    (untrained,) = told["untrained"].values()
    assert 0 <= untrained["value"] <= 1
    assert told["claims"][0]["lines"][-1]["estimate"] is not None
    page = (out / "study.html").read_text()
    assert "Accuracy &lt;b&gt;against&lt;/b&gt; image tokens" in page
    assert "http" not in page.replace("http-equiv", "")
    assert not list(out.glob("runs/*/checkpoints"))

    (out / "cells" / "l_i16-seed0.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    (out / "study.json").unlink()
    main([*command, "--out", str(out)])
    after = {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"l_i16-seed0.json"}
    again = json.loads((out / "study.json").read_bytes())
    assert [r["at"] for r in again["results"]] == [r["at"] for r in told["results"]]

    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(out / "study.json", moved / "study.json")
    main([*command, "--out", str(moved), "--page"])
    assert json.loads((moved / "study.json").read_bytes())["cells"] == again["cells"]

    plan.with_name("tiny.sweep.toml").write_text(SWEEP.replace("samples = 32", "samples = 48"))
    with pytest.raises(UserError, match="another recipe"):
        main([*command, "--out", str(out)])
    capsys.readouterr()


def test_what_is_missing_is_said(plan: Path, store: Store, tmp_path: Path) -> None:
    command = ["--plan", str(plan), "--out", str(tmp_path / "study")]
    with pytest.raises(UserError, match="wanted the store"):
        main(command)
    with pytest.raises(UserError, match="wanted images to judge by"):
        main([*command, "--store", str(store.path)])
    with pytest.raises(UserError, match="no store called 'bank9'"):
        main([*command, "--store", f"bank9={store.path}"])
    with pytest.raises(UserError, match=r"Shipped plans: .*laptop"):
        main(["--plan", "desktop", "--out", str(tmp_path / "study")])
