"""CLIPA's models by name: sizes and families as its two code bases have them. A recipe says `model = "l14_v2"`.

Sizes: widths, depths, heads and hidden widths of both towers. Families:

    v1    CLIPA's PyTorch code, from OpenAI's CLIP: a norm before the blocks, exact GELU, class token; causal text over
          CLIP's tokens, pooled at the end of text. S and B pool the class token, L, H and bigG the mean over class
          token and patches.
    v2    CLIPA's JAX code, all of CLIPA-v2: no norm before the blocks, tanh GELU, norms with eps 1e-6, mean over
          patches, fixed sin-cos positions; bidirectional text over BERT's tokens, pooled at the last place, without an
          end token; a temperature without bounds; ImageNet's pixel statistics.

CLIPA trained B/16 and L/16 as v1, L/14, H/14 and bigG/14 as v2, and S/16, B/16 and H/14 of the scaling study with the
JAX code but a pooled class token (`s16_study` and so on); the others are what the two families say at that size.
"""

from dataclasses import dataclass

from train.model_config import ModelConfig, TextConfig, VisionConfig


@dataclass(frozen=True, slots=True)
class _Size:
    patch_size: int
    vision: tuple[int, int, int, float]
    """Width, depth, heads, hidden width over width."""
    text: tuple[int, int, int]
    embed_dim: int
    v1_pool: str


_TEXTS = {"s": (384, 12, 6), "b": (512, 12, 8), "l": (768, 12, 12), "h": (1024, 24, 16), "bigg": (1280, 32, 20)}
_SIZES = {
    "s16": _Size(16, (384, 12, 6, 4.0), _TEXTS["s"], 384, "class"),
    "b16": _Size(16, (768, 12, 12, 4.0), _TEXTS["b"], 512, "class"),
    "l16": _Size(16, (1024, 24, 16, 4.0), _TEXTS["l"], 768, "mean_with_class"),
    "l14": _Size(14, (1024, 24, 16, 4.0), _TEXTS["l"], 768, "mean_with_class"),
    "h14": _Size(14, (1280, 32, 16, 4.0), _TEXTS["h"], 1024, "mean_with_class"),
    # The published ratio; it rounds down to a hidden width of 8,192.
    "bigg14": _Size(14, (1664, 48, 16, 4.9231), _TEXTS["bigg"], 1280, "mean_with_class"),
}


def _v1(size: _Size) -> ModelConfig:
    width, depth, num_heads, ratio = size.vision
    vision = VisionConfig(
        *(size.patch_size, width, depth, num_heads, ratio),
        class_token=True,
        pre_norm=True,
        pool=size.v1_pool,
        norm_eps=1e-5,
        patch_bias=False,
        positions="sincos-mae",
        init="clip",
    )
    return ModelConfig(size.embed_dim, vision, TextConfig(*size.text))


def _v2(size: _Size, pool: str = "mean") -> ModelConfig:
    width, depth, num_heads, ratio = size.vision
    vision = VisionConfig(
        *(size.patch_size, width, depth, num_heads, ratio),
        class_token=True,
        pool=pool,
        gelu="tanh",
        patch_bias=False,
        init="clipa-v2",
    )
    text = TextConfig(
        *size.text,
        tokenizer="bert",
        vocabulary_size=32000,
        causal=False,
        pool="last",
        gelu="tanh",
        norm_eps=1e-6,
        end_token=False,
    )
    return ModelConfig(size.embed_dim, vision, text, pixels="imagenet", clamp_logit_scale=False)


MODELS = {
    **{f"{name}_v1": _v1(size) for name, size in _SIZES.items()},
    **{f"{name}_v2": _v2(size) for name, size in _SIZES.items()},
    # The JAX code's scaling study pools the class token (its configs/model_s, _b, _h).
    **{f"{name}_study": _v2(_SIZES[name], "class") for name in ("s16", "b16", "l16", "h14")},
}
"""The models of CLIPA, by the names that recipes use."""
