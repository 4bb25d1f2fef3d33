"""How long a sample's training takes on a device: arithmetic and memory traffic, over one measured efficiency.

    seconds = (executed FLOPs / peak FLOP/s + bytes of activations moved / bandwidth) / efficiency

Executed are the useful FLOPs, a third of which once more where blocks are computed again (activation checkpointing).
The second term is why narrow towers reach a lower MFU than wide ones: a block's arithmetic grows with the square of its
width, what it moves only with the width. Left out: the loss, the optimizer, communication, and waiting for data.

A forward block moves, in units of tokens x width, what products, norms, attention, GELU and residual sums read and
write when nothing is fused: 22 + 4 x (hidden / width). A backward pass moves twice as much as a forward. Both numbers
were counted, not fitted; with no second term the published hours are met to 22% in place of 13%.
"""

from pipelines.contract import TokenBudget
from train.flops import hidden_width, image_tokens, training_flops
from train.hardware import Hardware
from train.model_config import ModelConfig, TextConfig, VisionConfig


def _moved(num_tokens: int, tower: VisionConfig | TextConfig) -> int:
    """Elements that a forward pass through a tower's blocks reads and writes."""
    return tower.depth * num_tokens * (22 * tower.width + 4 * hidden_width(tower))


def executed_flops(model: ModelConfig, budget: TokenBudget, checkpointing: bool) -> float:
    """FLOPs of one sample's training step with what is computed twice counted twice."""
    return training_flops(model, budget) * (4 if checkpointing else 3) / 3


def bytes_moved(model: ModelConfig, budget: TokenBudget, checkpointing: bool, element: int) -> float:
    """Bytes of activations that one sample's training step moves; element: bytes of a number."""
    elements = _moved(image_tokens(model, budget), model.vision) + _moved(budget.text_tokens, model.text)
    return elements * element * (4 if checkpointing else 3)


def ideal_seconds(model: ModelConfig, budget: TokenBudget, hardware: Hardware, checkpointing: bool) -> float:
    """Seconds of one sample's training step at an efficiency of 1."""
    moved = bytes_moved(model, budget, checkpointing, 2 if hardware.autocast else 4)
    return executed_flops(model, budget, checkpointing) / hardware.peak_flops + moved / hardware.bandwidth


def sample_seconds(
    model: ModelConfig, budget: TokenBudget, hardware: Hardware, checkpointing: bool, mfu: float | None = None
) -> float:
    """Seconds of one sample's training step on one device. mfu: take this share of the peak instead of the estimate."""
    if mfu is not None:
        return training_flops(model, budget) / (hardware.peak_flops * mfu)
    return ideal_seconds(model, budget, hardware, checkpointing) / hardware.efficiency
