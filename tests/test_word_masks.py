"""`syntax-jax` against CLIPA's rule told plainly; and what both masks of whole words do that no other mask does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prep.bert_tokenizer import BertTokenizer, load_bert_tokenizer
from prep.captions import clean
from prep.taggers.vocabulary_tagger import VocabularyTagger
from prep.text_columns import Annotated, annotate
from prep.text_masks import select
from prep.token_marks import CONTINUES
from prep.word_masks import WORD_GOES_ON, split_priorities

from .caption_corpus import ODD, demo_captions, long_captions
from .nltk_folder import use_nltk_data
from .plain_syntax import syntax_jax
from .test_text_masks import EOT, SOT, caption

ON = WORD_GOES_ON


@pytest.fixture(scope="module")
def bert() -> BertTokenizer:
    return load_bert_tokenizer()


@pytest.fixture(scope="module")
def tagger() -> VocabularyTagger:
    use_nltk_data()
    return VocabularyTagger()


def jax_rows(columns: Annotated, text_tokens: int, bert: BertTokenizer) -> NDArray[np.int64]:
    keys = np.zeros(len(columns.tokens), np.uint64)
    row = columns.tokens, columns.priorities, columns.num_tokens
    return select(*row, text_tokens, "syntax-jax", keys, False, bert.marks())


@pytest.mark.parametrize("text_tokens", [4, 8, 16, 32])
def test_what_is_kept_is_what_clipas_rule_keeps(
    text_tokens: int, bert: BertTokenizer, tagger: VocabularyTagger
) -> None:
    """Of captions that fit the context: of a longer one the rule sees more words than are stored."""
    odd = [" ".join(ODD[start : start + 9]) for start in range(0, len(ODD), 4)]
    texts = [text for text in map(clean, [*demo_captions(900), *long_captions(200), *odd]) if text]
    columns = annotate(texts, bert, tagger)
    rows, fits = jax_rows(columns, text_tokens, bert), ~columns.truncated
    expected = [syntax_jax(text, text_tokens, bert) for text in texts]
    wrong = (rows != np.array(expected)).any(axis=1) & fits
    assert [texts[row] for row in np.flatnonzero(wrong)] == []
    assert fits.sum() > 1000
    assert ((columns.num_tokens[fits] > text_tokens + 1).sum()) > 30
    assert not (rows == bert.end).any()


def test_words_compete_and_pieces_are_cut(bert: BertTokenizer, tagger: VocabularyTagger) -> None:
    columns = annotate(["the unaffable red dog is unaffable and sits"], bert, tagger)
    entries = [bert.entries[id_] for id_ in jax_rows(columns, 6, bert)[0]]
    assert entries == ["[CLS]", "una", "##ffa", "##ble", "red", "dog"]
    whole = annotate(["unaffable unaffable"], bert, tagger)  # two words fit a budget of five: cut, not chosen
    assert [bert.entries[id_] for id_ in jax_rows(whole, 6, bert)[0]] == [
        "[CLS]",
        "una",
        "##ffa",
        "##ble",
        "una",
        "##ffa",
    ]


def kept(priorities: list[int], text_tokens: int, text_mask: str = "syntax-torch") -> list[int]:
    """Content token i has id i + 1."""
    marks = np.zeros(2**16, np.uint8)
    marks[1 : len(priorities) + 1] = [CONTINUES * (rank > ON) for rank in priorities]
    rows = select(*caption(priorities), text_tokens, text_mask, np.zeros(1, np.uint64), True, marks)
    return [token for token in rows[0].tolist() if token not in (SOT, EOT, 0)]


@pytest.mark.parametrize("text_mask", ["syntax-torch", "syntax-jax"])
def test_a_larger_budget_need_not_contain_a_smaller(text_mask: str) -> None:
    """An adjective of three pieces comes in before the noun, and pushes it over the edge."""
    priorities = [2, 2 + ON, 2 + ON, 1, 4]
    assert [kept(priorities, size, text_mask) for size in (3, 4, 5, 6)] == [[4], [1, 2], [1, 2, 3], [1, 2, 3, 4]]


def test_a_word_has_the_class_of_its_first_token_and_ties_go_to_the_earlier() -> None:
    assert kept([4, 1 + ON, 2, 3, 2, 4, 4], 4) == [3, 5]
    assert kept([3, 2, 3, 2, 2], 4) == [2, 4]


RANKS = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=60)


@given(RANKS, st.integers(3, 60))
def test_budgets_are_used_up_in_reading_order_by_words_that_are_the_best(
    drawn: list[tuple[int, bool]], text_tokens: int
) -> None:
    ranks = [rank + ON * (goes_on and place > 0) for place, (rank, goes_on) in enumerate(drawn)]
    found = kept(ranks, text_tokens)
    assert found == sorted(found)
    assert len(found) == min(len(ranks), text_tokens - 2)
    heads = [place for place, rank in enumerate(ranks) if rank < ON]
    best = sorted(heads, key=lambda place: ranks[place])[: text_tokens - 2]
    head_of = [max(head for head in heads if head <= token - 1) for token in found]
    assert {*head_of} <= {*best}
    if len(ranks) > text_tokens - 2:  # from the first of the best words on nothing is left out
        assert [token - 1 for token in found] == [
            p for p in range(len(ranks)) if max(head for head in heads if head <= p) in best
        ][: text_tokens - 2]


def test_priorities_are_split_into_classes_and_marks() -> None:
    classes, goes_on = split_priorities(np.array([[1, 4, 1 + ON, 3 + ON, 0]], np.uint8))
    assert classes.tolist() == [[1, 4, 1, 3, 0]]
    assert goes_on.tolist() == [[False, False, True, True, False]]
