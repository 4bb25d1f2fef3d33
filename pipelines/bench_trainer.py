"""Something for a loader to feed: a stand-in CLIP step, or a rate that somebody measured elsewhere.

What decides how long a loader has is the trainer's rate and whether it shares the loader's cores, nothing else of it.
"""

import time
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from pipelines.contract import Batch

_VOCABULARY_SIZE = 49408
SIZES = {"tiny": (64, 2, 4), "small": (192, 6, 7), "base": (768, 12, 7)}
"""Width, depth, and patches a side of the image, of both towers."""


class Trainer(Protocol):
    """What eats batches."""

    def step(self, batch: Batch) -> None:
        """Train on a batch; may return before the device has."""
        ...

    def wait(self) -> None:
        """Until all steps are done."""
        ...


@dataclass(frozen=True, slots=True)
class PacedTrainer:
    """Takes its time over a batch, and no core: a device of `rate` img/s."""

    rate: float

    def step(self, batch: Batch) -> None:
        """See `Trainer`."""
        time.sleep(len(batch.index) / self.rate)

    def wait(self) -> None:
        """See `Trainer`."""


class _Towers(nn.Module):
    """Patches and words to a loss, through two plain transformers."""

    def __init__(self, size: str, res: int, text_tokens: int) -> None:
        super().__init__()
        width, depth, patches = SIZES[size]
        patch = max(1, res // patches)
        num_patches = (res // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.image_positions = nn.Parameter(torch.zeros(num_patches, width))
        self.words = nn.Embedding(_VOCABULARY_SIZE, width)
        self.text_positions = nn.Parameter(torch.zeros(text_tokens, width))
        self.image, self.text = (self._transformer(width, depth) for _ in range(2))

    @staticmethod
    def _transformer(width: int, depth: int) -> nn.TransformerEncoder:
        layer = nn.TransformerEncoderLayer(width, max(1, width // 64), 4 * width, 0.0, "gelu", 1e-5, True, True)
        return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, R, R], int64 [B, T] to the contrastive loss."""
        patches = self.patches(images.float().div_(127.5).sub_(1)).flatten(2).transpose(1, 2)
        image = self.image(patches + self.image_positions).mean(1)
        text = self.text(self.words(tokens) + self.text_positions).mean(1)
        logits = 10 * normalize(image, dim=-1) @ normalize(text, dim=-1).T
        here = torch.arange(len(logits), device=logits.device)
        return cross_entropy(logits, here) + cross_entropy(logits.T, here)


@dataclass
class StandInTrainer:
    """A CLIP of one of SIZES and AdamW; bfloat16 on a GPU, float32 and one thread on the CPU."""

    size: str
    res: int
    text_tokens: int
    device: str
    _towers: _Towers = field(init=False)
    _optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self._towers = _Towers(self.size, self.res, self.text_tokens).to(self.device)
        self._optimizer = torch.optim.AdamW(self._towers.parameters(), 1e-4)

    def step(self, batch: Batch) -> None:
        """See `Trainer`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu"):
            images = batch.images.to(self.device, non_blocking=True)
            loss = self._towers(images, batch.tokens.to(self.device, non_blocking=True))
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def wait(self) -> None:
        """See `Trainer`."""
        if self.device != "cpu":
            torch.cuda.synchronize()
