"""The study: a tiny one from its first training to its page, interrupted and moved."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from eval.study import main
from prep.errors import UserError
from prep.store import Store

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
note = "Said <i>beside</i> it."
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


def test_a_whole_study(
    plan: Path, classes: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, asked again, gone on with after a loss, moved by its study.json, and refused when it is another one."""
    sweep = SWEEP + '[[tables]]\nname = "few"\ncross = { size = ["s"], image = ["i4"] }\n'
    plan.with_name("tiny.sweep.toml").write_text(sweep)
    plan.write_text(PLAN.replace("[rates]", "[more_seeds]\nfew = [4]\n[rates]", 1))
    out = tmp_path / "study"
    command = ["--plan", str(plan), "--store", str(store.path), "--zeroshot", str(classes), "--jobs", "2"]
    main([*command, "--out", str(out)])
    told = json.loads((out / "study.json").read_bytes())
    assert set(told["cells"]) == {"s_i4", "s_i16", "l_i4", "l_i16"}
    assert len(told["results"]) == 4 + 4 + 1 + 1
    assert told["num_trainings"] == 4 + 1 + 1
    assert [told["cells"][cell]["seeds"] for cell in ("s_i4", "l_i4")] == [[0, 4], [0]]
    assert told["cells"]["l_i16"]["image_tokens"] == 16
    (untrained,) = told["untrained"].values()
    assert 0 <= untrained["value"] <= 1
    assert told["claims"][0]["lines"][-1]["estimate"] is not None
    page = (out / "study.html").read_text()
    assert "Accuracy &lt;b&gt;against&lt;/b&gt; image tokens" in page
    assert page.count("Said &lt;i&gt;beside&lt;/i&gt; it.") == 3  # in the table, in what opens, in the plan
    assert "Further seeds: 4 in few." in page
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

    plan.with_name("tiny.sweep.toml").write_text(sweep.replace("samples = 32", "samples = 48"))
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
