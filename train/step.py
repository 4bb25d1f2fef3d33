"""One optimizer step: encode, compare, go back, and take the step unless something is not finite."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor

from pipelines.contract import Batch
from train.accumulation import accumulated_backward
from train.logit_grid import slices
from train.loss import contrastive, sigmoid
from train.model import CLIP
from train.parallel import Parallel
from train.ranks import Ranks
from train.tiled_loss import CPU_TILE, tiled_contrastive, tiled_sigmoid

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did, on the device, so that nobody waits for it here.

    loss: a scalar. is_finite: bool, whether the step was taken. similarity: the mean cosine of the batch's image
    features with one another on this rank, 1 where all images are the same to the model.
    """

    loss: torch.Tensor
    is_finite: torch.Tensor
    similarity: torch.Tensor


@dataclass
class Step:
    """What a step needs besides its batch.

    bfloat16: whether products are. micro_batch: samples that this rank encodes at once; 0: all of them.
    """

    model: CLIP
    parallel: Parallel
    optimizer: torch.optim.AdamW
    ranks: Ranks
    bfloat16: bool = False
    micro_batch: int = 0

    def take(self, batch: Batch, places: torch.Tensor, lr: float) -> Outcome:
        """One step at a learning rate. places: int64 [B], see `CLIP.encode_image`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, similarity = self._backward(batch, places)
        is_finite = loss.isfinite() & self._norm().isfinite()
        # The protocol of torch's gradient scaler: the fused kernel leaves all as it is, and nothing goes to the host.
        self.optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.clamp_logit_scale()
        return Outcome(loss, is_finite, similarity)

    def _backward(self, batch: Batch, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        similarity: list[torch.Tensor] = []

        def encode(rows: slice) -> tuple[torch.Tensor, ...]:
            device = torch.device(self.ranks.device).type
            with torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
                features: tuple[torch.Tensor, ...] = self.parallel.call(
                    batch.images[rows], batch.tokens[rows], places[rows]
                )
            with torch.no_grad():
                similarity.append(_similarity(features[0]))
            return features

        size = len(batch.index)
        parts = list(slices(size, self.micro_batch or size))
        if len(parts) == 1:
            loss = self._loss(*encode(parts[0]))
            loss.backward()
            return loss.detach(), similarity[0]
        return accumulated_backward(encode, parts, self._loss, self.parallel.no_sync), similarity[0]

    def _loss(self, image: torch.Tensor, text: torch.Tensor, *scalars: torch.Tensor) -> torch.Tensor:
        # A matrix of one tile is no larger than a tile, and the plain form makes it once, not twice.
        plain = self.ranks.world == 1 and len(image) <= CPU_TILE
        if self.model.config.loss == "sigmoid":
            if plain:
                return sigmoid(image.float(), text.float(), *scalars)
            return tiled_sigmoid(image, text, *scalars, group=self.ranks.group)
        if plain:
            return contrastive(image.float(), text.float(), *scalars)
        return tiled_contrastive(image, text, *scalars, group=self.ranks.group)

    def _norm(self) -> torch.Tensor:
        """Not finite on every rank where a gradient is not on one."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _similarity(features: torch.Tensor) -> torch.Tensor:
    """The mean cosine of unit vectors [B, D] with one another, from their mean: (B |mean|^2 - 1) / (B - 1)."""
    count = len(features)
    return (count * features.float().mean(0).square().sum() - 1) / max(1, count - 1)
