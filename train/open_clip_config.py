"""open_clip's model configurations, both ways: its JSON to our `ModelConfig`, and a model of ours to its JSON.

Read as open_clip 3.3 reads them, defaults included: exact GELU and norms with eps 1e-5 where `act_kwargs` and
`norm_kwargs` say nothing, which is why its CLIPA configurations give slightly other numbers than CLIPA's JAX code.
What our towers cannot do is refused with the name of the key.
"""

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prep.errors import UserError
from train.model import PIXEL_STATISTICS
from train.model_config import ModelConfig, TextConfig, VisionConfig

BERT = "bert-base-uncased"
_USE = "Choose a model of plain transformers, such as ViT-B-16 or ViT-L-14-CLIPA."
# Keys that decide nothing about the outputs of a model that is taken, or are read below.
_VISION_KEYS = (
    *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "no_ln_pre", "pos_embed_type"),
    *("final_ln_after_pool", "pool_type", "act_kwargs", "norm_kwargs", "patch_dropout"),
    *("attn_pooler_queries", "attn_pooler_heads"),
)
_TEXT_KEYS = (
    *("context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads", "layers", "mlp_ratio"),
    *("no_causal_mask", "pool_type", "act_kwargs", "norm_kwargs", "pad_id", "eos_id"),
)


def config_of(open_clip: Mapping[str, Any], place: str = "open_clip's configuration") -> ModelConfig:
    """Our model for a configuration of open_clip's: {embed_dim, vision_cfg, text_cfg}, or the JSON of a folder of its.

    The latter's preprocess_cfg decides `pixels`, which are OpenAI's without one. Raises `UserError` naming `place` and
    the key that our towers cannot follow.
    """
    model = open_clip.get("model_cfg", open_clip)
    if missing := [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model]:
        raise UserError(place, f"wanted a configuration of open_clip's, found no {', '.join(missing)}", _USE)

    def refuse(key: str, found: object) -> UserError:
        return UserError(f"{place}, {key}", f"our towers have nothing for {found!r}", _USE)

    plain = ("embed_dim", "vision_cfg", "text_cfg", "custom_text")
    for name, part, known in (
        ("", model, plain),
        ("vision_cfg.", model["vision_cfg"], _VISION_KEYS),
        ("text_cfg.", model["text_cfg"], _TEXT_KEYS),
    ):
        for key, value in part.items():
            if key not in known and value and not (key, value) == ("proj_type", "linear"):
                raise refuse(name + key, value)
    vision, text = _vision(model["vision_cfg"], refuse), _text(model["text_cfg"], refuse)
    return ModelConfig(model["embed_dim"], vision, text, pixels=_pixels(open_clip.get("preprocess_cfg", {}), refuse))


Refuse = Callable[[str, object], UserError]


def _vision(part: Mapping[str, Any], refuse: Refuse) -> VisionConfig:
    pool_type = part.get("pool_type", "tok")
    pool = {"tok": "class", "avg": "mean"}.get(pool_type)
    # A norm of every token before their mean is another function; before picking one of them it is the same.
    if pool is None or (pool == "mean" and not part.get("final_ln_after_pool")):
        raise refuse("vision_cfg.pool_type", f"{pool_type} without final_ln_after_pool")
    positions = {"learnable": "learned", "sin_cos_2d": "sincos-mae"}.get(part.get("pos_embed_type", "learnable"))
    if positions is None:
        raise refuse("vision_cfg.pos_embed_type", part["pos_embed_type"])
    layers, width = part.get("layers", 12), part.get("width", 768)
    if not isinstance(layers, int):
        raise refuse("vision_cfg.layers", layers)
    gelu, eps = _numerics(part, "vision_cfg", refuse)
    return VisionConfig(
        patch_size=part.get("patch_size", 16),
        width=width,
        depth=layers,
        num_heads=width // part.get("head_width", 64),
        mlp_ratio=part.get("mlp_ratio", 4.0),
        class_token=True,
        pre_norm=not part.get("no_ln_pre", False),
        pool=pool,
        gelu=gelu,
        norm_eps=eps,
        patch_bias=False,
        positions=positions,
        init="clip",
    )


