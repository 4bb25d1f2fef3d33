"""The trainings of a study: which there are, which are done, and doing the others, some at a time.

First the search for learning rates: for each label of its axis the factor whose run has the least loss in its last
stage. Then every cell, seed by seed, so that a study that is interrupted has the whole picture for its first seeds.
"""

import json
import math
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.study_cell import Training, begin_worker, digest, let_go, perform
from eval.study_judge import Judge
from eval.study_plan import StudyPlan
from prep.errors import UserError
from prep.files import read_json, write_json
from prep.progress import Bar, bar
from train.recipe import Recipe
from train.sweep import Cell

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Study:
    """A plan with its data and its folder. stores: {label: store}, the main one under the empty label."""

    plan: StudyPlan
    out: Path
    stores: dict[str, Path]
    judge: Judge
    jobs: int

    def search(self) -> list[Training]:
        """The trainings that find the learning rates; none where the plan leaves no choice."""
        rates = self.plan.file.rates
        if len(rates.factors) == 1:
            return []
        cells = [self.plan.cell({rates.axis: label}) for label in self.plan.sweep.axes[rates.axis]]
        return [self._training(cell, rates.seed, factor, searching=True) for cell in cells for factor in rates.factors]

    def cells(self, factors: dict[str, float], seeds: Iterable[int] | None = None) -> list[Training]:
        """Every training after the search, seed by seed. factors: what it found; cells of other labels are left out."""
        file = self.plan.file
        found = []
        cells = [cell for cell in self.plan.sweep.cells if cell.labels[file.rates.axis] in factors]
        for seed in self.plan.seeds if seeds is None else seeds:
            if seed in file.seeds:
                found += [self._training(self.plan.cell(of), seed, 1.0, untrained=True) for of in file.untrained]
            of_seed = [cell for cell in cells if seed in self.plan.seeds_of(cell)]
            found += [self._training(cell, seed, factors[cell.labels[file.rates.axis]]) for cell in of_seed]
        return found

    def num_trainings(self) -> int:
        """How many there are after the search."""
        plan = self.plan
        num_controls = len(plan.file.seeds) * len(plan.file.untrained)
        return num_controls + sum(len(plan.seeds_of(cell)) for cell in plan.sweep.cells)

    def _training(self, cell: Cell, seed: int, factor: float, **kind: bool) -> Training:
        recipe = scaled(replace(self.plan.sweep.recipe(cell.name), seed=seed), factor)
        label = self.plan.store_of(cell)
        if kind.get("untrained"):
            name = f"{cell.name}-untrained-seed{seed}"
        else:
            name = f"{cell.name}-rate{factor:g}-seed{seed}" if kind else f"{cell.name}-seed{seed}"
        store = self.stores.get(label, self.out / "stores" / label)
        return Training(name, cell.name, cell.labels, seed, recipe, store, label, factor, **kind)

    def done(self, trainings: Sequence[Training]) -> dict[str, Result]:
        """The results that are there, by name. Raises `UserError` when one is of other settings or data.

        Where a training's store or images are not there any more, its stages are compared, and the data taken on trust.
        """
        results = {}
        for training in trainings:
            path = self.out / "cells" / f"{training.name}.json"
            if path.is_file():
                result = read_json(path)
                now = digest(training, self.judge)
                same = result["digest"] == now if now else result["stages"] == _as_read(training.stages())
                if not same:
                    problem = "is the result of another recipe, store or set of images than the plan has now"
                    raise UserError(str(path), problem, "Choose another --out, or delete it to train the cell again.")
                results[training.name] = result
        _same_images(results)
        return results


def _as_read(stages: list[dict[str, Any]]) -> Any:
    return json.loads(json.dumps(stages))


def _same_images(results: dict[str, Result]) -> None:
    """Raise `UserError` when results were judged by sets of different sizes: no difference of theirs means anything."""
    nums = {at["num_images"]: name for name, result in results.items() for at in result["at"]}
    if len(nums) > 1:
        (first, one), (second, other), *_ = nums.items()
        problem = f"{one} was judged by {first:,} images, {other} by {second:,}"
        raise UserError("--zeroshot", problem, "Bring the set back that was there, and delete the others' results.")


