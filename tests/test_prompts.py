"""Prompts: their tokens, one embedding a class, and what a short budget cuts off, the class's name above all."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from eval.prompts import CutPrompts, class_embeddings, cut_prompts, prompt_tokens
from eval.run_summary import cut_warning
from eval.templates import TEMPLATES, find_templates
from prep.tokenizer import load_tokenizer

from .test_zeroshot import CollapsedModel


def test_prompts_are_cut_with_their_end_kept_and_counted() -> None:
    tokens, num_cut = prompt_tokens(["cat", "a photo of a very small cat"], 5)
    start, end = 49406, 49407
    assert tokens[0].tolist()[::2] == [start, end, 0]
    assert tokens[1, [0, -1]].tolist() == [start, end]
    assert num_cut == 1


def test_a_class_is_the_mean_of_its_prompts() -> None:
    class Letters(CollapsedModel):
        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
            return normalize(torch.stack([tokens.sum(dim=1) % 97, (tokens != 0).sum(dim=1)], dim=1).float(), dim=-1)

    names, templates = ("cat", "polar bear"), ("{}", "a {} on a box", "the {}")
    found, _ = class_embeddings(Letters(), names, templates, 16)
    for row, name in enumerate(names):
        each = Letters().encode_text(prompt_tokens([t.replace("{}", name) for t in templates], 16)[0])
        mean = each.numpy().mean(axis=0)
        assert found[row].tolist() == pytest.approx((mean / np.linalg.norm(mean)).tolist(), abs=1e-6)


def test_the_simple_templates_hold_one_name_and_fit_twelve_tokens() -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES["simple"])
    four_tokens = "red polar bear cub"
    assert [prompt_tokens([four_tokens], length)[1] for length in (5, 6)] == [1, 0]
    assert prompt_tokens([template.format(four_tokens) for template in TEMPLATES["simple"]], 12)[1] == 0


SENTENCES = ("{}", "a photo of a {}.", "the {} on a box of wood")


@pytest.mark.parametrize("text_tokens", range(3, 13))
@pytest.mark.parametrize(("tokenizer", "end_token"), [("clip", True), ("bert", False)])
def test_a_name_is_cut_where_its_last_token_is_not_among_those_kept(
    text_tokens: int, tokenizer: str, end_token: bool
) -> None:
    """Against the ids themselves: each name is of words that no sentence has."""
    names = ("cat", "grizzly bear", "prairie chicken grouse", "zebra")
    loaded = load_tokenizer(tokenizer)
    num, num_names, classes = 0, 0, []
    for name in names:
        for sentence in SENTENCES:
            ids = loaded.encode(sentence.format(name))
            kept = prompt_tokens([sentence.format(name)], text_tokens, tokenizer, end_token)[0][0].tolist()
            assert kept[0] == loaded.start
            num += len(ids) > text_tokens - 1 - end_token
            if loaded.encode(name)[-1] not in kept:
                num_names += 1
                classes.append(name)
    wanted = CutPrompts(num, num_names, tuple(dict.fromkeys(classes)))
    assert cut_prompts(names, SENTENCES, text_tokens, tokenizer, end_token) == wanted
    assert class_embeddings(CollapsedModel(), names, SENTENCES, text_tokens, "cpu", tokenizer, end_token)[1] == num


def test_canonical_names_are_cut_as_they_are_asked() -> None:
    templates = find_templates("imagenet-81")
    assert cut_prompts(["great_white_shark, white shark"], templates, 5).num_names == 80
    assert cut_prompts(["great_white_shark, white shark"], templates, 77) == CutPrompts(0, 0, ())


def test_the_warning_names_the_classes_and_the_remedy() -> None:
    cut = {"num_prompts_cut": 3, "text_tokens": 8, "num_classes": 9, "num_names_cut": 0, "names_cut": []}
    assert cut_warning(cut) == "3 prompts are longer than 8 text tokens and lost their end."
    names = [f"bird {i}" for i in range(7)]
    told = cut_warning({**cut, "num_names_cut": 2, "names_cut": names})
    assert "'bird 0', 'bird 1', 'bird 2', 'bird 3', 'bird 4' ... (7 of 9 classes)" in told
    assert "more text tokens" in told
    assert "--templates simple" in told
    assert cut_warning({**cut, "num_prompts_cut": 0}) == ""
