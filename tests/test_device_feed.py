"""Batches ahead of the step: the same ones in order, errors passed on, nothing left behind; and loaders chosen."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import pytest
import torch

from pipelines.choose import PROBE_SECONDS, Host, choose, make_loader, measure
from pipelines.contract import Batch, ColorJitter, Draws, Loader, TokenBudget
from pipelines.device_feed import BATCHES_ON_DEVICE, on_device
from pipelines.doctor import main as doctor_main
from pipelines.jitter import apply
from pipelines.torch_loader import BATCHES_AHEAD, TorchLoader
from prep.errors import UserError
from prep.store import Store
from train.config import load_recipe
from train.log import read_log
from train.loop import Trainer
from train.run import train

from .test_train_run import TINY

BUDGET = TokenBudget(16, 8)


class Slow:
    """The reference, a while late each time; it counts what was asked of it."""

    def __init__(self, loader: Loader, seconds: float) -> None:
        self._loader, self._seconds = loader, seconds
        self.num_asked, self.num_replaced, self.is_closed = 0, 0, False

    def __iter__(self) -> Iterator[Batch]:
        try:
            for batch in self._loader:
                self.num_asked += 1
                time.sleep(self._seconds)
                yield batch
        finally:
            self.is_closed = True


def test_the_same_batches_come_in_the_same_order_and_jittered(store: Store) -> None:
    draws = Draws((store,), BUDGET, 12, 0, jitter=ColorJitter())
    plain = list(islice(TorchLoader(draws), 9))
    fed = list(islice(on_device(TorchLoader(draws), "cpu"), 9))
    for a, b in zip(plain, fed, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.tokens, b.tokens)
        assert a.jitter is not None
        assert torch.equal(apply(a.images, a.jitter), b.images)
        assert b.jitter is None


def test_a_slow_step_does_not_stop_reading(store: Store) -> None:
    loader = Slow(TorchLoader(Draws((store,), BUDGET, 12, 0)), 0.0)
    batches = on_device(loader, "cpu")
    next(batches)
    until = time.monotonic() + 60
    while loader.num_asked < BATCHES_ON_DEVICE + 2 and time.monotonic() < until:
        time.sleep(0.01)  # the step
    assert loader.num_asked == BATCHES_ON_DEVICE + 2, "one taken, two that wait, one in hand"
    assert BATCHES_AHEAD >= 1
    batches.close()
    assert loader.is_closed
    assert not [thread for thread in threading.enumerate() if thread.name == "device feed"]


def test_a_device_that_batches_are_not_brought_to_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match="wanted cpu or cuda, found meta"):
        next(on_device(TorchLoader(Draws((store,), BUDGET, 12, 0)), "meta"))


def test_what_the_loader_raises_reaches_the_step(store: Store) -> None:
    class Broken:
        num_replaced = 0

        def __iter__(self) -> Iterator[Batch]:
            yield next(iter(TorchLoader(Draws((store,), BUDGET, 12, 0))))
            raise UserError("shard 7", "wanted whole rows", "Build it again.")

    batches = on_device(Broken(), "cpu")
    next(batches)
    with pytest.raises(UserError, match="shard 7"):
        next(batches)


def test_a_slow_reader_shows_as_waiting(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("demo", [*TINY, *(f"stages.{i}.samples=192" for i in (0, 1))])
    trainer = Trainer(recipe, (store,), tmp_path / "run")
    make = trainer._loader
    monkeypatch.setattr(Trainer, "_loader", lambda self, number, draws: Slow(make(number, draws), 0.2))
    train(trainer)
    waits = [line.data_wait for line in read_log(tmp_path / "run") if line.data_wait is not None]
    assert waits
    assert median(waits) > 0.5


def test_auto_takes_the_fastest_that_works_and_says_why(store: Store) -> None:
    draws = Draws((store,), BUDGET, 12, 0)

    def make(name: str, draws: Draws, host: Host) -> Loader:
        if name == "ffcv":
            raise UserError("ffcv", "wanted the package, found none", "Install it.")
        loader = TorchLoader(draws, host.threads)
        return Slow(loader, 0.2) if name == slow[0] else loader

    slow = [""]
    for slow[0], best in (("torch", "dali"), ("dali", "torch")):
        choice = choose(draws, Host(), make)
        assert choice.name == best
        for told in ("torch ", "dali ", "img/s", "ffcv not: wanted the package"):
            assert told in choice.why
    assert PROBE_SECONDS == 2
    assert measure(TorchLoader(draws), 12, 0.01) > 0


def test_a_loader_that_is_none_is_refused(store: Store) -> None:
    draws = Draws((store,), BUDGET, 12, 0)
    with pytest.raises(UserError, match="wanted one of auto, torch, dali, ffcv"):
        make_loader("fast", draws, Host())
    with pytest.raises(UserError, match="wanted an exported"):
        make_loader("ffcv", draws, Host())


def test_the_doctor_runs_every_loader(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    doctor_main([str(store.path), "--device", "cpu"])
    said = capsys.readouterr().out
    assert "margin, JPEG" in said
    assert "same pixels" in said
    assert "DALI decodes JPEG by:" in said
