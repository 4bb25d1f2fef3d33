"""AdamW with CLIP's two groups: matrices decay, everything of fewer dimensions and the temperature do not."""

import torch
from torch import nn

from train.recipe import OptimizerConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW over the trainable parameters; the learning rate is set anew before each step."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def state_tensors(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """The optimizer's state as named tensors, `parameter name/moment`, fit for safetensors."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_state_tensors(model: nn.Module, optimizer: torch.optim.AdamW, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `state_tensors`, into a fresh optimizer of the same model."""
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        # `step` stays on the CPU in its own type unless the fused kernel runs on a GPU; moments follow their parameter.
        optimizer.state[parameter][key] = value.to(parameter.device)