def _text(part: Mapping[str, Any], refuse: Refuse) -> TextConfig:
    tokenizer_name, pool_type = part.get("hf_tokenizer_name") or "", part.get("pool_type", "argmax")
    pool = {"argmax": "end", "last": "last"}.get(pool_type)
    if pool is None:
        raise refuse("text_cfg.pool_type", pool_type)
    if tokenizer_name.rpartition("/")[2] not in ("", BERT):
        raise refuse("text_cfg.hf_tokenizer_name", tokenizer_name)
    tokenizer = "bert" if tokenizer_name else "clip"
    kwargs = part.get("tokenizer_kwargs") or {}
    if unknown := [key for key in kwargs if key not in ("strip_sep_token", "reduction_mask")]:
        raise refuse(f"text_cfg.tokenizer_kwargs.{unknown[0]}", kwargs[unknown[0]])
    gelu, eps = _numerics(part, "text_cfg", refuse)
    return TextConfig(
        width=part.get("width", 512),
        depth=part.get("layers", 12),
        num_heads=part.get("heads", 8),
        mlp_ratio=part.get("mlp_ratio", 4.0),
        tokenizer=tokenizer,
        vocabulary_size=part.get("vocab_size", 49408),
        causal=not part.get("no_causal_mask", False),
        pool=pool,
        gelu=gelu,
        norm_eps=eps,
        end_token=not (tokenizer == "bert" and kwargs.get("strip_sep_token", False)),
    )


def _numerics(part: Mapping[str, Any], name: str, refuse: Refuse) -> tuple[str, float]:
    act, norm = part.get("act_kwargs") or {}, part.get("norm_kwargs") or {}
    gelu = {"none": "exact", "tanh": "tanh"}.get(act.get("approximate", "none"))
    if gelu is None or set(act) - {"approximate"}:
        raise refuse(f"{name}.act_kwargs", act)
    if set(norm) - {"eps"}:
        raise refuse(f"{name}.norm_kwargs", norm)
    return gelu, float(norm.get("eps", 1e-5))


def _pixels(preprocess: Mapping[str, Any], refuse: Refuse) -> str:
    found = tuple(
        tuple(preprocess.get(key) or default) for key, default in zip(("mean", "std"), _openai(), strict=True)
    )
    for name, statistics in PIXEL_STATISTICS.items():
        if found == statistics:
            return name
    raise refuse("preprocess_cfg.mean", found)


def _openai() -> tuple[tuple[float, ...], tuple[float, ...]]:
    return PIXEL_STATISTICS["openai"]


def to_open_clip_config(config: ModelConfig, res: int, text_tokens: int) -> dict[str, Any]:
    """open_clip's JSON for a model of ours: {model_cfg, preprocess_cfg}. `config_of` reads it back.

    Raises `UserError` where open_clip has no such model, naming the property and what to use.
    """
    vision, text = config.vision, config.text
    remedy = "Use --to timm for its vision tower."
    for holds, key, problem in (
        (vision.class_token, "vision.class_token", "open_clip's own vision tower always has a class token"),
        (vision.pool != "mean_with_class", "vision.pool", "open_clip's mean leaves the class token out"),
        (text.tokenizer == "bert" or text.end_token, "text.end_token", "open_clip ends CLIP's tokens with one"),
    ):
        if not holds:
            raise UserError(f"model.{key}", f"open_clip cannot express it: {problem}", remedy)
    vision_cfg: dict[str, Any] = {
        "image_size": res,
        "layers": vision.depth,
        "width": vision.width,
        "head_width": vision.width // vision.num_heads,
        "mlp_ratio": vision.mlp_ratio,
        "patch_size": vision.patch_size,
        "no_ln_pre": not vision.pre_norm,
        "pool_type": "tok" if vision.pool == "class" else "avg",
        "final_ln_after_pool": vision.pool != "class",
    }
    text_cfg: dict[str, Any] = {
        "context_length": text_tokens,
        "vocab_size": text.vocabulary_size,
        "width": text.width,
        "heads": text.num_heads,
        "layers": text.depth,
        "mlp_ratio": text.mlp_ratio,
        "pool_type": "argmax" if text.pool == "end" else "last",
        "no_causal_mask": not text.causal,
    }
    for part, tower in ((vision_cfg, vision), (text_cfg, text)):
        part["norm_kwargs"] = {"eps": tower.norm_eps}
        if tower.gelu == "tanh":
            part["act_kwargs"] = {"approximate": "tanh"}
    if text.tokenizer == "bert":
        text_cfg |= {"hf_tokenizer_name": BERT, "tokenizer_kwargs": {"strip_sep_token": not text.end_token}}
    mean, std = PIXEL_STATISTICS[config.pixels]
    return {
        "model_cfg": {"embed_dim": config.embed_dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg},
        "preprocess_cfg": {"mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def shipped_config(name: str) -> dict[str, Any] | None:
    """A configuration that the package open_clip_torch brings, by its name; it is read, never imported."""
    package = find_spec("open_clip")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "model_configs" / f"{name}.json"
        if "/" not in name and path.is_file():
            value: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return value
    return None
