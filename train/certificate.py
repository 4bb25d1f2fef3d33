"""The certificate of an export: what the other library makes of a fixed batch, beside what we make of it.

Images are drawn from a seed at the model's own res, and go through the exported preprocessing; texts are drawn from a
seed, and go through the exported tokenizer. Where the two differ by more than `TOLERANCE`, or a text that fits has
other ids, there is no export. Reported beside it, without a limit:

    resized_image_features    of squares twice as large, where resizers round to other bytes
    cropped_image_features    of pictures that are no squares: ours are cropped at whole pixels before they are resized,
                              torchvision's at whole pixels afterwards
    ..._with_other_ids        texts too long (open_clip leaves a place for BERT's [SEP] and then blanks it, so such a
                              text keeps one piece fewer than in CLIPA's JAX code), and odd ones, cleaned otherwise
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.pixels import central_boxes, cut
from prep.errors import UserError
from prep.tokenizer import load_tokenizer
from train.checkpoint import LoadedModel
from train.model_config import TextConfig
from train.text_tokens import tokens_of

TOLERANCE = 1e-4
NUM_IMAGES = 4
_VERSIONS = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "tokenizers", "numpy", "pillow")
_WORDS = (
    *("dog", "cat", "red", "blue", "house", "tree", "two", "small", "running", "sitting", "photo", "of", "a", "the"),
    *("on", "with", "skateboarding", "watermelon", "umbrella", "old", "street", "sign", "mountain", "sunset"),
)
_ODD = (
    *("", "  A  CAFÉ,\nopen 24/7 ", "fish &amp; chips", "naïve façade", "don't (stop)!!", "犬 と 猫", "Straße № 5"),
    *("emoji \U0001f600 here", "the <b>tag</b>", "ﬁne print", "hello\u200bworld", "it’s ‘quoted’"),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as another library loaded it from the folder, with its own preprocessing and tokenizer.

    call: how, as a user writes it. encode_image: PIL images to unit vectors float [B, D]. tokenize: texts to int64
    [B, T]; encode_text: such tokens to unit vectors. These two are None, and so is logit_scale, for a vision tower.
    """

    call: str
    encode_image: Callable[[Sequence[Image.Image]], torch.Tensor]
    tokenize: Callable[[list[str]], torch.Tensor] | None = None
    encode_text: Callable[[torch.Tensor], torch.Tensor] | None = None
    logit_scale: float | None = None


def _fitting(text: TextConfig, text_tokens: int) -> tuple[list[str], list[str]]:
    """Texts of one to many words: those that fit with a start and an end, which all agree on, and those that do not."""
    generator = np.random.default_rng(0)
    texts = [*_WORDS[:4], *(" ".join(generator.choice(_WORDS, num)) for num in range(2, 40, 2))]
    tokenizer = load_tokenizer(text.tokenizer)
    fits = [len(tokenizer.encode(line)) <= text_tokens - 2 for line in texts]
    return [t for t, f in zip(texts, fits, strict=True) if f], [t for t, f in zip(texts, fits, strict=True) if not f]


def images_of(width: int, height: int, num: int = NUM_IMAGES) -> list[Image.Image]:
    """Seeded pictures: soft blobs of colour under some noise, as photographs have it rather than noise alone."""
    generator = np.random.default_rng(width * 10_000 + height)
    pictures = []
    for _ in range(num):
        soft = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(soft, np.int64) + generator.integers(-20, 21, (height, width, 3))
        pictures.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return pictures


def _ours(ours: LoadedModel, pictures: Sequence[Image.Image]) -> torch.Tensor:
    res = ours.budget.res
    boxes = central_boxes(*(np.array(side) for side in zip(*(p.size for p in pictures), strict=True)))
    cuts = [cut(np.array(picture), box, res) for picture, box in zip(pictures, boxes, strict=True)]
    return ours.model.encode_image(torch.stack(cuts))


def _until_end(tokens: torch.Tensor, text: TextConfig) -> torch.Tensor:
    """Without what stands after the end of text, where a causal tower that pools there never looks."""
    if text.pool != "end" or not text.causal:
        return tokens
    after = torch.arange(tokens.shape[1]) > tokens.argmax(dim=1, keepdim=True)
    return tokens.masked_fill(after, 0)


def _num_other(ours: LoadedModel, theirs: Loaded, texts: list[str]) -> int:
    assert theirs.tokenize is not None
    text, length = ours.recipe.model.text, ours.budget.text_tokens
    wanted, found = tokens_of(texts, length, text.tokenizer, text.end_token), theirs.tokenize(texts)
    return int((_until_end(found, text) != _until_end(wanted, text)).any(dim=1).sum())


@torch.inference_mode()
def certify(ours: LoadedModel, theirs: Loaded) -> dict[str, Any]:
    """What `certificate.json` holds: the differences, the versions, the call.

    Raises `UserError` where a difference is above `TOLERANCE` or not a number, or a text that fits has other ids.
    """
    res, text, length = ours.budget.res, ours.recipe.model.text, ours.budget.text_tokens
    pictures = images_of(res, res)
    wanted, found = _ours(ours, pictures), theirs.encode_image(pictures)
    worst = {"image_features": _max_difference(wanted, found)}
    told: dict[str, Any] = {"num_images": len(pictures)}
    for what, width, height in (("resized", 2 * res, 2 * res), ("cropped", 3 * res // 2, 2 * res)):
        other = images_of(width, height)
        told[f"{what}_image_features"] = _max_difference(_ours(ours, other), theirs.encode_image(other))
    if theirs.tokenize and theirs.encode_text and theirs.logit_scale is not None:
        fitting, longer = _fitting(text, length)
        if num := _num_other(ours, theirs, fitting):
            problem = f"{num} of {len(fitting)} texts have other token ids there"
            raise UserError("tokenizer", problem, "Nothing was exported: report the versions of the libraries.")
        their_text = theirs.encode_text(theirs.tokenize(fitting))
        our_text = ours.model.encode_text(tokens_of(fitting, length, text.tokenizer, text.end_token))
        worst["text_features"] = _max_difference(our_text, their_text)
        scale = ours.model.logit_scale.exp()
        worst["logits"] = _max_difference(scale * wanted @ our_text.T, theirs.logit_scale * found @ their_text.T)
        told |= {
            "num_texts": len(fitting),
            "num_longer_texts": len(longer),
            "num_longer_texts_with_other_ids": _num_other(ours, theirs, longer) if longer else 0,
            "num_odd_texts": len(_ODD),
            "num_odd_texts_with_other_ids": _num_other(ours, theirs, list(_ODD)),
        }
    for what, difference in worst.items():
        if not difference <= TOLERANCE:
            problem = f"the exported model's differ by {difference:.3g}, more than {TOLERANCE:g}"
            raise UserError(what, problem, "Nothing was exported: report the versions of the libraries.")
    return {
        "max_difference": worst,
        "tolerance": TOLERANCE,
        "call": theirs.call,
        "samples_seen": ours.samples_seen,
        "recipe": ours.recipe.name,
        "model": asdict(ours.recipe.model),
        "budget": asdict(ours.budget),
        "versions": _versions(),
        **told,
    }


def _max_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
