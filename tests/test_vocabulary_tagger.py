"""The table of CLIPA's JAX code: its published counts, its classes, and the tokens that its mask keeps."""

import os
import random

import numpy as np
import pytest

from prep.bert_tokenizer import load_bert_tokenizer
from prep.taggers import ADJECTIVE, NOUN, OTHER, VERB, load_tagger, penn_class
from prep.taggers.nltk_tagger import NltkTagger
from prep.taggers.vocabulary_tagger import VocabularyTagger
from prep.text_columns import annotate
from prep.text_masks import select
from prep.tokenizer import load_tokenizer

from .nltk_folder import use_nltk_data

WORDS = [
    *("dog", "harbour", "paris", "children", "mugs", "red", "old", "small", "blue", "beautiful", "running", "sits"),
    *("holding", "cooked", "the", "of", "under", "very", "two", "3", "2010", ",", ".", "!", "?", "'", "-"),
    *("unaffable", "doughnut's", "croissants"),
]


@pytest.fixture(scope="module")
def tagger() -> VocabularyTagger:
    use_nltk_data()
    return VocabularyTagger()


def captions(num: int, words: list[str] = WORDS) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(words, k=rng.randint(1, 25))) for _ in range(num)]


def test_the_classes_are_those_of_clipas_table(tagger: VocabularyTagger) -> None:
    """As counted on the table that CLIPA's own code makes, which ends with one more entry: empty, class 4.

    Of every sixteenth entry, which takes half a second; of all with SHORTCLIP_WHOLE_VOCABULARY=1, some five.
    """
    entries = load_bert_tokenizer().entries
    if os.environ.get("SHORTCLIP_WHOLE_VOCABULARY"):
        assert np.bincount(tagger.table(), minlength=5).tolist() == [0, 23_612, 1_590, 3_384, 1_937 - 1]
    some = [tagger.class_of(id_) for id_ in range(0, len(entries), 16)]
    assert np.bincount(some, minlength=5).tolist() == [0, 1_518, 81, 193, 116]
    known = {"beautiful": NOUN, "blue": NOUN, "red": ADJECTIVE, "old": ADJECTIVE, "running": VERB, "2010": OTHER}
    assert {word: tagger.class_of(entries.index(word)) for word in known} == known


def test_a_class_is_that_of_the_last_word_of_an_entry(tagger: VocabularyTagger) -> None:
    import nltk

    entries = load_bert_tokenizer().entries
    for place in [*random.Random(1).sample(range(len(entries)), 150), entries.index("cannot"), entries.index("##ing")]:
        words = nltk.word_tokenize(entries[place].lower())
        assert tagger.class_of(place) == penn_class(nltk.pos_tag(words)[-1][1])


def test_a_word_has_the_class_of_its_first_piece_whatever_stands_around_it(tagger: VocabularyTagger) -> None:
    text = "İstanbul: a Running dog, unaffable"
    (tagged,) = tagger.tag([text])
    words = {
        text[start:].split(" ")[0].strip(":,"): c for start, c in zip(*tagged, strict=True) if text[start].isalpha()
    }
    assert words == {"İstanbul": NOUN, "a": OTHER, "Running": VERB, "dog": NOUN, "unaffable": NOUN}
    assert tagger.tag(["running"])[0].classes.tolist() == [VERB]
    assert tagger.tag([]) == []


@pytest.mark.parametrize("text_tokens", [8, 16])
def test_the_syntax_mask_keeps_what_the_jax_code_keeps(text_tokens: int, tagger: VocabularyTagger) -> None:
    """On words of one piece, of which its budget and ours are the same number: it has no [SEP], and so one more."""
    bert = load_tokenizer("bert")
    texts = captions(200, [word for word in WORDS if len(bert.encode(word)) == 1])
    ours = annotate(texts, bert, tagger)
    keys = np.zeros(len(texts), np.uint64)
    kept = select(ours.tokens, ours.priorities, ours.num_tokens, text_tokens, "syntax", keys)
    for text, row in zip(texts, kept, strict=True):
        words = [ids for ids, _, _ in bert.encode_words(text)]
        best = sorted(np.argsort([tagger.class_of(ids[0]) for ids in words], kind="stable")[: text_tokens - 2])
        expected = [bert.start, *(id_ for place in best for id_ in words[place]), bert.end]
        assert row.tolist() == expected + [0] * (text_tokens - len(expected))


def test_clips_tokens_take_the_class_of_the_word_that_covers_them(tagger: VocabularyTagger) -> None:
    columns = annotate(["Two beautiful doughnuts"], load_tokenizer(), tagger)
    assert columns.priorities[0, : columns.num_tokens[0]].tolist() == [0, OTHER, NOUN, NOUN, 0]


def test_identity_names_vocabulary_and_model(tagger: VocabularyTagger) -> None:
    identity, nltk = load_tagger("vocabulary").identity(), NltkTagger().identity()
    assert identity == tagger.identity()
    assert identity["name"] == "vocabulary"
    assert identity["model"] == f"bert-wordpiece-30522 by {nltk['model']}"
    assert identity["fingerprint"] not in (nltk["fingerprint"], load_tokenizer("bert").fingerprint)
