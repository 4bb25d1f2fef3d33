"""A moving average of the weights: often better to evaluate than the weights themselves, early in a schedule."""

from collections.abc import Mapping

import torch

from train.model import CLIP
from train.parallel import alike, whole


class Ema:
    """`average = decay x average + (1 - decay) x weights` after every step, of what is trained.

    decay: 0 to less than 1. It begins with the weights as they are, and goes on over stages: `follow` again after a
    change of shapes, which begins the changed tensors anew.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, torch.Tensor] = {}
        self._model: CLIP | None = None

    def follow(self, model: CLIP, saved: Mapping[str, torch.Tensor] | None = None) -> None:
        """Average this model from now on. saved: averages of a checkpoint, whole tensors."""
        self._model = model
        before = self._average if saved is None else saved
        self._average = {}
        for name, parameter in model.named_parameters():
            average = parameter.detach().clone()
            if name in before and before[name].shape == average.shape:
                average = alike(whole(before[name]), average).clone()
            self._average[name] = average

    def update(self) -> None:
        """After a step."""
        assert self._model is not None
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                self._average[name].lerp_(parameter, 1 - self.decay)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The averages, whole, for a checkpoint; every rank must ask."""
        return {name: whole(average) for name, average in self._average.items()}
