"""eval.run --watch: every checkpoint once, whatever happens to it, to the watcher or to the trainer meanwhile."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from eval.evaluation import Evaluation
from eval.run import main as eval_main
from eval.watch_log import WatchLine, append, read_watch
from prep.errors import UserError
from prep.files import working_in
from prep.store import Store
from train import checkpoint
from train.run import main as train_main

from .played_trainer import SEEN, SHORT, Trainer, classes, finished, seen_in


def test_it_waits_for_a_run_and_evaluates_the_oldest_first(finished: Path, classes: Path, tmp_path: Path) -> None:
    """Nothing is made before the trainer makes the folder, and what is half-written is no checkpoint."""
    run, asked = tmp_path / "run", Evaluation((classes,))

    def half_written(trainer: Trainer) -> None:
        assert not (run / "report.html").exists()
        (checkpoint.folder(run) / ".000000000048.tmp").mkdir(parents=True)

    def all_but_the_last(trainer: Trainer) -> None:
        assert seen_in(run) == []
        for seen in reversed(SEEN[:3]):
            trainer.finish(seen)

    trainer = Trainer(
        finished,
        run,
        [
            lambda _: None if not run.exists() else pytest.fail("a folder was made"),
            Trainer.begin,
            half_written,
            all_but_the_last,
            lambda trainer: trainer.finish(192),
        ],
    )
    assert trainer.watch(asked) == SEEN == seen_in(run)
    assert [said.split(";")[0] for said in trainer.said if said.startswith("waiting")] == [
        f"waiting for a run in {run}",
        f"waiting for the next checkpoint of {run}",
    ]
    lines = read_watch(run / "eval")
    assert [(line.res, line.text_tokens) for line in lines] == [(16, 6)] * 2 + [(32, 12)] * 2
    assert [line.flops for line in lines] == [checkpoint.read_state(p).flops for p in checkpoint.found(finished)]
    assert lines[0].zeroshot[0]["num_images"] == 12
    assert (run / "report.html").stat().st_size > 1000


def test_the_numbers_are_those_of_eval_run(finished: Path, classes: Path, store: Store, tmp_path: Path) -> None:
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    trainer.finish(192)
    assert trainer.watch(Evaluation((classes,), store.path)) == [192]
    eval_main([str(finished), "--zeroshot", str(classes), "--retrieval", str(store.path), "--out", str(tmp_path / "e")])
    told = json.loads((tmp_path / "e" / "eval.json").read_text())
    line = read_watch(tmp_path / "run" / "eval")[0]
    assert {key: told["retrieval"][key] for key in line.retrieval or {}} == line.retrieval
    assert json.loads(json.dumps(line.zeroshot[0])).items() <= told["zeroshot"][0].items()
    assert (tmp_path / "e" / "report.html").is_file()


def test_a_checkpoint_deleted_under_its_hands_is_passed_over(
    finished: Path, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between being listed and being read."""
    trainer = Trainer(finished, tmp_path / "run", [lambda trainer: trainer.finish(192)])
    trainer.begin()
    for seen in SEEN[:2]:
        trainer.finish(seen)
    real = checkpoint.load_weights

    def late(path: Path, model: object) -> None:
        if int(path.name) == 48:
            trainer.prune(48)
        real(path, model)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "load_weights", late)
    assert trainer.watch(Evaluation((classes,))) == [96, 192]
    assert "         48 samples  passed over: the trainer has deleted this checkpoint" in trainer.said


def test_a_damaged_checkpoint_that_is_still_there_is_named(finished: Path, classes: Path, tmp_path: Path) -> None:
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    trainer.finish(48)
    os.truncate(checkpoint.found(trainer.run)[0] / "weights.safetensors", 100)
    with pytest.raises(UserError, match="wanted a safetensors file"):
        trainer.watch(Evaluation((classes,)))


