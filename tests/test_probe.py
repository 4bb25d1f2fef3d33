"""The probe's program on a real run and real pictures, and the mistakes that it names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval.probe import main as probe_main
from prep.errors import UserError
from prep.store import Store
from train.run import main as train_main

pytest.importorskip("sklearn")

TINY = """
log_every=1 checkpoint_every=2 model.embed_dim=16 model.vision.width=16 model.vision.depth=1 model.text.width=16
stages.0.samples=32 stages.0.batch_size=16 stages.0.warmup_samples=0 stages.1.samples=16 stages.1.batch_size=16
stages.1.warmup_samples=0 stages.0.budget.res=16 stages.0.budget.text_tokens=8 stages.1.budget.res=16
stages.1.budget.text_tokens=12
"""


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probe") / "run"
    train_main(["demo", *TINY.split(), "--store", str(store.path), "--out", str(out), "--threads", "1"])
    return out


@pytest.fixture(scope="module")
def sets(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six classes of the demo's zero-shot set: three pictures each to learn from, two to judge by and no picture."""
    train, test = (tmp_path_factory.mktemp("sets") / name for name in ("train", "test"))
    for folder in sorted(path for path in (demo_data / "zeroshot").iterdir() if path.is_dir())[:6]:
        for to, images in ((train, sorted(folder.iterdir())[:3]), (test, sorted(folder.iterdir())[3:5])):
            (to / folder.name).mkdir(parents=True)
            for image in images:
                shutil.copy(image, to / folder.name)
    (next(test.iterdir()) / "no.jpg").write_bytes(b"nothing")
    return train, test


def test_a_run_is_probed_end_to_end(
    run: Path, sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = map(str, sets)
    arguments = [str(run), "--train", train, "--test", test, "--shots", "2", "1", "4", "--draws", "2"]
    probe_main([*arguments, "--out", str(tmp_path), "--device", "cpu"])
    printed = capsys.readouterr().out
    report: dict[str, Any] = json.loads((tmp_path / "probe.json").read_text())
    assert (report["samples_seen"], report["num_classes"], report["num_features"]) == (48, 6, 16)
    assert (report["train"]["num_images"], report["test"]["num_images"], report["test"]["num_unreadable"]) == (
        18,
        12,
        1,
    )
    assert [result["shots"] for result in report["few_shot"]] == [1, 2]
    assert [entry["shots"] for entry in report["left_out"]] == [4]
    assert report["preprocess"] == {"res": 16, "kind": "centre"}
    assert sum(entry["num_images"] for entry in report["linear"]["per_class"]) == 12
    for text in ("all 18 images", "2 images a class", "1 files of", "No 4 shots", "Worst classes", "probe.json"):
        assert text in printed
    probe_main([*arguments, "--out", str(tmp_path), "--device", "cpu"])
    assert json.loads((tmp_path / "probe.json").read_text()) == report


def test_classes_are_matched_by_name(run: Path, sets: tuple[Path, Path], tmp_path: Path) -> None:
    train, test = sets
    listed = [folder.name for folder in sorted(train.iterdir(), reverse=True)]
    (tmp_path / "classes.txt").write_text("\n".join(listed[:4]))
    how = ["--shots", "--classes", str(tmp_path / "classes.txt"), "--device", "cpu"]
    probe_main([str(run), "--train", str(train), "--test", str(test), "--out", str(tmp_path), *how])
    report = json.loads((tmp_path / "probe.json").read_text())
    assert [entry["name"] for entry in report["linear"]["per_class"]] == listed[:4]
    assert (report["train"]["num_images"], report["train"]["num_without_class"]) == (12, 6)
    assert report["few_shot"] == []


def test_sets_of_other_classes_or_the_same_images_are_refused(
    run: Path, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    train, test = sets
    shutil.copytree(test, tmp_path / "test")
    first = min((tmp_path / "test").iterdir())
    first.rename(first.with_name("zebra"))
    for judged, message in ((tmp_path / "test", "no class 'zebra'"), (train, "is the training set itself")):
        with pytest.raises(UserError, match=message):
            probe_main([str(run), "--train", str(train), "--test", str(judged), "--device", "cpu"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draws", "11"], "wanted 1 to 10, found 11"), (["--shots", "0"], "--shots: wanted at least 1, found 0"),
        (["--batch-size", "0"], "wanted at least 1"), (["--seed", "-1"], "wanted 0 or more"),
        (["--preprocess", "round"], "wanted one of centre, square"), (["--classes", "nowhere"], "no such list"),
        (["--checkpoint", "7"], "no checkpoint 7"), (["--device", "cuda:77"], "torch cannot use it"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_named(
    run: Path, sets: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        probe_main([str(run), "--train", str(sets[0]), "--test", str(sets[1]), *arguments])
