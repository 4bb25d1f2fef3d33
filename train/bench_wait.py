"""How long a step of ours waits for a loader of ours, as `train.stage_run` counts it."""

from time import perf_counter

import torch

from pipelines.choose import Host, make_loader
from pipelines.contract import Draws
from pipelines.device_feed import on_device
from prep.store import open_store
from train.bench_steps import LEARNING_RATE, OurStep, Work


class FedStep(OurStep):
    """Our step, fed from a raw crop bank by the torch loader with one thread of its own."""

    def __init__(self, work: Work, store: str) -> None:
        super().__init__(work)
        draws = Draws(
            *((open_store(store),), work.budget, work.batch_size, 0),
            crops="bank",
            encoding="raw",
            tokenizer=self._step.model.config.text.tokenizer,
        )
        self._batches = on_device(make_loader("torch", draws, Host()), work.device)
        self._seen = 0

    def wait(self, num: int) -> tuple[float, float]:
        """So many steps: seconds of waiting for batches, and seconds in all."""
        began, waited = perf_counter(), 0.0
        for _ in range(num):
            asked = perf_counter()
            batch = next(self._batches)
            waited += perf_counter() - asked
            places = self._seen + torch.arange(len(batch.index), device=batch.images.device)
            self._step.take(batch, places, LEARNING_RATE).loss.item()
            self._seen += len(batch.index)
        return waited, perf_counter() - began
