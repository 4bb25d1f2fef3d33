"""What the first rank writes while a run goes on: log lines, events, and the same to TensorBoard and W&B."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.tensorboard.writer import SummaryWriter

from prep.errors import UserError
from train.health import Event, Events, Health, read_events
from train.log import Line, Log, read_log
from train.recipe import Recipe

_SHOWN = ("loss", "lr", "logit_scale", "samples_per_second", "data_wait", "mfu", "memory", "similarity", "num_skipped")


class Books:
    """Opened on every rank, written to on the first. wandb: a project, or empty.

    Raises `UserError` when W&B is asked for and not installed.
    """

    def __init__(self, run: Path, recipe: Recipe, samples_seen: int, *, is_first: bool, wandb: str = "") -> None:
        self._is_first, self._health = is_first, Health(recipe)
        self._wandb: Any = None
        if not is_first:
            return
        self._log, self._events = Log(run, samples_seen), Events(run, samples_seen)
        self._health.remember(read_log(run), read_events(run))
        # purge_step: what a killed run told after its last checkpoint is told again. It cuts all curves of a folder
        # at one step, so the curve that is not over samples has a folder of its own.
        lines, board = read_log(run), run / "tensorboard"
        self._board = SummaryWriter(str(board), purge_step=samples_seen + 1)
        gigaflops = _gigaflops(lines[-1]) + 1 if lines else 0
        self._by_flops = SummaryWriter(str(board / "flops"), purge_step=gigaflops)
        if wandb:
            self._wandb = _wandb_run(wandb, run, recipe)

    def begin_stage(self, number: int, samples_seen: int) -> None:
        """Tell what can be said before a stage."""
        self.tell(self._health.of_stage(number, samples_seen))

    def write(self, line: Line) -> None:
        """One log step, everywhere, and what it gives cause to say."""
        if not self._is_first:
            return
        self._log.write(line)
        numbers = {name: value for name, value in asdict(line).items() if name in _SHOWN and value is not None}
        for name, value in numbers.items():
            self._board.add_scalar(name, value, line.samples_seen)
        self._by_flops.add_scalar("loss over GFLOPs", line.loss, _gigaflops(line))
        for board in (self._board, self._by_flops):
            board.flush()
        if self._wandb is not None:
            self._wandb.log(numbers | {"samples_seen": line.samples_seen, "flops": line.flops})
        self.tell(self._health.of_line(line))

    def tell(self, events: Iterable[Event]) -> None:
        """Events, if this rank is the one that tells."""
        if self._is_first:
            for event in events:
                self._events.tell(event)

    def close(self) -> None:
        """Everything is on disk."""
        if self._is_first:
            self._board.close()
            self._by_flops.close()
            if self._wandb is not None:
                self._wandb.finish()


def _gigaflops(line: Line) -> int:
    return round(line.flops / 1e9)


def _wandb_run(project: str, run: Path, recipe: Recipe) -> Any:
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError("--wandb", "wanted the package wandb; it is not installed", "pip install wandb") from error
    name = run.resolve().name
    return wandb.init(project=project, name=name, id=f"{recipe.name}-{name}", resume="allow", config=asdict(recipe))
