"""The lists of templates against open_clip's, against a plain canonical spelling, and as a sequence."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.templates import TEMPLATES, Templates, canonical_spelling, find_templates
from eval.zeroshot import prompt_tokens
from prep.errors import UserError


def big_vision_spelling(text: str) -> str:
    """What CLIPA's JAX code does to a class name, step by step."""
    text = text.replace("_", " ")
    kept = ",".join("".join(c for c in part if c not in string.punctuation) for part in text.split(","))
    return re.sub(r"\s+", " ", kept.lower()).strip().split(",")[0]


@pytest.mark.parametrize("name", ["crane bird", "{odd} name", "T-shirt"])
def test_the_eighty_are_open_clips_in_its_order(name: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    published = [template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert find_templates("imagenet").prompts(name) == published
    assert len(set(published)) == 80


def test_the_eighty_one_are_the_eighty_respelled_and_the_bare_name() -> None:
    *eighty, bare = find_templates("imagenet-81").prompts("Jack-o'-lantern, pumpkin_head")
    assert bare == "jackolantern"
    assert eighty == [canonical_spelling(prompt) for prompt in find_templates("imagenet").prompts("jackolantern")]
    assert "a closeup photo of a jackolantern" in eighty
    assert "the jackolantern in a video game" in eighty


@given(st.text(st.sampled_from("aB_,.-'() \t9é"), max_size=12))
def test_a_name_is_spelled_as_big_vision_spells_it(name: str) -> None:
    expected = big_vision_spelling(name).strip()
    if expected:
        assert find_templates("imagenet-81").prompts(name)[-1] == expected
    else:
        with pytest.raises(UserError, match="nothing is left of this class name"):
            find_templates("imagenet-81").prompts(name)


def test_no_name_is_said_to_be_none() -> None:
    with pytest.raises(UserError, match="class '': wanted a class name, found none"):
        find_templates("simple").prompts("")


def test_the_other_lists_leave_a_name_as_it_is() -> None:
    assert find_templates("simple").prompts("Kite (bird), or_so")[:2] == ["Kite (bird), or_so", "a Kite (bird), or_so"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_list_is_a_sequence_of_sentences_that_hold_one_name_each(name: str) -> None:
    found = find_templates(name)
    assert list(found) == list(found.sentences) == [found[place] for place in range(len(found))]
    assert found[1:3] == found.sentences[1:3]
    assert all(sentence.count("{}") == 1 and sentence.format("cat") for sentence in found)
    assert len(set(found)) == len(found)


def test_lists_are_values() -> None:
    assert Templates(("{}",)) == Templates(("{}",))
    assert Templates(("{}",)) != Templates(("{}",), canonical=True)


def test_a_name_of_four_tokens_fits_thirty_two_text_tokens_with_every_published_sentence() -> None:
    assert prompt_tokens(find_templates("imagenet").prompts("red polar bear cub"), 32)[1] == 0


def test_an_unknown_list_is_named() -> None:
    with pytest.raises(UserError, match=r"imagnet.*no such list.*\n.*simple, imagenet, imagenet-81"):
        find_templates("imagnet")
