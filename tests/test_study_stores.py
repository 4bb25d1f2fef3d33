"""The stores that a study builds for itself: what is wrong is said first, and what is there is not built again."""

from pathlib import Path

import pytest

from eval import study_stores
from eval.study import main
from eval.study_judge import Judge
from eval.study_plan_file import load_plan
from eval.study_run import Study
from prep.errors import UserError
from prep.store import Store

from .test_study import PLAN, SWEEP

BANKS = """
[stores]
bank = ["--crops", "1"]
"""
DATA = """
[axes.data]
own = []
bank = ["stages.0.crops=bank", "stages.1.crops=bank"]
"""


@pytest.fixture
def stores_plan(tmp_path: Path) -> Path:
    """The tiny study with a second store, a crop bank."""
    sweep = SWEEP.replace('cells = "{size}_{image}"', 'cells = "{size}_{image}_{data}"')
    sweep = sweep.replace("[[tables]]", f"{DATA}[[tables]]").replace('image = "all" }', 'image = "all", data = "all" }')
    (tmp_path / "tiny.sweep.toml").write_text(sweep)
    text = PLAN.replace('image = "i4" }', 'image = "i4", data = "own" }').replace("[rates]", f"{BANKS}[rates]")
    (tmp_path / "tiny.toml").write_text('store_axis = "data"\n' + text)
    return tmp_path / "tiny.toml"


def test_what_a_store_lacks_is_said_before_anything_is_trained(
    stores_plan: Path, store: Store, demo_data: Path, tmp_path: Path
) -> None:
    command = ["--plan", str(stores_plan), "--store", str(store.path), "--zeroshot", str(demo_data / "zeroshot")]
    command += ["--out", str(tmp_path / "out")]
    pairs = ["--input", str(demo_data / "train" / "*.tar")]
    with pytest.raises(UserError, match=r"--store bank=STORE.*--crops 1"):
        main(command)
    with pytest.raises(UserError, match=r"stores.bank: .*nowhere"):
        main([*command, "--input", str(tmp_path / "nowhere.tar")])
    text = stores_plan.read_text()
    for wrong, said in (
        ('["--crop", "1"]', "ambiguous option: --crop"),
        ('["--crops", "-1"]', "0 to 1024"),
        ('["--out", "elsewhere"]', "the study's to choose"),
        ('["--help"]', "builds nothing"),
    ):
        stores_plan.write_text(text.replace('["--crops", "1"]', wrong))
        with pytest.raises(UserError, match=said):
            main([*command, *pairs])
    assert not (tmp_path / "out" / "runs").exists()
    assert not (tmp_path / "out" / "stores").exists()


def test_a_store_that_is_complete_is_not_built_again(
    stores_plan: Path, store: Store, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(tmp_path, None, "simple", "cpu", 0, keep_runs=False)
    study = Study(load_plan(str(stores_plan)), tmp_path / "out", {"": store.path}, judge, 1)
    trainings = study.cells({"s": 1.0})
    pairs = [str(demo_data / "train" / "*.tar")]
    (build,) = study_stores.store_builds(study, pairs, trainings)
    assert build.arguments[-5:] == ("--res", "16", "32", "--crops", "1")
    study_stores.make_stores([build])
    assert study_stores.store_builds(study, pairs, trainings) == []
    assert study_stores.store_builds(study, [], trainings) == []
    with pytest.raises(UserError, match="another plan"):
        study_stores.store_builds(study, [str(demo_data / "retrieval" / "*.tar")], trainings)
    next((build.out / "16-crop0").glob("*.arrow")).unlink()
    assert len(study_stores.store_builds(study, pairs, trainings)) == 1
    monkeypatch.setattr(study_stores, "run_program", lambda *_: False)
    with pytest.raises(UserError, match="the build stopped"):
        study_stores.make_stores([build])
