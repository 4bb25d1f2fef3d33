"""CLIP: a vision tower on timm, a lean text tower, and a temperature.

The towers are built for one token budget at a time; `set_budget` carries the weights over to another (CLIPA's hand-over
between stages: image positions are recomputed or resized, text positions interpolated).
"""

import math

import torch
from torch import nn
from torch.nn.functional import normalize

from pipelines.contract import TokenBudget
from prep.errors import UserError
from train.image_masks import kept_patches, mask_key
from train.model_config import ModelConfig
from train.text_tower import TextTower
from train.vision_tower import encode, make_vision_tower, set_positions

PIXEL_STATISTICS = {
    "openai": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation of pixels, RGB in 0-1: OpenAI CLIP's, and ImageNet's, which CLIPA's JAX code takes."""
INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
# SigLIP's (arXiv 2303.15343): a scale of 10 and this.
INITIAL_LOGIT_BIAS = -10.0
MAX_LOGIT_SCALE = math.log(100)


class CLIP(nn.Module):
    """Two towers that meet on a sphere. `budget` is what they are built for; `seed` decides its image masks."""

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, config: ModelConfig, budget: TokenBudget, image_positions: str = "fixed", seed: int = 0) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.vision = make_vision_tower(config.vision, config.embed_dim, budget.res)
        self.text = TextTower(config.text, config.embed_dim, budget.text_tokens)
        is_sigmoid = config.loss == "sigmoid"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10) if is_sigmoid else INITIAL_LOGIT_SCALE))
        self.logit_bias = nn.Parameter(torch.tensor(INITIAL_LOGIT_BIAS)) if is_sigmoid else None
        mean, std = PIXEL_STATISTICS[config.pixels]
        self.register_buffer("pixel_mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)
        if config.vision.positions != "learned":
            set_positions(self.vision, config.vision, budget.res, "fixed")
        self.set_budget(budget, image_positions)

    def set_budget(self, budget: TokenBudget, image_positions: str = "fixed") -> None:
        """Fit the towers to another budget in place. Parameters become new objects: make the optimizer afterwards.

        image_positions: "fixed" or "learned", as in `train.recipe.Stage`.
        """
        set_positions(self.vision, self.config.vision, budget.res, image_positions)
        self.text.set_length(budget.text_tokens)
        self.budget, self.mask_key = budget, mask_key(budget, self.seed)

    def encode_image(self, images: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """uint8 [B, 3, R, R] to unit vectors float [B, embed_dim]; pixels are normalised here, on the device.

        places: int64 [B], of each image in the run, counted in samples seen: the budget's image mask is drawn from
        them. None: all patches are seen, as in evaluation.
        """
        kept = None
        if places is not None and self.budget.image_mask != "none":
            kept = kept_patches(self.budget, self.config.vision.patch_size, self.mask_key, places)
        pixels = (images.float() - self.pixel_mean) / self.pixel_std
        return normalize(encode(self.vision, self.config.vision, pixels, kept), dim=-1)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [B, T] to unit vectors float [B, embed_dim]."""
        return normalize(self.text(tokens), dim=-1)

    def forward(
        self, images: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Image features, text features, the scale of the logits (a scalar), and for the sigmoid loss their bias."""
        scalars = (self.logit_scale.exp(),) if self.logit_bias is None else (self.logit_scale.exp(), self.logit_bias)
        return self.encode_image(images, places), self.encode_text(tokens), *scalars

    def freeze(self, frozen: tuple[str, ...]) -> None:
        """Train no parameter whose name begins with one of these. Raises `UserError` for one that begins no name."""
        names = [name for name, _ in self.named_parameters()]
        for start in frozen:
            if not any(name.startswith(start) for name in names):
                raise UserError("frozen", f"no part of the model is called {start!r}", f"Names: {', '.join(names)}.")
        for name, parameter in self.named_parameters():
            if name.startswith(frozen):
                parameter.requires_grad_(False)

    def set_checkpointing(self, enabled: bool) -> None:
        """Keep only the blocks' inputs for the backward pass, and compute the rest again."""
        self.vision.grad_checkpointing = self.text.grad_checkpointing = enabled

    def clamp_logit_scale(self) -> None:
        """Keep the scale in 1 ... 100, as CLIP does after every step; nothing for a model without bounds."""
        if self.config.clamp_logit_scale:
            with torch.no_grad():
                self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
