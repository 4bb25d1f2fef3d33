"""One training of a study, from nothing to its result: what a worker process does.

The run lies in OUT/runs/NAME while it goes on, as `train.run` makes it, and goes on where it was stopped. The result is
OUT/cells/NAME.json, written last. The run's checkpoints, its largest part, are then deleted, unless they are to be
kept. A run that is finished there already, on whatever machine, is only judged, after its recipe and store have been
compared with the plan's; its checkpoints stay.
"""

import contextlib
import hashlib
import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import torch

from eval.study_judge import Judge, answers
from pipelines.choose import Host
from prep.errors import UserError
from prep.files import write_json
from prep.store import open_store
from train import checkpoint
from train.checkpoint import State
from train.heap import keep_freed_memory
from train.log import read_log
from train.loop import Trainer
from train.machine import Machine
from train.model import CLIP
from train.ranks import Ranks
from train.recipe import Recipe
from train.run import train


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
    """What decides a result, as hex: the recipe, and what it is trained and judged on. None while there is no store."""
    manifest = training.store / "manifest.json"
    if not manifest.is_file():
        return None
    store = json.loads(manifest.read_bytes())["fingerprint"]
    decides = [asdict(training.recipe), store, training.untrained, str(judge.zeroshot.name), judge.templates]
    if judge.classes or judge.preprocess != "crop":
        decides += [judge.classes, judge.preprocess]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


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
    was_finished = _is_finished(run, training.recipe)
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
    if not (judge.keep_runs or was_finished):
        shutil.rmtree(checkpoint.folder(run), ignore_errors=True)


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
    machine = Machine(host=Host(judge.device, judge.loader_threads), keep_checkpoints=1)
    log = run.with_name(f"{run.name}.log")
    with log.open("a") as console, contextlib.redirect_stdout(console):
        return train(Trainer(training.recipe, (open_store(training.store),), run, Ranks(device=judge.device), machine))


def _untrained(recipe: Recipe, judge: Judge) -> dict[str, Any]:
    torch.manual_seed(recipe.seed)
    stage = recipe.stages[-1]
    model = CLIP(recipe.model, stage.budget, stage.image_positions, recipe.seed).to(judge.device).eval()
    return {"samples": 0} | answers(model, stage.budget, recipe, judge, last=True)


def _judged(run: Path, samples_seen: int, judge: Judge, *, last: bool) -> dict[str, Any]:
    loaded = checkpoint.load_model(run, str(samples_seen), judge.device)
    return {"samples": samples_seen} | answers(loaded.model, loaded.budget, loaded.recipe, judge, last=last)
