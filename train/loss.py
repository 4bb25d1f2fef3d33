"""The contrastive loss, in its plain form."""

import torch
from torch.nn.functional import cross_entropy


def contrastive(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """InfoNCE both ways, averaged: image and text unit vectors [B, D], scale a scalar; returns a scalar.

    Radford et al. 2021, figure 3. An untrained model sits near ln(B).
    """
    logits = scale * image @ text.T
    target = torch.arange(len(image), device=image.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
