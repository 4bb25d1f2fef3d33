"""The training loop: stages one after another, everything counted in samples seen, resumable from any checkpoint.

What a step does depends only on (recipe, store, samples seen): the loader is counter-based and the model has no
dropout, so a run that was killed and resumed ends with the weights of one that was not (same machine, same number of
threads).
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import torch

from pipelines.choose import Host, choose, make_loader
from pipelines.contract import Batch, Draws, Loader
from pipelines.device_feed import on_device
from prep.files import read_json, write_json
from prep.store import Store
from train import checkpoint
from train.checkpoint import State
from train.flops import training_flops
from train.log import Line, Log
from train.loss import contrastive
from train.model import CLIP
from train.optimizer import make_optimizer
from train.recipe import Recipe, Stage
from train.schedule import learning_rate

KEEP_CHECKPOINTS = 2
# The first steps after a start or a stage change pay for allocations and caches; rates leave them out.
WARMUP_STEPS = 3


@dataclass
class _Window:
    """What one log line averages over."""

    loss: torch.Tensor
    num_losses: int = 0
    seconds: float = 0.0
    wait: float = 0.0
    num_timed: int = 0


@dataclass
class Trainer:
    """A run in progress.

    device: where the model lives. loader: one of pipelines.choose.LOADERS, or "auto". replace_damaged: as in `Draws`.
    advance: called with the samples of each step.
    """

    recipe: Recipe
    stores: tuple[Store, ...]
    run: Path
    device: str = "cpu"
    loader: str = "torch"
    host: Host = field(default_factory=Host)
    replace_damaged: bool = False
    advance: Callable[[int], None] = lambda _: None

    def train(self) -> State:
        """Run every stage that is not done, from the newest checkpoint on; returns the final state."""
        torch.manual_seed(self.recipe.seed)
        paths = checkpoint.found(self.run)
        state = checkpoint.read_state(paths[-1]) if paths else State(0, 0.0, 0.0)
        self.advance(state.samples_seen)
        model = CLIP(self.recipe.model, checkpoint.budget_of(self.recipe, state.samples_seen)).to(self.device)
        if paths:
            checkpoint.load_weights(paths[-1], model)
        log = Log(self.run, state.samples_seen)
        for number in range(self.recipe.stage_of(state.samples_seen), len(self.recipe.stages)):
            stage = self.recipe.stages[number]
            model.set_budget(stage.budget)
            optimizer = make_optimizer(model, self.recipe.optimizer)
            if state.samples_seen > self.recipe.stage_start(number):
                checkpoint.load_optimizer(paths[-1], model, optimizer)
            state = self._stage(number, stage, model, optimizer, state, log)
        return state

    def _draws(self, stage: Stage, samples_seen: int) -> Draws:
        has_jitter = stage.jitter.probability > 0 or stage.jitter.gray_probability > 0
        return Draws(
            self.stores,
            stage.budget,
            stage.batch_size,
            self.recipe.seed,
            samples_seen,
            weights=self.recipe.weights,
            crops=stage.crops,
            augmentation=stage.augmentation,
            jitter=stage.jitter if has_jitter else None,
            captions=self.recipe.captions,
            shuffle_captions=self.recipe.shuffle_captions,
            window=self.recipe.window,
            replace_damaged=self.replace_damaged,
        )

    def _make_loader(self, number: int, draws: Draws) -> Loader:
        """The loader that was asked for, and noted; "auto" is settled once a stage, and a resumed run keeps to it."""
        path = self.run / "loaders.json"
        settled = read_json(path) if path.exists() else {}
        before = settled.get(str(number))
        name = self.loader if self.loader != "auto" else before
        if name is None:
            choice = choose(draws, self.host)
            name = choice.name
            print(f"--loader auto: {name} for stage {number} ({choice.why})", flush=True)
        if before not in (None, name):
            # JPEG decoders and resizers differ in single bits.
            print(f"--loader {name}: stage {number} was begun with {before}; weights will differ", flush=True)
        write_json(path, settled | {str(number): name})
        return make_loader(name, draws, self.host)

    def _stage(
        self, number: int, stage: Stage, model: CLIP, optimizer: torch.optim.AdamW, state: State, log: Log
    ) -> State:
        loader = self._make_loader(number, self._draws(stage, state.samples_seen))
        model.train()
        first_step = (state.samples_seen - self.recipe.stage_start(number)) // stage.batch_size
        step_flops = training_flops(self.recipe.model, stage.budget) * stage.batch_size
        window = _Window(torch.zeros((), device=self.device))
        with closing(on_device(loader, self.device)) as batches:
            for step in range(first_step, stage.num_steps):
                began = perf_counter()
                batch = next(batches)
                waited = perf_counter() - began
                lr = learning_rate(stage, step * stage.batch_size)
                window.loss += self._step(model, optimizer, batch, lr)
                seconds = perf_counter() - began
                state = State(state.samples_seen + stage.batch_size, state.flops + step_flops, state.seconds + seconds)
                window.num_losses += 1
                if step - first_step >= WARMUP_STEPS:
                    window.seconds, window.wait, window.num_timed = (
                        window.seconds + seconds,
                        window.wait + waited,
                        window.num_timed + 1,
                    )
                self.advance(stage.batch_size)
                last = step + 1 == stage.num_steps
                if last or (step + 1) % self.recipe.log_every == 0:
                    log.write(_line(number, stage, window, lr, model, state, loader.num_replaced))
                    window = _Window(torch.zeros((), device=self.device))
                if last or (step + 1) % self.recipe.checkpoint_every == 0:
                    checkpoint.save(self.run, state, model, optimizer)
                    ends = {self.recipe.stage_start(n) for n in range(1, len(self.recipe.stages) + 1)}
                    checkpoint.prune(self.run, KEEP_CHECKPOINTS, ends)
        return state

    def _step(self, model: CLIP, optimizer: torch.optim.AdamW, batch: Batch, lr: float) -> torch.Tensor:
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = contrastive(*model(batch.images, batch.tokens))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.clamp_logit_scale()
        return loss.detach()


def _line(number: int, stage: Stage, window: _Window, lr: float, model: CLIP, state: State, num_replaced: int) -> Line:
    return Line(
        samples_seen=state.samples_seen,
        stage=number,
        stage_name=stage.name,
        loss=window.loss.item() / window.num_losses,
        lr=lr,
        logit_scale=model.logit_scale.exp().item(),
        samples_per_second=window.num_timed * stage.batch_size / window.seconds if window.num_timed else None,
        data_wait=window.wait / window.seconds if window.num_timed else None,
        seconds=state.seconds,
        flops=state.flops,
        num_replaced=num_replaced,
    )
