"""Runs on two and three real ranks (gloo): the losses of one process at the same global batch, over both stages.

In float32 log lines differ from those of one process by less than FLOAT32, in bfloat16 by less than BFLOAT16: products
are summed in other orders, and Adam makes the most of it. The optimizer's eps is large here, so that gradients that
were wrong by a factor would be seen. SHORTCLIP_RANKS=1 runs every case; a part of them runs always.

Most ranks are forks with torchrun's environment; torchrun itself starts those of which one dies.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from prep.store import Store
from train import checkpoint
from train.config import load_recipe
from train.log import read_log

from .warm_runs import BOUNDARY, LAST, PATIENCE, SHORT, arguments, contents, finish, free_port, losses, tensors

FLOAT32, BFLOAT16 = 2e-5, 2e-2
EPS = "optimizer.eps=1e-3"
RECIPES: dict[str, list[str]] = {
    "contrastive": [],
    "sigmoid": ["model.loss='sigmoid'"],
    "bfloat16": ["precision='bfloat16'"],
    "frozen": [
        "stages.0.frozen=['vision']",
        "stages.1.budget.image_mask='random'",
        "stages.1.budget.image_mask_ratio=0.5",
    ],
}
WAYS: dict[str, tuple[int, list[str]]] = {
    "ddp 2": (2, ["--parallel", "ddp"]),
    "ddp 3": (3, []),
    "fsdp 2": (2, ["--parallel", "fsdp"]),
    "ddp 2 in parts": (2, ["--micro-batch", "5", "--checkpoint-blocks"]),
    "fsdp 2 in parts": (2, ["--parallel", "fsdp", "--micro-batch", "5", "--checkpoint-blocks"]),
    "alone in parts": (1, ["--micro-batch", "7", "--checkpoint-blocks"]),
}
CASES = [
    *(("contrastive", way) for way in WAYS),
    *((recipe, way) for recipe in ("sigmoid", "bfloat16", "frozen") for way in ("ddp 2", "fsdp 2")),
]
OFTEN = [
    *(("contrastive", way) for way in ("ddp 2", "ddp 3", "fsdp 2", "ddp 2 in parts")),
    *(("sigmoid", "ddp 2"), ("bfloat16", "ddp 2"), ("frozen", "fsdp 2")),
]
GOES_ON = {
    "fsdp 2, alone": ("fsdp 2", 1, ["--parallel", "ddp"]),
    "alone, fsdp 2": ("alone", 2, ["--parallel", "fsdp"]),
    "ddp 2, ddp 3": ("ddp 2", 3, []),
}
GOES_ON_OFTEN = [("fsdp 2, alone", 144), ("alone, fsdp 2", 336)]


def cases(every: list[Any], often: list[Any]) -> list[Any]:
    seldom = pytest.mark.skipif("SHORTCLIP_RANKS" not in os.environ, reason="seconds each; SHORTCLIP_RANKS=1 runs them")
    return [pytest.param(*case, marks=() if case in often else seldom) for case in every]


class Runs:
    """Runs that are made when they are first asked for."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder

    def __call__(self, recipe: str, way: str = "alone") -> Path:
        run = self.folder / f"{recipe} {way}".replace(" ", "-")
        if not checkpoint.found(run):
            world, flags = WAYS.get(way, (1, []))
            self.go_on(run, recipe, world, *flags)
        return run

    def go_on(self, run: Path, recipe: str, world: int, *flags: str) -> str:
        return finish(self.command(run, recipe, *flags), self.folder / "screen", world)

    def command(self, run: Path, recipe: str, *flags: str) -> list[str]:
        return arguments(self.store, run, EPS, *RECIPES[recipe], *flags, "--keep", "9")


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(store, tmp_path_factory.mktemp("runs"))


def assert_same(run: Path, other: Path, tolerance: float) -> None:
    """Log lines and weights, within rounding."""
    assert losses(run) == pytest.approx(losses(other), rel=0, abs=tolerance)
    for line, its in zip(read_log(run), read_log(other), strict=True):
        assert (line.samples_seen, line.lr, line.flops) == (its.samples_seen, its.lr, its.flops)
        assert line.logit_scale == pytest.approx(its.logit_scale, rel=tolerance)
    for seen in (BOUNDARY, LAST):
        torch.testing.assert_close(
            tensors(run, "weights", seen), tensors(other, "weights", seen), rtol=0, atol=tolerance
        )


