"""Raw texts as a model sees them: its tokenizer, its length, with or without an end of text."""

import numpy as np
import torch

from prep.tokenizer import load_tokenizer


def tokens_of(texts: list[str], text_tokens: int, tokenizer: str = "clip", end_token: bool = True) -> torch.Tensor:
    """Texts, cut after what fits, to int64 [N, text_tokens], zero padded.

    tokenizer, end_token: as in `train.model_config.TextConfig`. Raises `UserError` when the vocabulary is missing.
    """
    loaded = load_tokenizer(tokenizer)
    if end_token:
        return torch.from_numpy(loaded.tokenize(texts, text_tokens))
    rows = np.zeros((len(texts), text_tokens), np.int64)
    for row, text in zip(rows, texts, strict=True):
        ids = [loaded.start, *loaded.encode(text)][:text_tokens]
        row[: len(ids)] = ids
    return torch.from_numpy(rows)


def are_too_long(texts: list[str], text_tokens: int, tokenizer: str = "clip", end_token: bool = True) -> list[bool]:
    """Which texts `tokens_of` cuts."""
    loaded, room = load_tokenizer(tokenizer), text_tokens - 1 - end_token
    return [len(loaded.encode(text)) > room for text in texts]


def num_too_long(texts: list[str], text_tokens: int, tokenizer: str = "clip", end_token: bool = True) -> int:
    """How many texts `tokens_of` cuts."""
    return sum(are_too_long(texts, text_tokens, tokenizer, end_token))
