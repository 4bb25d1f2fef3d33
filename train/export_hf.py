"""A model of ours as a folder of transformers': `CLIPModel.from_pretrained("FOLDER")`, and `CLIPProcessor` beside it.

    config.json, model.safetensors      the model
    preprocessor_config.json            the preprocessing
    tokenizer.json and its neighbours   the tokenizer

CLIPModel is OpenAI's CLIP: a norm before the blocks, a pooled class token, causal text pooled at the end. That is
v1's S and B. Its tokenizer does not mend broken text or entities (`&amp;`) as ours does, and pads with the end of text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize

from prep.errors import UserError
from train.certificate import Loaded
from train.checkpoint import LoadedModel
from train.model import PIXEL_STATISTICS
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.open_clip_weights import Tensors

INSTALL = "pip install open_clip_torch==3.3.0 transformers==5.24.0"
_GELUS = {"exact": "gelu", "tanh": "gelu_pytorch_tanh"}
_ENDS = ("<|startoftext|>", "<|endoftext|>")


def check(ours: LoadedModel) -> None:
    """Raise `UserError` when CLIPModel cannot express the model, or a library is missing."""
    config = ours.recipe.model
    vision, text = config.vision, config.text
    instead = "--to timm for its vision tower"
    if vision.class_token and vision.pool != "mean_with_class":
        instead = f"--to open_clip for both towers, or {instead}"
    for holds, key, problem in (
        (vision.class_token and vision.pool == "class", "vision.pool", "it pools a class token"),
        (vision.pre_norm, "vision.pre_norm", "it has a norm before the blocks"),
        (text.tokenizer == "clip" and text.end_token, "text.tokenizer", "it reads CLIP's tokens and their end"),
        (text.causal, "text.causal", "its text tower is causal"),
        (text.pool == "end", "text.pool", "it pools the text at its end"),
    ):
        if not holds:
            raise UserError(f"model.{key}", f"CLIPModel cannot express it: {problem}", f"Use {instead}.")
    try:
        import open_clip  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError("--to hf", f"wanted the library to write with: {error}", INSTALL) from error


def _sizes(tower: VisionConfig | TextConfig) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": int(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.depth,
        "num_attention_heads": tower.num_heads,
        "hidden_act": _GELUS[tower.gelu],
        "layer_norm_eps": tower.norm_eps,
    }


def _named(state: Tensors, config: ModelConfig) -> Tensors:
    """The state under CLIPModel's names; a patch bias becomes part of the patches' positions."""
    tensors = {
        "logit_scale": state["logit_scale"],
        "vision_model.embeddings.class_embedding": state["vision.cls_token"].flatten(),
        "vision_model.embeddings.patch_embedding.weight": state["vision.patch_embed.proj.weight"],
        "vision_model.embeddings.position_embedding.weight": state["vision.pos_embed"][0].clone(),
        "visual_projection.weight": state["vision.head.weight"],
        "text_model.embeddings.token_embedding.weight": state["text.token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["text.positions"],
        "text_projection.weight": state["text.head.weight"],
    }
    if config.vision.patch_bias:
        tensors["vision_model.embeddings.position_embedding.weight"][1:] += state["vision.patch_embed.proj.bias"]
    for part in ("weight", "bias"):
        tensors[f"vision_model.pre_layrnorm.{part}"] = state[f"vision.norm_pre.{part}"]
        tensors[f"vision_model.post_layernorm.{part}"] = state[f"vision.norm.{part}"]
        tensors[f"text_model.final_layer_norm.{part}"] = state[f"text.norm.{part}"]
        for tower, depth in (("vision", config.vision.depth), ("text", config.text.depth)):
            attn, mlp = ("attn.", "mlp.") if tower == "vision" else ("", "")
            for number in range(depth):
                ours, theirs = f"{tower}.blocks.{number}.", f"{tower}_model.encoder.layers.{number}."
                qkv = state[f"{ours}{attn}qkv.{part}"].chunk(3)
                for name, value in zip("qkv", qkv, strict=True):
                    tensors[f"{theirs}self_attn.{name}_proj.{part}"] = value
                tensors[f"{theirs}self_attn.out_proj.{part}"] = state[f"{ours}{attn}proj.{part}"]
                for norm in ("1", "2"):
                    tensors[f"{theirs}layer_norm{norm}.{part}"] = state[f"{ours}norm{norm}.{part}"]
                    tensors[f"{theirs}mlp.fc{norm}.{part}"] = state[f"{ours}{mlp}fc{norm}.{part}"]
    return tensors


def write(ours: LoadedModel, folder: Path) -> None:
    """Write the folder's files."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
    from transformers.utils import logging

    messages: Any = logging
    messages.disable_progress_bar()
    config, res, length = ours.recipe.model, ours.budget.res, ours.budget.text_tokens
    vision = {"image_size": res, "patch_size": config.vision.patch_size}
    # 49407 twice: padding is never looked at, and CLIP's tokenizer has no id of its own for it.
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    text = {"vocab_size": config.text.vocabulary_size, "max_position_embeddings": length, **ends}
    model = CLIPModel(
        CLIPConfig(
            projection_dim=config.embed_dim,
            vision_config=_sizes(config.vision) | vision | {"projection_dim": config.embed_dim},
            text_config=_sizes(config.text) | text | {"projection_dim": config.embed_dim},
        )
    )
    model.load_state_dict(_named(ours.model.state_dict(), config))
    model.save_pretrained(folder)
    mean, std = PIXEL_STATISTICS[config.pixels]
    CLIPImageProcessor(
        size={"shortest_edge": res}, crop_size={"height": res, "width": res}, image_mean=mean, image_std=std
    ).save_pretrained(folder)
    _write_tokenizer(folder, length)


def _write_tokenizer(folder: Path, text_tokens: int) -> None:
    from open_clip import SimpleTokenizer
    from transformers import CLIPTokenizer

    theirs = SimpleTokenizer()
    entries = [*list(theirs.encoder)[:-2], *_ENDS]
    vocabulary = {entry: id_ for id_, entry in enumerate(entries)}
    merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.__getitem__)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=text_tokens).save_pretrained(folder)


def load(folder: Path) -> Loaded:
    """Load the folder with transformers' ordinary calls."""
    from transformers import CLIPModel, CLIPProcessor

    model: Any = CLIPModel.from_pretrained(folder)
    model.eval()
    processor = CLIPProcessor.from_pretrained(folder)

    def encode_image(pictures: Sequence[Image.Image]) -> torch.Tensor:
        pixels = processor(images=list(pictures), return_tensors="pt").pixel_values
        return normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)

    def tokenize(texts: list[str]) -> torch.Tensor:
        tokens: torch.Tensor = processor(
            text=texts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return tokens

    def encode_text(tokens: torch.Tensor) -> torch.Tensor:
        return normalize(model.get_text_features(input_ids=tokens).pooler_output, dim=-1)

    call = "transformers.CLIPModel.from_pretrained('FOLDER'), transformers.CLIPProcessor.from_pretrained('FOLDER')"
    return Loaded(call, encode_image, tokenize, encode_text, model.logit_scale.exp().item())
