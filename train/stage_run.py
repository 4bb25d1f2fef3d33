"""One stage of a run: its steps, what they are watched for, and the checkpoints in between."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import torch

from pipelines.contract import Batch, Loader
from pipelines.device_feed import on_device
from prep.errors import UserError
from train import checkpoint
from train.books import Books
from train.checkpoint import State
from train.ema import Ema
from train.flops import training_flops
from train.health import Event
from train.log import Line
from train.machine import Machine, most_memory
from train.model import CLIP
from train.parallel import load_whole
from train.ranks import Ranks
from train.recipe import Recipe
from train.schedule import learning_rate
from train.step import Outcome, Step

# The first steps after a start or a stage change pay for allocations, caches and compilers; rates leave them out.
WARMUP_STEPS = 3


class Ended(Exception):
    """The run was asked to end, and has saved what it has."""


@dataclass
class _Gauge:
    """What one log line averages over. The sums live on the device, where adding waits for nobody."""

    loss: torch.Tensor
    num_losses: torch.Tensor
    seconds: float = 0.0
    wait: float = 0.0
    num_timed: int = 0

    @classmethod
    def of(cls, device: str, state: State) -> "_Gauge":
        return cls(
            torch.tensor(state.loss_sum, dtype=torch.float32, device=device),
            torch.tensor(state.num_losses, device=device),
        )

    def add(self, outcome: Outcome) -> None:
        self.loss += outcome.loss.float().where(outcome.is_finite, 0.0)
        self.num_losses += outcome.is_finite

    def time(self, seconds: float, waited: float) -> None:
        self.seconds, self.wait, self.num_timed = self.seconds + seconds, self.wait + waited, self.num_timed + 1


@dataclass
class StageRun:
    """A stage under way. model: fitted to the stage, inside `step`. advance: called with the samples of each step.

    asked_to_end: whether this rank was told to stop. peak: FLOP/s of all ranks' devices, None where unknown.
    """

    number: int
    recipe: Recipe
    run: Path
    ranks: Ranks
    machine: Machine
    books: Books
    model: CLIP
    step: Step
    ema: Ema | None
    loader: Loader
    state: State
    peak: float | None
    advance: Callable[[int], None]
    asked_to_end: Callable[[], bool]
    _unseen: deque[tuple[int, Batch, Outcome]] = field(default_factory=deque)

    def go(self) -> State:
        """Take every step that is left; returns the state at the stage's end, which is saved.

        Raises `Ended`, and `UserError` when steps stay not finite.
        """
        stage, start = self.recipe.stages[self.number], self.recipe.stage_start(self.number)
        first_step = (self.state.samples_seen - start) // stage.batch_size
        self.books.begin_stage(self.number, self.state.samples_seen)
        gauge = _Gauge.of(self.ranks.device, self.state)
        with closing(on_device(self.loader, self.ranks.device)) as batches:
            for number in range(first_step, stage.num_steps):
                rate = learning_rate(stage, number * stage.batch_size)
                outcome = self._take(batches, gauge, rate, timed=number - first_step >= WARMUP_STEPS)
                self.advance(stage.batch_size)
                is_last = number + 1 == stage.num_steps
                logs = is_last or (number + 1) % self.recipe.log_every == 0
                ends = self.ranks.any(self.asked_to_end())
                saves = is_last or ends or (number + 1) % self.recipe.checkpoint_every == 0
                # A GPU is asked how a step went once it has the next to do; before anything is written, at once.
                self._look(leave=0 if logs or saves or self.ranks.device == "cpu" else 1)
                if logs:
                    self.books.write(self._line(gauge, rate, outcome))
                    self.state = replace(self.state, loss_sum=0.0, num_losses=0)
                    gauge = _Gauge.of(self.ranks.device, self.state)
                if saves:
                    self._save(gauge)
                if ends and self.state.samples_seen < self.recipe.num_samples:
                    raise Ended
        return self.state

    def _take(self, batches: Iterator[Batch], gauge: _Gauge, rate: float, *, timed: bool) -> Outcome:
        stage, state = self.recipe.stages[self.number], self.state
        began = perf_counter()
        batch = next(batches)
        waited = perf_counter() - began
        first = state.samples_seen + self.ranks.rank * len(batch.index)
        outcome = self.step.take(batch, first + torch.arange(len(batch.index), device=self.ranks.device), rate)
        if self.ema is not None and bool(outcome.is_finite):
            self.ema.update()
        gauge.add(outcome)
        self._unseen.append((state.samples_seen + stage.batch_size, batch, outcome))
        seconds = perf_counter() - began
        flops = training_flops(self.recipe.model, stage.budget) * stage.batch_size
        self.state = replace(
            state,
            samples_seen=state.samples_seen + stage.batch_size,
            flops=state.flops + flops,
            seconds=state.seconds + seconds,
        )
        if timed:
            gauge.time(seconds, waited)
        return outcome

    def _look(self, leave: int) -> None:
        """See how steps went, but for the newest `leave`."""
        while len(self._unseen) > leave:
            samples_seen, batch, outcome = self._unseen.popleft()
            if bool(outcome.is_finite):
                self.state = replace(self.state, skipped_in_row=0, num_rollbacks=0)
                continue
            in_row = self.state.skipped_in_row + 1
            self.state = replace(self.state, num_skipped=self.state.num_skipped + 1, skipped_in_row=in_row)
            rows = [row for part in self.ranks.all(batch.index.tolist()) for row in part]
            problem = f"a loss of {outcome.loss.item():.4g} or its gradient is not finite: the step is not taken"
            remedy = "Look at these rows; if it goes on, lower the learning rate or use precision = float32."
            self._tell(samples_seen, "not finite", problem, remedy, rows)
            if in_row >= self.recipe.rollback_after:
                self._roll_back(in_row)

    def _roll_back(self, in_row: int) -> None:
        """Take up the weights of the last checkpoint, and go on with the samples after those that were at fault.

        A checkpoint among the steps at fault holds the weights that they began with, and is passed over.
        """
        paths = [path for path in checkpoint.found(self.run) if not checkpoint.read_state(path).skipped_in_row]
        what = f"{in_row} steps in a row were not finite"
        if self.state.num_rollbacks or not paths:
            why = "and going back to the last checkpoint did not help" if paths else "and there is no checkpoint yet"
            remedy = "Lower the learning rate or warm up longer; events.jsonl names the rows of each step."
            raise UserError(f"{self.run}, {self.state.samples_seen:,} samples", f"{what}, {why}", remedy)
        stage, before = self.recipe.stages[self.number], checkpoint.stage_at(self.recipe, int(paths[-1].name))
        model = CLIP(self.recipe.model, before.budget, before.image_positions, self.recipe.seed)
        checkpoint.load_weights(paths[-1], model)
        model.set_budget(stage.budget, stage.image_positions)
        load_whole(self.model, model.state_dict())
        self.step.optimizer.state.clear()
        if int(paths[-1].name) > self.recipe.stage_start(self.number):
            checkpoint.load_optimizer(paths[-1], self.model, self.step.optimizer)
        if self.ema is not None:
            self.ema.follow(self.model, checkpoint.load_ema(paths[-1]))
        self.state = replace(self.state, skipped_in_row=0, num_rollbacks=self.state.num_rollbacks + 1)
        self.ranks.wait()  # nobody prunes before all have read
        remedy = f"Back to the weights of {paths[-1].name}, and on with the samples that come next."
        self._tell(self.state.samples_seen, "rolled back", what, remedy, [])

    def _tell(self, samples_seen: int, kind: str, problem: str, remedy: str, rows: list[int]) -> None:
        self.books.tell([Event(samples_seen, self.number, kind, problem, remedy, rows)])

    def _line(self, gauge: _Gauge, rate: float, outcome: Outcome) -> Line:
        stage, num_losses = self.recipe.stages[self.number], int(gauge.num_losses)
        speed = gauge.num_timed * stage.batch_size / gauge.seconds if gauge.num_timed else None
        useful = training_flops(self.recipe.model, stage.budget)
        return Line(
            samples_seen=self.state.samples_seen,
            stage=self.number,
            stage_name=stage.name,
            loss=gauge.loss.item() / num_losses if num_losses else float("nan"),
            lr=rate,
            logit_scale=self.model.logit_scale.exp().item(),
            samples_per_second=speed,
            data_wait=gauge.wait / gauge.seconds if gauge.num_timed else None,
            seconds=self.state.seconds,
            flops=self.state.flops,
            num_replaced=self.loader.num_replaced,
            num_skipped=self.state.num_skipped,
            similarity=outcome.similarity.item(),
            # What was done, the device can do: the probe of a CPU may have met a busier moment.
            mfu=min(1.0, useful * speed / self.peak) if speed and self.peak else None,
            memory=most_memory(self.ranks.device),
        )

    def _save(self, gauge: _Gauge) -> None:
        self.state = replace(self.state, loss_sum=gauge.loss.item(), num_losses=int(gauge.num_losses))
        averages = None if self.ema is None else self.ema.tensors()
        checkpoint.save(self.run, self.state, self.model, self.step.optimizer, averages, is_first=self.ranks.is_first)
        if self.ranks.is_first:
            checkpoint.prune(self.run, self.machine.keep_checkpoints, self._stays)

    def _stays(self, samples_seen: int) -> bool:
        """Whether a checkpoint is kept whatever comes after: a stage's end, or the first after each `keep_every`."""
        if samples_seen in {self.recipe.stage_start(n) for n in range(len(self.recipe.stages) + 1)}:
            return True
        every, stage = self.machine.keep_every, checkpoint.stage_at(self.recipe, samples_seen)
        apart = self.recipe.checkpoint_every * stage.batch_size
        return every > 0 and samples_seen // every > (samples_seen - apart) // every
