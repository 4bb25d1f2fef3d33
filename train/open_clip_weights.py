"""open_clip's weights and ours, both ways: the names of the tensors, how they lie, and the files they come in.

CLIPA published its models in open_clip's layout: v1 by its fork of open_clip, v2 as `open_clip_pytorch_model.bin`. A
tensor there is named like ours in other words; projections are transposed, and the class token and the positions have
fewer dimensions.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from pipelines.contract import TokenBudget
from prep.errors import UserError
from train.model import CLIP
from train.model_config import ModelConfig

Tensors = dict[str, torch.Tensor]

_BLOCK = (
    ("norm1.weight", "ln_1.weight"),
    ("norm1.bias", "ln_1.bias"),
    ("qkv.weight", "attn.in_proj_weight"),
    ("qkv.bias", "attn.in_proj_bias"),
    ("proj.weight", "attn.out_proj.weight"),
    ("proj.bias", "attn.out_proj.bias"),
    ("norm2.weight", "ln_2.weight"),
    ("norm2.bias", "ln_2.bias"),
    ("fc1.weight", "mlp.c_fc.weight"),
    ("fc1.bias", "mlp.c_fc.bias"),
    ("fc2.weight", "mlp.c_proj.weight"),
    ("fc2.bias", "mlp.c_proj.bias"),
)
_IN_TIMM = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
_TRANSPOSED = ("visual.proj", "text_projection")
# What wrappers put before a name, and what older files hold besides parameters.
_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")
_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final", "attn_mask")
_PASSED_OVER = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def _names(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Pairs of names, ours and open_clip's, in the layout of its plain CLIP (no `text.` before a name)."""
    last = "norm" if config.vision.pool == "class" else "fc_norm"
    yield "logit_scale", "logit_scale"
    yield "vision.patch_embed.proj.weight", "visual.conv1.weight"
    yield "vision.cls_token", "visual.class_embedding"
    yield "vision.pos_embed", "visual.positional_embedding"
    norms = [(f"vision.{last}", "visual.ln_post"), ("text.norm", "ln_final")]
    if config.vision.pre_norm:
        norms.append(("vision.norm_pre", "visual.ln_pre"))
    for ours, theirs in norms:
        for part in ("weight", "bias"):
            yield f"{ours}.{part}", f"{theirs}.{part}"
    yield "vision.head.weight", "visual.proj"
    yield "text.token_embedding.weight", "token_embedding.weight"
    yield "text.positions", "positional_embedding"
    yield "text.head.weight", "text_projection"
    for tower, depth, theirs in (("vision", config.vision.depth, "visual."), ("text", config.text.depth, "")):
        for block in range(depth):
            for short, name in _BLOCK:
                module, _, part = short.partition(".")
                module = _IN_TIMM.get(module, module) if tower == "vision" else module
                yield f"{tower}.blocks.{block}.{module}.{part}", f"{theirs}transformer.resblocks.{block}.{name}"


def to_open_clip(state: Mapping[str, torch.Tensor], config: ModelConfig) -> Tensors:
    """A state of ours under open_clip's names; a patch bias becomes part of the patches' positions, where it adds up.

    The model must be one that `train.open_clip_config.to_open_clip_config` takes.
    """
    tensors: Tensors = {}
    for ours, theirs in _names(config):
        value = state[ours].detach()
        if theirs in _TRANSPOSED:
            value = value.T
        elif theirs in ("visual.class_embedding", "visual.positional_embedding"):
            value = value.flatten(0, -2).squeeze(0)
        tensors[theirs] = value.clone(memory_format=torch.contiguous_format)
    if config.vision.patch_bias:
        tensors["visual.positional_embedding"][1:] += state["vision.patch_embed.proj.bias"]
    return tensors


def from_open_clip(tensors: Mapping[str, torch.Tensor], config: ModelConfig, place: str) -> Tensors:
    """open_clip's tensors under our names, in float32, of whatever res and text tokens they were trained at.

    Raises `UserError` naming `place` and the tensor: one is missing, or there is one too many.
    """
    remedy = "Choose the model that the weights are of."
    tensors = dict(tensors)
    state: Tensors = {}
    for ours, theirs in _names(config):
        if theirs not in tensors:
            raise UserError(f"{place}, {theirs}", "wanted this tensor, found none of that name", remedy)
        value = tensors.pop(theirs).detach().float()
        if theirs == "logit_scale":
            value = value.reshape(())
        elif theirs in _TRANSPOSED:
            value = value.T
        elif theirs == "visual.class_embedding":
            value = value.reshape(1, 1, -1)
        elif theirs == "visual.positional_embedding":
            value = value.reshape(1, *value.shape[-2:])
        state[ours] = value.contiguous()
    if config.vision.patch_bias:
        state["vision.patch_embed.proj.bias"] = torch.zeros(config.vision.width)
    if tensors:
        name, value = next(iter(tensors.items()))
        problem = f"the model has no such tensor; found one of shape {list(value.shape)}"
        raise UserError(f"{place}, {name}", problem, remedy)
    return state


def own_budget(state: Mapping[str, torch.Tensor], config: ModelConfig, place: str) -> TokenBudget:
    """What weights under our names were trained at. Raises `UserError` when the positions are of no square grid."""
    num_patches = state["vision.pos_embed"].shape[1] - config.vision.class_token
    grid = round(max(0, num_patches) ** 0.5)
    if grid < 1 or grid * grid != num_patches:
        problem = f"wanted positions of a square grid and a class token, found {num_patches} patches"
        raise UserError(f"{place}, visual.positional_embedding", problem, "These weights cannot be read.")
    return TokenBudget(grid * config.vision.patch_size, state["text.positions"].shape[0])


def load_into(model: CLIP, state: Mapping[str, torch.Tensor], place: str) -> None:
    """Load weights under our names. Raises `UserError` naming a tensor whose shape is another, wanted and found."""
    theirs = dict(_names(model.config))
    for ours, wanted in model.state_dict().items():
        if state[ours].shape != wanted.shape:
            # In the layout of the file, where a projection lies the other way round.
            order = -1 if theirs.get(ours) in _TRANSPOSED else 1
            shapes = [list(tensor.shape)[::order] for tensor in (wanted, state[ours])]
            problem = f"wanted the shape {shapes[0]}, found {shapes[1]}"
            raise UserError(f"{place}, {theirs.get(ours, ours)}", problem, "Choose the model that the weights are of.")
    model.load_state_dict(dict(state))


def read_open_clip(path: Path) -> Tensors:
    """The tensors of a checkpoint in the layout of open_clip's plain CLIP: .safetensors, or .pt, .pth, .bin of torch.

    Taken off: the `state_dict` of a training checkpoint, `module.` of distributed training, `text.` of CustomTextCLIP.
    Nothing in the file is executed. Raises `UserError` when it is no such file.
    """
    remedy = "Give open_clip's weights: .safetensors, or a .pt or .bin that holds tensors only."
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}", remedy) from error
    except Exception as error:  # a damaged pickle raises anything
        told = " ".join((str(error) or type(error).__name__).split("\n")[0].split())
        raise UserError(str(path), f"wanted tensors, but: {told}", remedy) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(str(path), "wanted named tensors, found something else", remedy)
    tensors = {_plain(str(name)): value for name, value in found.items()}
    return {name: value for name, value in tensors.items() if name not in _PASSED_OVER}


def _plain(name: str) -> str:
    name = _PREFIX.sub("", name)
    inner = name.removeprefix("text.")
    return inner if inner.startswith(_TEXT) else name
