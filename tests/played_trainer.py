"""A training as eval.run --watch sees it, played from one that is finished."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.evaluation import Evaluation
from eval.watch import watch
from eval.watch_log import read_watch
from prep.store import Store
from train import checkpoint
from train.run import main as train_main

from .test_train_run import TINY

# Two stages of four steps, and a checkpoint at every second.
SHORT = [*TINY, *(f"stages.{i}.samples=96" for i in (0, 1)), "checkpoint_every=2", "log_every=1"]
SEEN = [48, 96, 144, 192]


class Trainer:
    """Plays a training: each time the watcher has nothing to do, the next thing happens in the run folder."""

    def __init__(self, finished: Path, run: Path, acts: list[Callable[["Trainer"], None]]) -> None:
        self.finished, self.run, self.acts, self.said = finished, run, iter(acts), list[str]()

    def wait(self) -> None:
        act = next(self.acts, None)
        assert act is not None, "the watcher waits, and nothing more will happen"
        act(self)

    def begin(self) -> None:
        shutil.copytree(self.finished, self.run, ignore=shutil.ignore_patterns("checkpoints", "eval", "report.html"))

    def finish(self, seen: int) -> None:
        shutil.copytree(self.finished / "checkpoints" / f"{seen:012d}", checkpoint.folder(self.run) / f"{seen:012d}")

    def prune(self, seen: int) -> None:
        shutil.rmtree(checkpoint.folder(self.run) / f"{seen:012d}")

    def watch(self, asked: Evaluation) -> list[int]:
        return [line.samples_seen for line in watch(self.run, asked, self.wait, self.said.append)]


def seen_in(run: Path) -> list[int]:
    return [line.samples_seen for line in read_watch(run / "eval")]


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a checkpoint at each of SEEN."""
    run = tmp_path_factory.mktemp("watched") / "run"
    train_main(["demo", *SHORT, "--ema", "0.5", "--keep", "9", "--store", str(store.path), "--out", str(run)])
    assert [int(path.name) for path in checkpoint.found(run)] == SEEN
    return run


@pytest.fixture(scope="module")
def classes(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of two pictures."""
    out = tmp_path_factory.mktemp("classes") / "six"
    for folder in sorted((demo_data / "zeroshot").iterdir())[:6]:
        (out / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:2]:
            shutil.copy(file, out / folder.name)
    return out
