"""train.run on a real store: it learns, it resumes to the same bits, and it refuses what does not fit."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prep.errors import UserError
from prep.files import write_json
from prep.store import Store, open_store
from train import checkpoint
from train.config import load_recipe
from train.log import read_log
from train.run import main

# Two stages of 60 steps that differ in resolution and text length; a checkpoint at every second log line.
TINY = [
    "log_every=2",
    "checkpoint_every=4",
    "model.embed_dim=16",
    "model.vision={patch_size=8, width=16, depth=1, num_heads=2}",
    "model.text={width=16, depth=1, num_heads=2}",
    *(f"stages.{i}.batch_size=24" for i in (0, 1)),
    *(f"stages.{i}.samples=1440" for i in (0, 1)),
    *(f"stages.{i}.warmup_samples=48" for i in (0, 1)),
    "stages.0.budget={res=16, text_tokens=6}",
    "stages.1.budget={res=32, text_tokens=12}",
]
BOUNDARY, LAST = 1440, 2880


def train(store: Store, run: Path, *overrides: str) -> None:
    main(["demo", *TINY, *overrides, "--store", str(store.path), "--out", str(run)])


def start(store: Store, run: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "train.run", "demo", *TINY, "--store", str(store.path), "--out", str(run)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def weights(run: Path) -> str:
    return hashlib.sha256((checkpoint.found(run)[-1] / "weights.safetensors").read_bytes()).hexdigest()


def losses(run: Path) -> list[tuple[int, float, float]]:
    return [(line.samples_seen, line.loss, line.lr) for line in read_log(run)]


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "whole"
    train(store, run)
    return run


def test_a_run_folder_tells_its_story(whole: Path, store: Store) -> None:
    assert load_recipe(str(whole / "recipe.toml")) == load_recipe("demo", TINY)
    assert json.loads((whole / "manifest.json").read_text()) == json.loads((store.path / "manifest.json").read_text())
    assert {"torch", "commit", "device", "python"} <= json.loads((whole / "environment.json").read_text()).keys()
    log = read_log(whole)
    assert [line.samples_seen for line in log] == list(range(48, LAST + 1, 48))
    assert [line.stage_name for line in log] == ["short"] * 30 + ["full"] * 30
    assert all(line.flops > 0 and line.seconds > 0 for line in log)


def test_it_learns(whole: Path) -> None:
    log = read_log(whole)
    assert log[29].loss < log[0].loss - 0.05


def test_checkpoints_are_pruned_but_the_ends_of_stages_stay(whole: Path) -> None:
    assert [int(path.name) for path in checkpoint.found(whole)] == [BOUNDARY, LAST - 96, LAST]
    assert not list((whole / "checkpoints").glob(".*"))


def test_the_same_command_again_does_nothing(whole: Path, store: Store) -> None:
    before = weights(whole), (whole / "metrics.jsonl").read_text()
    train(store, whole)
    assert before == (weights(whole), (whole / "metrics.jsonl").read_text())


def test_a_loaded_model_has_the_budget_of_its_stage(whole: Path) -> None:
    assert checkpoint.load_model(whole, str(BOUNDARY)).budget.res == 16
    assert checkpoint.load_model(whole).budget.text_tokens == 12
    with pytest.raises(UserError, match=f"There are: latest, {BOUNDARY}, {LAST - 96}, {LAST}"):
        checkpoint.load_model(whole, "300")


@pytest.mark.parametrize("seen", [BOUNDARY])  # tests/test_train_kills.py kills at random
def test_killed_while_training_it_ends_with_the_same_weights(
    whole: Path, store: Store, tmp_path: Path, seen: int
) -> None:
    """SIGKILL as soon as the log has reached `seen` samples, half of the run before its end; the same command again."""
    run = tmp_path / "run"
    process = start(store, run)
    while not any(line.samples_seen >= seen for line in read_log(run)):
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert int(checkpoint.found(run)[-1].name) < LAST
    train(store, run)
    assert weights(run) == weights(whole)
    assert losses(run) == losses(whole)


def test_a_run_that_ended_at_the_boundary_goes_on_in_the_next_stage(whole: Path, store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for path in checkpoint.found(run):
        if int(path.name) > BOUNDARY:
            shutil.rmtree(path)
    assert [int(path.name) for path in checkpoint.found(run)] == [BOUNDARY]
    train(store, run)
    assert weights(run) == weights(whole)
    assert losses(run) == losses(whole)


def test_a_half_written_checkpoint_and_log_line_are_no_trouble(whole: Path, store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / f"{LAST:012d}")
    half = run / "checkpoints" / f".{LAST:012d}.tmp"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    text = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(text[:-30])
    train(store, run)
    assert weights(run) == weights(whole)
    assert losses(run) == losses(whole)


def test_a_damaged_checkpoint_is_named(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    os.truncate(run / "checkpoints" / f"{LAST:012d}" / "weights.safetensors", 100)
    with pytest.raises(UserError, match="wanted a safetensors file"):
        checkpoint.load_model(run)


@pytest.mark.parametrize(
    ("overrides", "place", "says"),
    [
        (["stages.1.budget.res=64"], "stages.1.budget.res", "wanted images at 64 px, but the store holds 16, 32"),
        (["stages.0.budget.text_tokens=90"], "stages.0.budget.text_tokens", "77 tokens"),
        (["stages.0.batch_size=240"], "stages.0.batch_size", "would repeat samples"),
    ],
)
def test_a_store_that_cannot_serve_the_recipe(
    store: Store, tmp_path: Path, overrides: list[str], place: str, says: str
) -> None:
    with pytest.raises(UserError) as error:
        train(store, tmp_path / "run", *overrides)
    assert place in error.value.place
    assert says in error.value.problem
    assert not (tmp_path / "run").exists()


def test_a_store_of_another_tokenizer(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "store"
    shutil.copytree(store.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["columns"]["tokens/original/clip"]["settings"]["tokenizer"]["name"] = "bert-wordpiece-30522"
    write_json(other / "manifest.json", manifest)
    with pytest.raises(UserError, match="found those of bert-wordpiece-30522"):
        train(open_store(other), tmp_path / "run")


def test_another_recipe_or_store_in_the_same_run_folder_is_named(whole: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stages\.0\.learning_rate = 0\.\d+, and is now asked for 0\.5"):
        train(store, whole, "stages.0.learning_rate=0.5")
    other = tmp_path / "store"
    shutil.copytree(store.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    write_json(other / "manifest.json", {**manifest, "fingerprint": "0123456789abcdef"})
    with pytest.raises(UserError, match=f"fingerprint {store.manifest.fingerprint}.* has 0123456789abcdef"):
        train(open_store(other), whole)


def test_mistakes_on_the_command_line_end_in_a_message(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "train.run", "demo", "stages.0.rez=3", "--store", str(store.path), "--out"]
    done = subprocess.run([*command, str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown key" in done.stderr
    assert "Traceback" not in done.stderr