@pytest.mark.parametrize("cut", [0, 1, 60])
def test_after_a_kill_nothing_is_lost_or_there_twice(
    finished: Path, classes: Path, tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before, while or after its second line was written."""
    asked = Evaluation((classes,))
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    trainer.finish(48)
    trainer.finish(96)
    with pytest.raises(AssertionError, match="nothing more will happen"):
        trainer.watch(asked)
    path = trainer.run / "eval" / "watch.jsonl"
    os.truncate(path, path.stat().st_size - cut)
    evaluated: list[int] = []

    def counted(folder: Path, line: WatchLine) -> None:
        evaluated.append(line.samples_seen)
        append(folder, line)

    monkeypatch.setattr("eval.watch.append", counted)
    trainer.finish(192)
    assert trainer.watch(asked) == [48, 96, 192] == seen_in(trainer.run)
    assert evaluated == ([192] if cut == 0 else [96, 192])


def test_another_question_is_another_curve(finished: Path, classes: Path, tmp_path: Path) -> None:
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    trainer.finish(192)
    for asked in (Evaluation((classes,)), Evaluation((classes,), ema=True), Evaluation((classes,))):
        assert trainer.watch(asked) == [192]
    lines = read_watch(trainer.run / "eval")
    assert [line.ema for line in lines] == [False, True]


def test_a_diverged_checkpoint_is_told_and_the_next_one_judged(finished: Path, classes: Path, tmp_path: Path) -> None:
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    for seen in (96, 192):
        trainer.finish(seen)
    file = checkpoint.found(trainer.run)[0] / "weights.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    assert trainer.watch(Evaluation((classes,))) == [96, 192]
    first, second = read_watch(trainer.run / "eval")
    assert "wanted finite embeddings" in first.problem
    assert (first.zeroshot, bool(second.zeroshot)) == ([], True)
    assert "wanted finite embeddings" in (trainer.run / "report.html").read_text()


def test_two_watchers_of_one_run_are_refused(finished: Path, classes: Path, tmp_path: Path) -> None:
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    with working_in(trainer.run / "eval"), pytest.raises(UserError, match="another program is at work"):
        trainer.watch(Evaluation((classes,)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--watch"], "wanted something to evaluate on"),
        (["--watch", "--zeroshot", "nowhere"], "nothing is there"),
        (["--watch", "--zeroshot", ".", "--checkpoint", "96"], "every checkpoint"),
        (["--watch", "--zeroshot", ".", "--out", "e"], "every checkpoint"),
    ],
)
def test_mistakes_are_told_before_any_waiting(tmp_path: Path, options: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        eval_main([str(tmp_path / "none"), *options])


def test_ctrl_c_leaves_whole_lines_and_nothing_locked(
    finished: Path, classes: Path, tmp_path: Path, ctrl_c: None
) -> None:
    run, asked = tmp_path / "run", Evaluation((classes,))
    trainer = Trainer(finished, run, [lambda _: signal.raise_signal(signal.SIGINT)])
    trainer.begin()
    trainer.finish(48)
    with pytest.raises(KeyboardInterrupt):
        trainer.watch(asked)
    assert seen_in(run) == [48]
    trainer.finish(192)
    assert trainer.watch(asked) == [48, 192]


def test_beside_a_real_training(finished: Path, classes: Path, store: Store, tmp_path: Path) -> None:
    """The program itself, started first: it changes no weight, gives way, and ends when the training has."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "eval.run", str(run), "--watch", "--zeroshot", str(classes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("waiting for a run")
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, watcher.pid) == min(19, mine + 10)
        train_main(["demo", *SHORT, "--keep", "1", "--store", str(store.path), "--out", str(run)])
        said = watcher.stdout.read()
    assert watcher.returncode == 0, said
    assert said.endswith(f"{run}/report.html\n")
    seen = seen_in(run)
    assert seen == sorted(set(seen) & set(SEEN))
    assert {96, 192} <= set(seen), "the ends of the stages are never deleted"
    ours, theirs = (checkpoint.found(folder)[-1] / "weights.safetensors" for folder in (run, finished))
    assert ours.read_bytes() == theirs.read_bytes()