def scaled(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with all its learning rates times a factor."""
    stages = tuple(replace(stage, learning_rate=stage.learning_rate * factor) for stage in recipe.stages)
    return replace(recipe, stages=stages)


def best_factors(study: Study, results: Iterable[Result]) -> dict[str, float]:
    """For each label of the search's axis the factor of the least last loss; the plan's single one without a search.

    A loss that is missing or not finite comes last. A label of which a training is missing is left out: no cell of it
    can be trained yet.
    """
    rates = study.plan.file.rates
    if len(rates.factors) == 1:
        return dict.fromkeys(study.plan.sweep.axes[rates.axis], rates.factors[0])
    losses: dict[str, dict[float, float]] = {}
    for result in results:
        loss = result["loss"]
        known = loss is not None and math.isfinite(loss)
        losses.setdefault(result["labels"][rates.axis], {})[result["factor"]] = loss if known else math.inf
    return {
        label: min(found, key=lambda factor: (found[factor], factor))
        for label, found in losses.items()
        if set(found) == set(rates.factors)
    }


def restore(out: Path) -> None:
    """Lay the results that a study.json holds back into an empty cells/.

    Not beside others: a result that was deleted, so that its cell is trained again, stays deleted.
    """
    path = out / "study.json"
    if not path.is_file() or list((out / "cells").glob("*.json")):
        return
    for result in read_json(path)["results"]:
        cell = out / "cells" / f"{result['name']}.json"
        if cell.parent != (out / "cells") or cell.name.startswith("."):
            raise UserError(str(path), f"{result['name']!r} is no name of a result", "Restore the file.")
        write_json(cell, result)


def missing(trainings: Sequence[Training], results: dict[str, Result]) -> list[Training]:
    """The trainings that have no result."""
    return [training for training in trainings if training.name not in results]


def run_all(study: Study, trainings: Sequence[Training], description: str) -> dict[str, Result]:
    """Do what is not done, `jobs` at a time; every result by name. Raises `UserError` naming a training that failed."""
    results = study.done(trainings)
    for name in results:  # whose end a kill may have cut off
        let_go(study.out / "runs" / name, keep=study.judge.keep_runs)
    left = missing(trainings, results)
    num_samples = sum(training.recipe.num_samples for training in left if not training.untrained)
    if left:
        with bar(num_samples, description, "samples") as progress:
            for training in _performed(study, left, progress):
                results[training.name] = read_json(study.out / "cells" / f"{training.name}.json")
                top1 = results[training.name]["at"][-1]["top1"]
                print(f"{training.name}: top-1 {top1:.1%}  ({len(results)} of {len(trainings)})", flush=True)
    _same_images(results)
    return {training.name: results[training.name] for training in trainings}


def _performed(study: Study, left: list[Training], progress: Bar) -> Iterator[Training]:
    """Each training as it is done. When one fails, or the user ends the program, the others are killed where they are:
    a run goes on from its last checkpoint.
    """
    # Spawned, not forked: a fork of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(study.jobs, len(left)), context, initializer=begin_worker) as pool:
        futures: dict[Future[None], Training] = {
            pool.submit(perform, training, study.judge, study.out): training for training in left
        }
        try:
            for future in as_completed(futures):
                training = futures[future]
                _raise_named(future, training)
                progress.advance(0 if training.untrained else training.recipe.num_samples)
                yield training
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise


def _raise_named(future: Future[None], training: Training) -> None:
    try:
        future.result()
    except BrokenProcessPool as error:
        problem = "a worker process died (killed, or out of memory)"
        raise UserError("--jobs", problem, "Give the command again: it goes on; or fewer --jobs.") from error
    except UserError as error:
        raise UserError(f"{training.name}: {error.place}", error.problem, error.remedy) from error
