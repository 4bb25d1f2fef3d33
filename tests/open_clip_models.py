"""open_clip's models made small, and ours with the same random weights: what the tests of parity stand on."""

import copy
import json
from pathlib import Path
from typing import Any

import torch

from train.model import CLIP, PIXEL_STATISTICS
from train.open_clip_config import config_of, shipped_config
from train.open_clip_weights import from_open_clip, load_into, own_budget

SMALL_PATCHES = 4
TOLERANCE = 1e-4


def reduced(name: str) -> dict[str, Any]:
    """A shipped configuration with two layers a tower and narrow widths; all that makes it what it is stays."""
    model = shipped_config(name)
    assert model is not None
    model = copy.deepcopy(model)
    vision, text = model["vision_cfg"], model["text_cfg"]
    # Heads keep an odd width where the original's is odd: 80 of 1280, 104 of 1664.
    head_width = {80: 20, 104: 28}.get(vision.get("head_width", 64), 16)
    vision |= {"layers": 2, "head_width": head_width, "width": 4 * head_width}
    vision["image_size"] = vision["patch_size"] * (SMALL_PATCHES + 2 * (vision["image_size"] == 336))
    text |= {"layers": 2, "width": 48, "heads": 3}
    return {**model, "embed_dim": 32}


def with_numerics(model: dict[str, Any], gelu: str, eps: float) -> dict[str, Any]:
    extra = {"act_kwargs": {"approximate": gelu}, "norm_kwargs": {"eps": eps}}
    return {**model, **{key: {**model[key], **extra} for key in ("vision_cfg", "text_cfg")}}


def their_model(model: dict[str, Any], seed: int = 0) -> Any:
    """open_clip's model with weights that leave nothing at its neutral value."""
    from open_clip.model import CLIP as Theirs

    torch.manual_seed(seed)
    theirs = Theirs(**{key: value for key, value in model.items() if key != "custom_text"}).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return theirs


def our_model(model: dict[str, Any], theirs: Any) -> CLIP:
    config = config_of(model)
    state = from_open_clip(theirs.state_dict(), config, "test")
    ours = CLIP(config, own_budget(state, config, "test"), "learned").eval()
    load_into(ours, state, "test")
    return ours


def batch(ours: CLIP, num: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    res, length, text = ours.budget.res, ours.budget.text_tokens, ours.config.text
    images = torch.randint(0, 256, (num, 3, res, res), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 30000, (num, length), generator=generator)
    if text.tokenizer == "clip":
        tokens[:, 0] = 49406
        for row, end in enumerate(range(2, 2 + num)):
            tokens[row, end], tokens[row, end + 1 :] = 49407, 0
    else:
        tokens[:, 0], tokens[:, length // 2 :] = 101, 0
    return images, tokens


@torch.no_grad()
def assert_same(ours: CLIP, theirs: Any, images: torch.Tensor, tokens: torch.Tensor) -> None:
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in PIXEL_STATISTICS[ours.config.pixels])
    wanted = theirs((images / 255 - mean) / std, tokens)
    found = ours(images, tokens)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        found[2] * found[0] @ found[1].T, wanted[2] * wanted[0] @ wanted[1].T, atol=TOLERANCE, rtol=0
    )


def write_config(folder: Path, model: dict[str, Any]) -> str:
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return str(path)
