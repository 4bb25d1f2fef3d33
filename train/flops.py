"""What a sample costs, counted from shapes. One multiply-add is two FLOPs; a backward pass is two forwards."""

from pipelines.contract import TokenBudget
from train.recipe import ModelConfig, TextConfig, VisionConfig


def _blocks(num_tokens: int, tower: VisionConfig | TextConfig) -> float:
    """Multiply-adds of a transformer: projections 4nd^2, MLP 2nd * hidden, attention 2n^2 d, a block."""
    width, n = tower.width, num_tokens
    hidden = int(width * tower.mlp_ratio)
    return tower.depth * (4 * n * width**2 + 2 * n * width * hidden + 2 * n * n * width)


def image_tokens(model: ModelConfig, budget: TokenBudget) -> int:
    """Tokens that the vision tower sees."""
    return int((budget.res // model.vision.patch_size) ** 2)


def forward_flops(model: ModelConfig, budget: TokenBudget) -> float:
    """FLOPs of one sample's forward pass through both towers; norms, softmax and the loss are left out, as is usual."""
    vision, text = model.vision, model.text
    n = image_tokens(model, budget)
    patches = n * 3 * vision.patch_size**2 * vision.width
    heads = model.embed_dim * (vision.width + text.width)
    return 2 * (patches + _blocks(n, vision) + _blocks(budget.text_tokens, text) + heads)


def training_flops(model: ModelConfig, budget: TokenBudget) -> float:
    """FLOPs of one sample's training step: three forwards."""
    return 3 * forward_flops(model, budget)
