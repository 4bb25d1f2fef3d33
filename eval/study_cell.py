"""One training of a study, from nothing to its result: what a worker process does.

The run lies in OUT/runs/NAME while it goes on, as `train.run` makes it, and goes on where it was stopped. The result is
OUT/cells/NAME.json. Then the checkpoints of a run that was begun here, its largest part, are deleted, unless they are
to be kept; a file in the run's folder says that it was begun here, so that this is made up for after a kill. A run that
somebody else began there, on whatever machine, is compared with the plan, gone on with if it is not finished, judged,
and left whole.
"""

import contextlib
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import torch

from eval.study_digest import captions_of, digest_of, images_of, what_is_read
from eval.study_judge import Judge, answers
from pipelines.choose import Host
from prep.errors import UserError
from prep.files import working_in, write_json
from prep.store import open_store
from train import checkpoint
from train.checkpoint import State
from train.fit import check_fit
from train.heap import keep_freed_memory
from train.log import read_log
from train.loop import Trainer
from train.machine import Machine
from train.model import CLIP
from train.ranks import Ranks
from train.recipe import Recipe
from train.run import train
from train.run_folder import prepare_run

_BEGUN = "begun_by_study.txt"
_SAYS = "eval.study began this run, and deletes its checkpoints when it has judged it. Without this file it does not.\n"


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be done. name: of its files. labels: of its cell. store: what it is trained on, and `store_label` what
    the plan calls that. factor: of the recipe's learning rates, applied already. untrained: the control at random
    weights. searching: one of the search for learning rates, which is no result.
    """

    name: str
    cell: str
    labels: dict[str, str]
    seed: int
    recipe: Recipe
    store: Path
    store_label: str
    factor: float
    untrained: bool = False
    searching: bool = False

    def stages(self) -> list[dict[str, Any]]:
        """What a result tells of the recipe."""
        return [
            {"samples": s.num_samples, "learning_rate": s.learning_rate, "budget": asdict(s.budget)}
            for s in self.recipe.stages
        ]


def digest(training: Training, judge: Judge) -> str | None:
    """What decides a result: the recipe, what it reads of its store, and what it is judged by, as 16 hex digits.

    None while there is no store or nothing to judge by. Raises `UserError` when the store lacks what the recipe reads.
    """
    sets = [judge.zeroshot, *([judge.retrieval] if judge.retrieval else [])]
    if not (training.store / "manifest.json").is_file() or not all(path.exists() for path in sets):
        return None
    data = what_is_read(training.store, training.recipe), images_of(judge.zeroshot)
    judged = judge.templates, judge.classes, judge.preprocess, *map(captions_of, sets[1:])
    return digest_of([asdict(training.recipe), training.untrained, *data, *judged])


def begin_worker() -> None:
    """Be a process that leaves the machine to others, and ends with the one that started it, however that ends."""
    os.nice(5)
    parent = parent_process()
    if parent is None:
        return

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def perform(training: Training, judge: Judge, out: Path) -> None:
    """Train, evaluate, write the result. Raises `UserError` as training and evaluation do."""
    if judge.threads:
        torch.set_num_threads(judge.threads)
    if judge.device == "cpu":
        keep_freed_memory()
    run = out / "runs" / training.name
    run.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "name": training.name,
        "cell": training.cell,
        "labels": training.labels,
        "seed": training.seed,
        "store": training.store_label,
        "factor": training.factor,
        "untrained": training.untrained,
        "searching": training.searching,
        "digest": digest(training, judge),
        "stages": training.stages(),
    }
    if training.untrained:
        result |= {"flops": 0.0, "seconds": 0.0, "loss": None, "at": [_untrained(training.recipe, judge)]}
    else:
        state = _train(training, judge, run)
        ends = [training.recipe.stage_start(n + 1) for n in range(len(training.recipe.stages))]
        lines = [line.loss for line in read_log(run) if line.stage == len(ends) - 1]
        result |= {
            "flops": state.flops,
            "seconds": state.seconds,
            "loss": sum(lines) / len(lines) if lines else None,
            "at": [_judged(run, end, judge, last=end == ends[-1]) for end in ends],
        }
    write_json(out / "cells" / f"{training.name}.json", result)
    let_go(run, keep=judge.keep_runs)


def let_go(run: Path, *, keep: bool) -> None:
    """Delete the checkpoints of a judged run that the study began, or leave them to the user."""
    if (run / _BEGUN).exists():
        if not keep:
            shutil.rmtree(checkpoint.folder(run), ignore_errors=True)
        (run / _BEGUN).unlink()


def _is_finished(run: Path, recipe: Recipe) -> bool:
    done = checkpoint.found(run)
    return bool(done) and int(done[-1].name) >= recipe.num_samples


def _train(training: Training, judge: Judge, run: Path) -> State:
    """Train to the end. A run that is there already is compared with what it should be, also when it is finished."""
    ends = {training.recipe.stage_start(n + 1) for n in range(len(training.recipe.stages))}
    if _is_finished(run, training.recipe):
        there = {int(path.name) for path in checkpoint.found(run)}
        if gone := sorted(ends - there):
            problem = f"is finished, but its checkpoint at the end of a stage, {gone[0]} samples, is not there"
            raise UserError(str(run), problem, "Bring it, or delete the run to train it again.")
    stores = (open_store(training.store),)
    if (run / "manifest.json").exists() and not _same_data(run, training):
        problem = f"this run was begun on a store with other columns than {training.store} has for its recipe"
        raise UserError(str(run), problem, "Give the store that it was begun on, or delete the run.")
    machine = Machine(host=Host(judge.device, judge.loader_threads), keep_checkpoints=1)
    log = run.with_name(f"{run.name}.log")
    with log.open("a") as console, contextlib.redirect_stdout(console):
        if not checkpoint.found(run):
            check_fit(training.recipe, stores)
            with working_in(run):
                prepare_run(run, training.recipe, stores)
                (run / _BEGUN).write_text(_SAYS)
        return train(Trainer(training.recipe, stores, run, Ranks(device=judge.device), machine))


def _same_data(run: Path, training: Training) -> bool:
    """Whether the store whose manifest a run keeps was, for its recipe, the one that it is given now."""
    try:
        was = what_is_read(training.store, training.recipe, run)
    except UserError:
        return False
    return was == what_is_read(training.store, training.recipe)


def _untrained(recipe: Recipe, judge: Judge) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    stage = recipe.stages[-1]
    model = CLIP(recipe.model, stage.budget, stage.image_positions, recipe.seed).to(judge.device).eval()
    return {"samples": 0} | answers(model, stage.budget, recipe, judge, last=True)


def _judged(run: Path, samples_seen: int, judge: Judge, *, last: bool) -> dict[str, Any]:
    loaded = checkpoint.load_model(run, str(samples_seen), judge.device)
    return {"samples": samples_seen} | answers(loaded.model, loaded.budget, loaded.recipe, judge, last=last)
