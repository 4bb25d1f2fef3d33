"""What a sample costs in arithmetic, from shapes. One multiply-add is two FLOPs; a backward pass is two forwards.

These are the useful FLOPs, of which a run's MFU is made: blocks that are computed again for the backward pass
(activation checkpointing) count once. `train.step_time` counts what is really executed (HFU). They are those of the
published models; what our towers leave out of their last blocks still counts, and `spared_flops` says how much that is.
"""

from pipelines.contract import TokenBudget
from train.image_masks import num_kept
from train.model_config import ModelConfig, TextConfig, VisionConfig


def hidden_width(tower: VisionConfig | TextConfig) -> int:
    """Channels inside an MLP."""
    return int(tower.width * tower.mlp_ratio)


def _blocks(num_tokens: int, tower: VisionConfig | TextConfig) -> float:
    """Multiply-adds of a transformer: projections 4nd^2, MLP 2nd * hidden, attention 2n^2 d, a block."""
    width, n = tower.width, num_tokens
    return tower.depth * (4 * n * width**2 + 2 * n * width * hidden_width(tower) + 2 * n * n * width)


def image_tokens(model: ModelConfig, budget: TokenBudget) -> int:
    """Tokens that the vision tower's blocks see while training: the patches that are kept, and a class token."""
    return num_kept(budget, model.vision.patch_size) + int(model.vision.class_token)


def forward_flops(model: ModelConfig, budget: TokenBudget) -> float:
    """FLOPs of one sample's forward pass through both towers; norms, softmax and the loss are left out, as is usual."""
    vision, text = model.vision, model.text
    n = image_tokens(model, budget)
    # Patches are left out after they are embedded.
    patches = (budget.res // vision.patch_size) ** 2 * 3 * vision.patch_size**2 * vision.width
    heads = model.embed_dim * (vision.width + text.width)
    return 2 * (patches + _blocks(n, vision) + _blocks(budget.text_tokens, text) + heads)


def spared_flops(model: ModelConfig, budget: TokenBudget) -> float:
    """FLOPs of `forward_flops` that our towers do not execute, and that change no feature.

    A tower that pools one token computes its last block's attention, projection and MLP for that token alone.
    """
    towers: list[tuple[int, VisionConfig | TextConfig]] = [(budget.text_tokens, model.text)]
    if model.vision.pool == "class":
        towers.append((image_tokens(model, budget), model.vision))
    return 2 * sum(
        (n - 1) * (tower.width**2 + 2 * tower.width * hidden_width(tower) + 2 * n * tower.width) for n, tower in towers
    )


def training_flops(model: ModelConfig, budget: TokenBudget) -> float:
    """FLOPs of one sample's training step: three forwards."""
    return 3 * forward_flops(model, budget)
