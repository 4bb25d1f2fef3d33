"""A model of ours as a folder of open_clip's: `open_clip.create_model_from_pretrained("local-dir:FOLDER")`.

open_clip_config.json          the model and its preprocessing
open_clip_model.safetensors    the weights
vocab.txt, tokenizer_config.json, tokenizer.json      BERT's tokenizer, for models that read its ids
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save as serialise
from torch.nn.functional import normalize

from prep.bert_tokenizer import load_bert_tokenizer
from prep.errors import UserError
from prep.files import write_json, written_aside
from train.certificate import Loaded
from train.checkpoint import LoadedModel
from train.open_clip_config import to_open_clip_config
from train.open_clip_weights import to_open_clip

CONFIG_FILE = "open_clip_config.json"


def check(ours: LoadedModel) -> None:
    """Raise `UserError` when open_clip, or what it needs, cannot take the model."""
    to_open_clip_config(ours.recipe.model, ours.budget.res, ours.budget.text_tokens)
    try:
        import open_clip  # noqa: F401

        if ours.recipe.model.text.tokenizer == "bert":
            import transformers  # noqa: F401
    except ImportError as error:
        install = "pip install open_clip_torch==3.3.0 transformers==5.24.0"
        raise UserError("--to open_clip", f"wanted the library to check with: {error}", install) from error


def write(ours: LoadedModel, folder: Path) -> None:
    """Write the folder's files."""
    config = ours.recipe.model
    write_json(folder / CONFIG_FILE, to_open_clip_config(config, ours.budget.res, ours.budget.text_tokens))
    with written_aside(folder / "open_clip_model.safetensors") as file:
        file.write(serialise(to_open_clip(ours.model.state_dict(), config)))
    if config.text.tokenizer == "bert":
        _write_bert(folder, ours.budget.text_tokens)


def _write_bert(folder: Path, text_tokens: int) -> None:
    from transformers import BertTokenizer

    entries = load_bert_tokenizer().entries
    vocabulary = {entry: id_ for id_, entry in enumerate(entries)}
    BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=text_tokens).save_pretrained(folder)
    with written_aside(folder / "vocab.txt") as file:
        file.write("".join(f"{entry}\n" for entry in entries).encode())


def load(folder: Path) -> Loaded:
    """Load the folder with open_clip's ordinary calls."""
    import open_clip

    name = f"local-dir:{folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()

    def encode_image(pictures: Sequence[Image.Image]) -> torch.Tensor:
        return normalize(model.encode_image(torch.stack([preprocess(picture) for picture in pictures])), dim=-1)

    def tokenize(texts: list[str]) -> torch.Tensor:
        tokens: torch.Tensor = tokenizer(texts)
        return tokens

    def encode_text(tokens: torch.Tensor) -> torch.Tensor:
        return normalize(model.encode_text(tokens), dim=-1)

    call = "open_clip.create_model_from_pretrained('local-dir:FOLDER'), open_clip.get_tokenizer('local-dir:FOLDER')"
    return Loaded(call, encode_image, tokenize, encode_text, model.logit_scale.exp().item())
