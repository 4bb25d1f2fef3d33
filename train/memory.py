"""What a training step keeps in a device's memory, from shapes. Bytes; a device holds whole weights (DDP).

    state          16 a parameter: weight, gradient and AdamW's two moments in float32; with bfloat16 products 2 more,
                   for the copies of the weights
    activations    of a sample, without checkpointing: what each block keeps for its backward pass, float32 inputs of
                   its two norms and, in the products' type, 6 + 2 x (hidden / width) more numbers a token and channel
    checkpointed   the float32 input of each block, and all of the one block that is computed again
    naive loss     four float32 matrices of local x global batch: logits and their log-softmax, both ways
    tiled loss     float32 features and gradients of the local images and all texts; three tiles (`train.tiled_loss`)

Left out: patches and embedded tokens outside the blocks, the allocator's waste, communication. Tests hold the
number of parameters against the model's and the activations against what autograd really saves; `train.loss_bench`
measures the losses (plain at 8,192 pairs: 4.08 matrices).
"""

from pipelines.contract import TokenBudget
from train.flops import hidden_width, image_tokens
from train.model_config import ModelConfig, TextConfig, VisionConfig

USABLE = 0.9
"""The share of a device's memory that is planned with."""


def _block_parameters(tower: VisionConfig | TextConfig) -> int:
    width, hidden = tower.width, hidden_width(tower)
    return 4 * width * width + 2 * width * hidden + 9 * width + hidden


def num_parameters(model: ModelConfig, budget: TokenBudget) -> int:
    """Parameters of a model that is built for a budget, its position tables included."""
    vision, text = model.vision, model.text
    prefix = int(vision.class_token)
    patches = (budget.res // vision.patch_size) ** 2
    in_vision = 3 * vision.patch_size**2 + int(vision.patch_bias) + prefix + patches + prefix
    in_vision += 2 * int(vision.pre_norm) + 2 + model.embed_dim
    in_text = text.vocabulary_size + budget.text_tokens + 2 + model.embed_dim
    blocks = vision.depth * _block_parameters(vision) + text.depth * _block_parameters(text)
    return in_vision * vision.width + in_text * text.width + blocks + 1


def state_bytes(model: ModelConfig, budget: TokenBudget, autocast: bool) -> float:
    """Weights, gradients and the optimizer's moments."""
    return num_parameters(model, budget) * (18 if autocast else 16)


def _block_bytes(num_tokens: int, tower: VisionConfig | TextConfig, autocast: bool) -> float:
    element = 2 if autocast else 4
    return num_tokens * (8 * tower.width + element * (6 * tower.width + 2 * hidden_width(tower)))


def activation_bytes(model: ModelConfig, budget: TokenBudget, autocast: bool, checkpointing: bool) -> float:
    """Of one sample."""
    vision, text = model.vision, model.text
    towers: tuple[tuple[int, VisionConfig | TextConfig], ...] = (
        (image_tokens(model, budget), vision),
        (budget.text_tokens, text),
    )
    if not checkpointing:
        return sum(tower.depth * _block_bytes(n, tower, autocast) for n, tower in towers)
    inputs = sum(4 * tower.depth * n * tower.width for n, tower in towers)
    return inputs + max(_block_bytes(n, tower, autocast) for n, tower in towers)


def naive_loss_bytes(local_batch: int, global_batch: int) -> float:
    """Of the contrastive loss with whole matrices of logits."""
    return 4 * 4 * local_batch * global_batch


def tiled_loss_bytes(local_batch: int, global_batch: int, embed_dim: int, tile: int) -> float:
    """Of the contrastive loss in tiles of so many rows that are computed again for the backward pass."""
    return 4 * (2 * (local_batch + global_batch) * embed_dim + 3 * min(tile, local_batch) * min(tile, global_batch))


def num_parts(bytes_a_sample: float, fixed: float, local_batch: int, memory: float) -> int | None:
    """The fewest equal parts in which a local batch goes through a device; None when not even one sample fits."""
    room = memory * USABLE - fixed
    fitting = int(room // bytes_a_sample) if room > 0 else 0
    if fitting < 1:
        return None
    return next(
        parts for parts in range(1, local_batch + 1) if local_batch % parts == 0 and local_batch // parts <= fitting
    )
