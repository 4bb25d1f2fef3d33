"""A vision tower of ours as a folder of timm's: `timm.create_model("local-dir:FOLDER", pretrained=True)`.

    config.json          a registered architecture, what of it is another here, and the preprocessing
    model.safetensors    the weights

The model's output is the projected image feature, not normalised; `num_classes=0` gives the feature before it. Its head
has a bias, here zero, and so has a patch embedding without a norm after it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save as serialise
from torch.nn.functional import normalize

from prep.errors import UserError
from prep.files import write_json, written_aside
from train.certificate import Loaded
from train.checkpoint import LoadedModel
from train.model import PIXEL_STATISTICS
from train.model_config import VisionConfig

# Registered architectures that differ in the norms' epsilon; everything else is said beside them.
_ARCHITECTURES = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
_GELUS = {"exact": "gelu", "tanh": "gelu_tanh"}


def check(ours: LoadedModel) -> None:
    """Raise `UserError` when timm cannot take the vision tower."""
    eps = ours.recipe.model.vision.norm_eps
    if eps not in _ARCHITECTURES:
        known = " or ".join(f"{value:g}" for value in _ARCHITECTURES)
        problem = f"no architecture of timm's has {eps:g}, wanted {known}"
        raise UserError("model.vision.norm_eps", problem, "Use --to open_clip.")


def _model_args(vision: VisionConfig, res: int) -> dict[str, Any]:
    return {
        "img_size": res,
        "patch_size": vision.patch_size,
        "embed_dim": vision.width,
        "depth": vision.depth,
        "num_heads": vision.num_heads,
        "mlp_ratio": vision.mlp_ratio,
        "class_token": vision.class_token,
        "global_pool": "token" if vision.pool == "class" else "avg",
        "pool_include_prefix": vision.pool == "mean_with_class",
        "pre_norm": vision.pre_norm,
        "act_layer": _GELUS[vision.gelu],
    }


def write(ours: LoadedModel, folder: Path) -> None:
    """Write the folder's files."""
    config, res = ours.recipe.model, ours.budget.res
    vision = config.vision
    state = {name: value.detach().clone() for name, value in ours.model.vision.state_dict().items()}
    state["head.bias"] = torch.zeros(config.embed_dim)
    if vision.pre_norm:  # timm's has no patch bias then: it becomes part of the patches' positions
        if vision.patch_bias:
            state["pos_embed"][:, int(vision.class_token) :] += state.pop("patch_embed.proj.bias")
    elif not vision.patch_bias:
        state["patch_embed.proj.bias"] = torch.zeros(vision.width)
    with written_aside(folder / "model.safetensors") as file:
        file.write(serialise({name: value.contiguous() for name, value in state.items()}))
    mean, std = PIXEL_STATISTICS[config.pixels]
    pixels = {
        "input_size": [3, res, res],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": mean,
        "std": std,
        "num_classes": config.embed_dim,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    write_json(
        folder / "config.json",
        {
            "architecture": _ARCHITECTURES[vision.norm_eps],
            "num_classes": config.embed_dim,
            "num_features": vision.width,
            "global_pool": "token" if vision.pool == "class" else "avg",
            "model_args": _model_args(vision, res),
            "pretrained_cfg": pixels,
        },
    )


def load(folder: Path) -> Loaded:
    """Load the folder with timm's ordinary calls."""
    import timm.data

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    data: Any = timm.data
    preprocess = data.create_transform(**data.resolve_model_data_config(model), is_training=False)

    def encode_image(pictures: Sequence[Image.Image]) -> torch.Tensor:
        return normalize(model(torch.stack([preprocess(picture) for picture in pictures])), dim=-1)

    return Loaded("timm.create_model('local-dir:FOLDER', pretrained=True)", encode_image)
