"""From an image of any size to the square that a model sees, as the published evaluations make it.

`centre` (CLIP's, and CLIPA v1's): the short side becomes the res, bicubic, and the middle is cut out. `square` (CLIPA
v2's): both sides become the res, bilinear; nothing is cut and shapes are squashed. Both antialias, on 8-bit pixels, as
open_clip's transforms do through torchvision and Pillow: no level differs from theirs by more than one (of bicubic ones
two in a million by two), but for images more than twice as tall as wide, of which Pillow 13 resizes the columns first.
What comes before is not theirs: images are decoded as for a store (`prep.images`), upright by their EXIF orientation,
transparency on white, 16 bits scaled, where open_clip leaves them to Pillow's convert("RGB"), which does none of these.
Normalisation is the model's own (`train.model.CLIP.encode_image`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from prep.errors import UserError
from train.model_config import ModelConfig

KINDS = ("centre", "square")
_MAX_ASPECT = 16


@dataclass(frozen=True, slots=True)
class Preprocess:
    """res: the side in pixels. kind: one of KINDS."""

    res: int
    kind: str = "centre"

    def apply(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """RGB pixels uint8 [H, W, 3] to uint8 [3, res, res]."""
        if self.kind == "square":
            return interpolate(_tensor(pixels), (self.res, self.res), mode="bilinear", antialias=True)[0]
        pixels = _middle(pixels)
        # torchvision's rounding: Resize truncates the long side, CenterCrop rounds half to even.
        height, width = (int(self.res * side / min(pixels.shape[:2])) for side in pixels.shape[:2])
        top, left = round((height - self.res) / 2), round((width - self.res) / 2)
        image = _tensor(pixels)
        if (height, width) != pixels.shape[:2]:
            image = interpolate(image, (height, width), mode="bicubic", antialias=True)
        return image[0, :, top : top + self.res, left : left + self.res].contiguous()


def _tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    # torch's fast path wants channels last, and memory that it may write to.
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, without the ends of one so long that all of it at the res would be many times what is cut out."""
    room = _MAX_ASPECT * min(pixels.shape[:2])
    top, left = (max(0, (side - room) // 2) for side in pixels.shape[:2])
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]


def kind_of(model: ModelConfig) -> str:
    """What the published evaluation of such a model does: CLIPA's v2 models, known by ImageNet's pixels, squash."""
    return "square" if model.pixels == "imagenet" else "centre"


def check_kind(kind: str | None) -> None:
    """Raise `UserError` for a kind that is none of KINDS; None, the model's own, is fine."""
    if kind not in (None, *KINDS):
        problem = f"wanted one of {', '.join(KINDS)}, found {kind!r}"
        raise UserError("--preprocess", problem, "Leave it out for what the model was published with.")


def thumbnail(pixels: NDArray[np.uint8], side: int = 180) -> NDArray[np.uint8]:
    """The central square as uint8 [side, side, 3], for a picture."""
    square: NDArray[np.uint8] = Preprocess(side).apply(pixels).permute(1, 2, 0).numpy()
    return square