@pytest.mark.parametrize(("recipe", "way"), cases(CASES, OFTEN))
def test_ranks_train_as_one_process_does(runs: Runs, recipe: str, way: str) -> None:
    assert_same(runs(recipe, way), runs(recipe), BFLOAT16 if recipe == "bfloat16" else FLOAT32)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != "contrastive"])
def test_recipes_differ_by_more_than_the_tolerance(runs: Runs, recipe: str) -> None:
    assert abs(losses(runs(recipe))[-1] - losses(runs("contrastive"))[-1]) > 10 * FLOAT32


@pytest.mark.parametrize(
    ("ranks", "seen"), cases([(ranks, seen) for ranks in GOES_ON for seen in (144, BOUNDARY, 336)], GOES_ON_OFTEN)
)
def test_a_run_goes_on_with_other_ranks(runs: Runs, tmp_path: Path, ranks: str, seen: int) -> None:
    (begun, world, flags), run = GOES_ON[ranks], tmp_path / "run"
    shutil.copytree(runs("contrastive", begun), run)
    for path in checkpoint.found(run):
        if int(path.name) > seen:
            shutil.rmtree(path)
    runs.go_on(run, "contrastive", world, *flags)
    assert_same(run, runs("contrastive"), FLOAT32)


@pytest.mark.parametrize("way", ["ddp 2", "fsdp 2"])
def test_checkpoints_are_whole_whatever_the_ranks_were(runs: Runs, way: str) -> None:
    for name in ("weights", "optimizer"):
        ours, alone = tensors(runs("contrastive", way), name), tensors(runs("contrastive"), name)
        assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in alone.items()}
    stage = load_recipe("demo", SHORT).stages[1]
    assert checkpoint.load_model(runs("contrastive", way)).budget == stage.budget


def torchrun(runs: Runs, run: Path, interrupt: Callable[[psutil.Process], object] | None = None) -> tuple[int, str]:
    """train.run on two ranks, as a user starts it; its exit code and what it said.

    interrupt: called with torchrun's process when there is a log line. Where the run was over before, all is done
    again.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    command += [str(free_port()), "-m", "train.run", *runs.command(run, "contrastive")]
    for _ in range(5):
        with (run.parent / "torchrun").open("w+") as screen:
            process = subprocess.Popen(command, stdout=screen, stderr=subprocess.STDOUT)
            while interrupt and process.poll() is None and not read_log(run):
                time.sleep(0.005)
            if interrupt and process.poll() is None:
                interrupt(psutil.Process(process.pid))
            code = process.wait(PATIENCE)
            screen.seek(0)
            if not interrupt or code:
                return code, screen.read()
        shutil.rmtree(run)
    raise AssertionError("never in time to interrupt it")


def test_a_rank_that_dies_ends_the_job_by_its_name(runs: Runs, tmp_path: Path) -> None:
    """Under torchrun, which names the rank, and the run goes on as if nothing had been."""
    workers: list[psutil.Process] = []

    def kill_the_second(agent: psutil.Process) -> None:
        workers[:] = sorted(agent.children(), key=lambda worker: int(worker.environ()["RANK"]))
        workers[1].kill()

    run = tmp_path / "run"
    code, said = torchrun(runs, run, kill_the_second)
    assert code == 1
    root = said.partition("Root Cause")[2]
    assert "rank      : 1 (local_rank: 1)" in root
    assert "Signal 9 (SIGKILL)" in root
    assert not any(worker.is_running() for worker in workers)
    runs.go_on(run, "contrastive", 2)
    assert contents(run) == contents(runs("contrastive", "ddp 2"))


@pytest.mark.skipif("SHORTCLIP_RANKS" not in os.environ, reason="starts torchrun twice; SHORTCLIP_RANKS=1 does")
def test_torchrun_that_is_asked_to_end_goes_on(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, said = torchrun(runs, run, lambda agent: agent.terminate())
    assert (code, said.count("Asked to end: saved")) == (1, 1)
    assert int(checkpoint.found(run)[-1].name) < LAST
    assert torchrun(runs, run)[0] == 0
    assert contents(run) == contents(runs("contrastive", "ddp 2"))
