"""AdamW with CLIP's two groups: what decays, by the recipe's `optimizer.decay`, and what does not.

Norms, biases, the class token and the temperature never decay. Embeddings and positions do with "matrices", as in
CLIPA's PyTorch code, and do not with "kernels", as in its JAX code (its `wd_mults`, which name `*/kernel` alone).
"""

import torch
from torch import nn

from train.parallel import alike, whole
from train.recipe import OptimizerConfig

_NEVER = ("cls_token",)
_EMBEDDINGS = ("pos_embed", "text.positions", "text.token_embedding.weight")


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW over the trainable parameters; the learning rate is set anew before each step."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    never = _NEVER if config.decay == "matrices" else (*_NEVER, *_EMBEDDINGS)
    decays = {name: p.ndim >= 2 and name.rpartition("vision.")[2] not in never for name, p in trainable.items()}
    groups = [
        {"params": [p for name, p in trainable.items() if decays[name]], "weight_decay": config.weight_decay},
        {"params": [p for name, p in trainable.items() if not decays[name]], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def state_tensors(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """The optimizer's state as named whole tensors, `parameter name/moment`; every rank must ask."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": whole(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_state_tensors(model: nn.Module, optimizer: torch.optim.AdamW, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `state_tensors`, into a fresh optimizer of the same model."""
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        # `step` is on the parameter's device, as the fused kernel wants it, and whole; moments are as their parameter.
        spread = value.to(parameter.device) if key == "step" else alike(value, parameter)
        optimizer.state[parameter][key] = spread
