"""The losses in their plain forms, which hold the whole matrix of logits: the judges of `train.tiled_loss`.

Image and text are unit vectors [B, D], of which row i belongs with row i; scale and bias are scalars; so is the result.
"""

import torch
from torch.nn.functional import cross_entropy, logsigmoid


def contrastive(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """InfoNCE both ways, averaged: image and text unit vectors [B, D], scale a scalar; returns a scalar.

    Radford et al. 2021, figure 3. An untrained model sits near ln(B).
    """
    logits = scale * image @ text.T
    target = torch.arange(len(image), device=image.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def sigmoid(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """SigLIP's: for each of the B^2 pairings, is it a pair or not; summed, over B.

    Zhai et al. 2023 (arXiv 2303.15343), algorithm 1; they begin with scale 10 and bias -10.
    """
    logits = scale * image @ text.T + bias
    sign = 2 * torch.eye(len(image), dtype=logits.dtype, device=logits.device) - 1
    return -logsigmoid(sign * logits).sum() / len(image)
