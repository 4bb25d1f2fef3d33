"""The two steps that `train.bench` compares, each in a process of its own: ours, and open_clip's trainer.

open_clip's is its own: `open_clip_train.train.train_one_epoch` over a dataloader that hands out ready tensors, on the
model that its package builds, with the optimizer that its `main` makes. It begins with our weights, and trains what we
train, so the losses of the first steps are the same number: that is what shows that both do the same work.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import torch

from pipelines.contract import Batch, TokenBudget
from train.heap import keep_freed_memory
from train.machine import most_memory, peak_flops
from train.model import CLIP, PIXEL_STATISTICS
from train.models import MODELS
from train.open_clip_config import to_open_clip_config
from train.open_clip_weights import to_open_clip
from train.optimizer import make_optimizer
from train.parallel import shared
from train.ranks import Ranks
from train.recipe import OptimizerConfig
from train.step import Step

BETAS, EPS, WEIGHT_DECAY, LEARNING_RATE = (0.9, 0.98), 1e-6, 0.2, 1e-5
"""open_clip's defaults for vision transformers; a rate at which a few steps of noise stay finite."""


@dataclass(frozen=True, slots=True)
class Work:
    """What both are given. model: of `train.models.MODELS`. precision: "float32" or "bfloat16". threads: of torch."""

    model: str
    res: int
    text_tokens: int
    batch_size: int
    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1

    @property
    def budget(self) -> TokenBudget:
        """The same as a stage has it."""
        return TokenBudget(self.res, self.text_tokens)

    def start(self) -> CLIP:
        """The model that both begin with: the same weights whenever it is called."""
        torch.manual_seed(0)
        return CLIP(MODELS[self.model], self.budget, "learned").to(self.device).train()

    def batch(self) -> Batch:
        """Noise, and captions that end in different places."""
        generator = torch.Generator().manual_seed(1)
        num, length = self.batch_size, self.text_tokens
        images = torch.randint(0, 256, (num, 3, self.res, self.res), dtype=torch.uint8, generator=generator)
        tokens = torch.randint(1, 20000, (num, length), generator=generator)
        if MODELS[self.model].text.tokenizer == "clip":
            ends = torch.randint(2, length, (num, 1), generator=generator)
            tokens[:, 0] = 49406
            tokens.scatter_(1, ends, 49407)
            tokens[torch.arange(length) > ends] = 0
        return Batch(images.to(self.device), tokens.to(self.device), torch.arange(num))


@dataclass(frozen=True, slots=True)
class Taken:
    """Some steps in a row. seconds: by the clock, a step. core_seconds: of all cores, a step. losses: one for each."""

    seconds: float
    core_seconds: float
    losses: list[float]


def timed(work: Work, steps: Callable[[], list[float]]) -> Taken:
    """Take them. Returning the losses as numbers, `steps` waits for the device."""
    began, core_began = perf_counter(), process_time()
    losses = steps()
    seconds, core_seconds = perf_counter() - began, process_time() - core_began
    return Taken(seconds / len(losses), core_seconds / len(losses), losses)


class OurStep:
    """`train.step.Step` as `train.loop` makes it for one process."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(work.threads)
        keep_freed_memory()
        self._work, self._batch = work, work.batch()
        self._places = torch.arange(work.batch_size, device=work.device)
        model, ranks = work.start(), Ranks(work.device)
        optimizer = make_optimizer(model, OptimizerConfig(BETAS, EPS, WEIGHT_DECAY))
        self._step = Step(model, shared(model, ranks, "ddp"), optimizer, ranks, work.precision == "bfloat16")

    def take(self, num: int) -> Taken:
        """So many steps on the same batch."""
        return timed(self._work, lambda: torch.stack([self._one() for _ in range(num)]).tolist())

    def _one(self) -> torch.Tensor:
        return self._step.take(self._batch, self._places, LEARNING_RATE).loss

    def peak(self) -> float | None:
        """See `peak_flops`."""
        return peak_flops(self._work.device, self._work.precision == "bfloat16")

    def memory(self) -> int:
        """Bytes, see `most_memory`."""
        return most_memory(self._work.device)


class TheirStep:
    """open_clip's. Its images come normalised and in float32, which its loader's workers would have done."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(work.threads)
        # Its packages take seconds to import.
        from open_clip.loss import ClipLoss
        from open_clip.model import CLIP as Theirs
        from open_clip_train.train import train_one_epoch

        config = MODELS[work.model]
        ours = work.start()
        model = Theirs(**to_open_clip_config(config, work.res, work.text_tokens)["model_cfg"], output_dict=True)
        model.load_state_dict(to_open_clip(ours.state_dict(), config))
        batch = work.batch()
        mean, std = (torch.tensor(part, device=work.device).view(3, 1, 1) for part in PIXEL_STATISTICS[config.pixels])
        self._work, self._model, self._train_one_epoch = work, model.to(work.device), train_one_epoch
        self._optimizer = _their_optimizer(model)
        self._loss = _Kept(ClipLoss())
        self._batch = (batch.images / 255 - mean) / std, batch.tokens

    def take(self, num: int) -> Taken:
        """So many steps on the same batch: an epoch of them, which reads the loss once."""
        self._loss.losses.clear()

        def steps() -> list[float]:
            data = {"train": _Epoch(_Loader([self._batch] * num, self._work.batch_size))}
            arguments = self._arguments(num)
            self._train_one_epoch(self._model, data, self._loss, 0, self._optimizer, None, None, None, arguments)
            return torch.stack(self._loss.losses).tolist()

        return timed(self._work, steps)

    def _arguments(self, num: int) -> Namespace:
        """What its trainer reads of its command line: its defaults, at a constant rate."""
        precision = "fp32" if self._work.precision == "float32" else "amp_bf16"
        return Namespace(
            **{"device": self._work.device, "precision": precision, "batch_size": self._work.batch_size},
            **{"accum_freq": 1, "skip_scheduler": True, "grad_clip_norm": None, "log_every_n_steps": max(100, num)},
            **{"distill": False, "horovod": False, "wandb": False, "world_size": 1, "rank": 0, "local_rank": 0},
        )

    def memory(self) -> int:
        """Bytes, see `most_memory`."""
        return most_memory(self._work.device)


def _their_optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW as open_clip's `main` makes it by default: no decay for vectors, norms, biases and the temperature."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = {n for n, p in named if p.ndim < 2 or any(part in n for part in ("bn", "ln", "bias", "logit_scale"))}
    groups = [
        {"params": [p for n, p in named if (n in plain) is is_plain], "weight_decay": 0.0 if is_plain else WEIGHT_DECAY}
        for is_plain in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPS)


class _Kept:
    """A loss of open_clip's that keeps what it gave."""

    def __init__(self, loss: Callable[..., dict[str, torch.Tensor]]) -> None:
        self._loss, self.losses = loss, list[torch.Tensor]()

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        found = self._loss(*args, **kwargs)
        self.losses += [value.detach() for value in found.values()]
        return found


class _Loader(list[tuple[torch.Tensor, torch.Tensor]]):
    """A dataloader whose batches are there already, with the two numbers that open_clip asks for."""

    def __init__(self, batches: list[tuple[torch.Tensor, torch.Tensor]], batch_size: int) -> None:
        super().__init__(batches)
        self.num_batches, self.num_samples = len(batches), len(batches) * batch_size


@dataclass(frozen=True, slots=True)
class _Epoch:
    dataloader: _Loader

    def set_epoch(self, epoch: int) -> None:
        """Nothing is shuffled."""
