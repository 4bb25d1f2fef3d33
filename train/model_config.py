"""What a model is made of: two towers, each with what CLIPA's families differ in. `train.models` names those of CLIPA.

Where a key names a choice, its values are named after who chose so. Defaults are those of the demo's small model.
"""

import math
from dataclasses import dataclass

from prep.errors import UserError
from train.positions import SINCOS

START_POSITIONS = (*SINCOS, "learned")
VISION_POOLS = ("mean", "class", "mean_with_class")
TEXT_POOLS = ("end", "last")
GELUS = {"exact": "none", "tanh": "tanh"}
"""Names of the activation, and torch's for them."""
INITS = ("timm", "clip", "clipa-v2")
TOKENIZERS = {"clip": ("clip-bpe-49408", 49408), "bert": ("bert-wordpiece-30522", 30522)}
"""Tokenizers by what prep.build --tokenizer calls them: the name in a store's manifest, and the number of ids."""
PIXELS = ("openai", "imagenet")
LOSSES = ("contrastive", "sigmoid")


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """A plain vision transformer: sides in pixels, widths in channels, mlp_ratio = hidden width / width.

    class_token: one token before the patches. pre_norm: a norm between position embedding and the first block. pool:
    "mean" over patches, "class" the class token, "mean_with_class" over both. gelu: "exact" or "tanh". positions: how
    the table begins, "sincos" (CLIPA's JAX code), "sincos-mae" (its PyTorch code) or "learned" (random). init: "timm",
    "clip" (open_clip's, which is PyTorch's own) or "clipa-v2".
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    class_token: bool = False
    pre_norm: bool = False
    pool: str = "mean"
    gelu: str = "exact"
    norm_eps: float = 1e-6
    patch_bias: bool = True
    positions: str = "sincos"
    init: str = "timm"


@dataclass(frozen=True, slots=True)
class TextConfig:
    """A transformer over text tokens.

    tokenizer: "clip" or "bert". vocabulary_size: rows of the table, at least the tokenizer's. causal: a token sees only
    those before it. pool: "end", where the end of text stands, or "last", the last place of the budget, mostly padding.
    end_token: whether the model sees an end of text; CLIPA's JAX code has none.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    tokenizer: str = "clip"
    vocabulary_size: int = 49408
    causal: bool = True
    pool: str = "end"
    gelu: str = "exact"
    norm_eps: float = 1e-5
    end_token: bool = True


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Two towers and the width of the space they meet in.

    pixels: whose mean and deviation pixels are normalised by. clamp_logit_scale: keep the scale of the logits in 1 to
    100 after every step, as CLIP does; CLIPA's JAX code does not. loss: "contrastive" or "sigmoid" (SigLIP's), which
    also decides how the temperature begins and whether there is a bias.
    """

    embed_dim: int
    vision: VisionConfig
    text: TextConfig
    pixels: str = "openai"
    clamp_logit_scale: bool = True
    loss: str = "contrastive"


def check_model(model: ModelConfig, place: str) -> None:
    """Refuse a model whose parts do not fit together. Raises `UserError` naming the first key that is wrong."""
    vision, text = model.vision, model.text
    sizes: dict[str, float] = {"embed_dim": model.embed_dim, "vision.patch_size": vision.patch_size}
    for name, tower in (("vision", vision), ("text", text)):
        sizes |= {f"{name}.{key}": getattr(tower, key) for key in ("width", "depth", "num_heads")}
        sizes[f"{name}.mlp_ratio"] = tower.mlp_ratio * tower.width
    for key, size in sizes.items():
        if not 1 <= size < math.inf:
            raise UserError(f"{place}, model.{key}", "too small: wanted at least 1", "Change the recipe.")
    for key, value, known in (
        ("vision.pool", vision.pool, VISION_POOLS),
        ("vision.gelu", vision.gelu, tuple(GELUS)),
        ("vision.positions", vision.positions, START_POSITIONS),
        ("vision.init", vision.init, INITS),
        ("text.tokenizer", text.tokenizer, tuple(TOKENIZERS)),
        ("text.pool", text.pool, TEXT_POOLS),
        ("text.gelu", text.gelu, tuple(GELUS)),
        ("pixels", model.pixels, PIXELS),
        ("loss", model.loss, LOSSES),
    ):
        if value not in known:
            problem = f"wanted one of {', '.join(known)}; found {value!r}"
            raise UserError(f"{place}, model.{key}", problem, "Change the recipe.")
    num_ids = TOKENIZERS[text.tokenizer][1]
    for key, holds, problem in (
        ("vision.num_heads", vision.width % vision.num_heads == 0, f"width {vision.width} is not a multiple of it"),
        ("text.num_heads", text.width % text.num_heads == 0, f"width {text.width} is not a multiple of it"),
        ("vision.width", vision.width % 4 == 0, "sin-cos positions want a multiple of 4"),
        ("vision.norm_eps", 0 < vision.norm_eps < 1, "wanted more than 0 and less than 1"),
        ("text.norm_eps", 0 < text.norm_eps < 1, "wanted more than 0 and less than 1"),
        ("vision.pool", vision.class_token or vision.pool == "mean", f"{vision.pool} wants class_token = true"),
        ("text.vocabulary_size", text.vocabulary_size >= num_ids, f"the tokenizer has {num_ids:,} ids"),
        (
            "text.pool",
            text.pool == "last" or (text.tokenizer == "clip" and text.end_token),
            'end wants tokenizer = "clip" and end_token = true',
        ),
    ):
        if not holds:
            raise UserError(f"{place}, model.{key}", problem, "Change one of the two.")
