"""Class names as a model is asked for them: prompts, their tokens, and one embedding a class.

A class is described by the mean of its prompts' unit embeddings, scaled to unit length again (clip's protocol, which
CLIPA follows). A prompt that is longer than the model's text tokens loses its end; where the class's name itself is
lost with it, the prompt asks for something else, and that is told apart and named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from eval.retrieval import Encoder, check_finite
from eval.templates import Templates
from train.text_tokens import are_too_long, num_too_long, tokens_of

_AT_A_TIME = 1024


@dataclass(frozen=True, slots=True)
class CutPrompts:
    """num: prompts that lost their end. num_names: of these, those that lost the class's name or a part of it.

    classes: the names that were cut in any prompt, in the order of the classes.
    """

    num: int
    num_names: int
    classes: tuple[str, ...]


def prompt_tokens(
    prompts: list[str], text_tokens: int, tokenizer: str = "clip", end_token: bool = True
) -> tuple[Tensor, int]:
    """Token ids int64 [P, text_tokens] and how many of the prompts had to be cut; see `train.text_tokens`."""
    of_model = text_tokens, tokenizer, end_token
    return tokens_of(prompts, *of_model), num_too_long(prompts, *of_model)


def class_embeddings(
    model: Encoder,
    class_names: Sequence[str],
    templates: Sequence[str],
    text_tokens: int,
    device: str = "cpu",
    tokenizer: str = "clip",
    end_token: bool = True,
) -> tuple[Tensor, int]:
    """Unit vectors float [C, D], one a class, and the number of prompts that `text_tokens` cut.

    templates: `Templates`, or plain sentences. Each prompt's embedding is normalised, a class's are averaged, the
    average normalised (clip's prompt ensemble).
    """
    sentences = _templates(templates)
    prompts = [prompt for name in class_names for prompt in sentences.prompts(name)]
    tokens, num_cut = prompt_tokens(prompts, text_tokens, tokenizer, end_token)
    parts = [model.encode_text(part.to(device)).float() for part in tokens.split(_AT_A_TIME)]
    embeddings = normalize(check_finite(torch.cat(parts), "prompts"), dim=-1)
    return normalize(embeddings.unflatten(0, (len(class_names), len(sentences))).mean(dim=1), dim=-1), num_cut


def cut_prompts(
    class_names: Sequence[str],
    templates: Sequence[str],
    text_tokens: int,
    tokenizer: str = "clip",
    end_token: bool = True,
) -> CutPrompts:
    """Which prompts `text_tokens` cuts, and where the class's name is cut with them."""
    sentences = _templates(templates)
    # As far as the end of the name.
    heads = Templates(tuple(s[: s.index("{}") + 2] for s in sentences), sentences.canonical)
    of_model = text_tokens, tokenizer, end_token
    num, num_names, classes = 0, 0, []
    for name in class_names:
        cut = are_too_long(sentences.prompts(name), *of_model)
        if any(cut):
            heads_cut = sum(are_too_long(heads.prompts(name), *of_model))
            num, num_names = num + sum(cut), num_names + heads_cut
            classes += [name] * bool(heads_cut)
    return CutPrompts(num, num_names, tuple(dict.fromkeys(classes)))


def _templates(templates: Sequence[str]) -> Templates:
    return templates if isinstance(templates, Templates) else Templates(tuple(templates))
