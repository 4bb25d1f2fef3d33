"""The training loop: stages one after another, everything counted in samples seen, resumable from any checkpoint.

What a step does depends only on (recipe, stores, samples seen): the loader and the image masks are counter-based and
the model has no dropout, so a run that was killed and resumed ends with the weights of one that was not (same machine,
same numbers of ranks and threads).
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipelines.choose import choose, make_loader
from pipelines.contract import Draws, Loader
from prep.files import read_json, write_json
from prep.store import Store
from train import checkpoint
from train.books import Books
from train.checkpoint import State
from train.ema import Ema
from train.machine import Machine, peak_flops
from train.model import CLIP
from train.optimizer import make_optimizer
from train.parallel import compiled, shared
from train.ranks import Ranks
from train.recipe import Recipe, Stage
from train.stage_run import StageRun
from train.step import Step


@dataclass
class Trainer:
    """A run in progress, on one rank. advance: called with a stage's number and the samples of each step in it."""

    recipe: Recipe
    stores: tuple[Store, ...]
    run: Path
    ranks: Ranks = field(default_factory=Ranks)
    machine: Machine = field(default_factory=Machine)
    advance: Callable[[int, int], None] = lambda _stage, _samples: None
    _asked_to_end: bool = False

    def train(self) -> State:
        """Run every stage that is not done, from the newest checkpoint on; returns the final state.

        Raises `train.stage_run.Ended` after SIGTERM, when the step under way is done and saved, and `UserError` when
        the run cannot go on.
        """
        paths = checkpoint.found(self.run)
        state = checkpoint.read_state(paths[-1]) if paths else State(0, 0.0, 0.0)
        seen = state.samples_seen
        for number, stage in enumerate(self.recipe.stages):
            self.advance(number, max(0, min(stage.num_samples, seen - self.recipe.stage_start(number))))
        peak = peak_flops(self.ranks.device, self.recipe.precision == "bfloat16")
        peak = None if peak is None else peak * self.ranks.world
        ema = Ema(self.machine.ema) if self.machine.ema else None
        self.ranks.wait()  # nobody writes before all have read
        books = Books(self.run, self.recipe, seen, is_first=self.ranks.is_first, wandb=self.machine.wandb)
        before = signal.signal(signal.SIGTERM, self._ask_to_end)
        try:
            for number in range(self.recipe.stage_of(seen), len(self.recipe.stages)):
                state = self._stage(number, state, books, ema, peak)
                self.ranks.wait()  # the first rank has written the checkpoint that the next stage begins with
        finally:
            signal.signal(signal.SIGTERM, before)
            books.close()
        return state

    def _ask_to_end(self, *_: object) -> None:
        self._asked_to_end = True

    def _stage(self, number: int, state: State, books: Books, ema: Ema | None, peak: float | None) -> State:
        stage, machine = self.recipe.stages[number], self.machine
        model, path = self._model(state.samples_seen)
        averages = checkpoint.load_ema(path) if path else None
        model.set_budget(stage.budget, stage.image_positions)
        model.freeze(stage.frozen)
        model.set_checkpointing(machine.checkpoint_blocks)
        parallel = shared(model, self.ranks, machine.parallel)
        if machine.compile:
            compiled(model)
        model.train()
        optimizer = make_optimizer(model, self.recipe.optimizer)
        if path and state.samples_seen > self.recipe.stage_start(number):
            checkpoint.load_optimizer(path, model, optimizer)
        if ema is not None:
            ema.follow(model, averages)
        bfloat16 = self.recipe.precision == "bfloat16"
        step = Step(model, parallel, optimizer, self.ranks, bfloat16, machine.micro_batch)
        loader = self._loader(number, self._draws(stage, state.samples_seen))
        return StageRun(
            *(number, self.recipe, self.run, self.ranks, machine, books, model, step, ema, loader, state, peak),
            advance=lambda samples: self.advance(number, samples),
            asked_to_end=lambda: self._asked_to_end,
        ).go()

    def _model(self, samples_seen: int) -> tuple[CLIP, Path | None]:
        """The model as the newest checkpoint left it, and that checkpoint; random weights where there is none."""
        torch.manual_seed(self.recipe.seed)
        paths = checkpoint.found(self.run)
        stage = checkpoint.stage_at(self.recipe, samples_seen)
        model = CLIP(self.recipe.model, stage.budget, stage.image_positions, self.recipe.seed).to(self.ranks.device)
        if not paths:
            return model, None
        checkpoint.load_weights(paths[-1], model)
        return model, paths[-1]

    def _draws(self, stage: Stage, samples_seen: int) -> Draws:
        has_jitter = stage.jitter.probability > 0 or stage.jitter.gray_probability > 0
        return Draws(
            self.stores,
            stage.budget,
            stage.batch_size,
            self.recipe.seed,
            samples_seen,
            self.ranks.rank,
            self.ranks.world,
            weights=self.recipe.weights,
            crops=stage.crops,
            augmentation=stage.augmentation,
            jitter=stage.jitter if has_jitter else None,
            captions=self.recipe.captions,
            tokenizer=self.recipe.model.text.tokenizer,
            end_token=self.recipe.model.text.end_token,
            shuffle_captions=self.recipe.shuffle_captions,
            window=self.recipe.window,
            replace_damaged=self.machine.replace_damaged,
        )

    def _loader(self, number: int, draws: Draws) -> Loader:
        """The loader that was asked for, and noted; "auto" is settled once a stage, and a resumed run keeps to it."""
        path = self.run / "loaders.json"
        settled = self.ranks.first(read_json(path) if self.ranks.is_first and path.exists() else {})
        before = settled.get(str(number))
        name = self.machine.loader if self.machine.loader != "auto" else before
        if name is None and self.ranks.is_first:
            choice = choose(draws, self.machine.host)
            name = choice.name
            print(f"--loader auto: {name} for stage {number} ({choice.why})", flush=True)
        name = self.ranks.first(name)
        assert name is not None
        if before not in (None, name) and self.ranks.is_first:
            # JPEG decoders and resizers differ in single bits.
            print(f"--loader {name}: stage {number} was begun with {before}; weights will differ", flush=True)
        if self.ranks.is_first:
            write_json(path, settled | {str(number): name})
        return make_loader(name, draws, self.machine.host)
