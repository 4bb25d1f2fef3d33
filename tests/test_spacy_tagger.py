"""spaCy's taggers: classes and places of words, one and the same by both ways, whatever a text stands beside."""

import random
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.errors import UserError
from prep.taggers import ADJECTIVE, NOUN, OTHER, VERB, Tagged, load_tagger, spacy_words
from prep.taggers.spacy_tagger import DEFAULT, INSTALL, SpacyTagger, _hash_model

FRENCH = "fr_core_news_sm"
NOUNS = ["dog", "harbour", "Paris", "coffee mugs", "T-shirt", "wooden-handled knife", "café", "children"]
OTHERS = ["red", "old and rusty", "don't run", "sleeping", "3", "2-for-1", "the", "under", "very", "€9.99", "...", "😀"]
ODD = [
    *(
        "",
        " ",
        "\t",
        "\n ",
        "\u3000",
        "\xa0",
        "漢字かな",
        "Привет",
        "हिन्दी",
        "👩‍👩‍👧",
        "e\u0301",
        "x" * 100,
        "\x00",
        "\u200b",
    ),
    *(":)", ": )", "):", "(x", "' 's", "''", "a.m.", "10p.m .", "Mr.", "Mr .", "<3", "=", "U.S.", "http://a.b/c?d=e"),
    *("l'eau", "aujourd'hui", "est-ce qu'", "grands-mères", "-t-il", "No ."),
]
odd_texts = st.lists(
    st.tuples(st.sampled_from([*ODD, *NOUNS, *OTHERS]), st.sampled_from([" ", " ", " ", "", "  "])), max_size=14
).map(lambda parts: "".join(map("".join, parts)))


def captions(num: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(rng.choice([NOUNS, OTHERS])) for _ in range(rng.randint(1, 25))) for _ in range(num)]


@cache
def tagger(pipeline: str = DEFAULT, quick: bool = True) -> SpacyTagger:
    return SpacyTagger(pipeline, quick=quick)


def pairs(tagged: Tagged) -> list[tuple[int, int]]:
    return list(zip(tagged.starts.tolist(), tagged.classes.tolist(), strict=True))


def assert_same(ours: list[Tagged], theirs: list[Tagged], texts: list[str]) -> None:
    for mine, other, text in zip(ours, theirs, texts, strict=True):
        assert pairs(mine) == pairs(other), text


def test_words_have_their_place_and_class() -> None:
    (tagged,) = tagger().tag(["A red apple don't run"])
    assert tagged.starts.tolist() == [0, 2, 6, 12, 14, 18]
    assert tagged.classes.tolist() == [OTHER, ADJECTIVE, NOUN, VERB, OTHER, VERB]
    assert tagged.starts.dtype == np.int32
    assert tagged.classes.dtype == np.uint8


def test_french_is_read_by_universal_tags() -> None:
    text = "Un vieux chien noir a mangé trois glaces sur la plage, où l'on mange"
    (tagged,) = tagger(FRENCH).tag([text])
    of_class = {
        class_: [text[start:].split()[0].strip(",") for start, found in pairs(tagged) if found == class_]
        for class_ in (NOUN, ADJECTIVE, VERB)
    }
    assert of_class == {NOUN: ["chien", "glaces", "plage"], ADJECTIVE: ["vieux", "noir"], VERB: ["a", "mangé", "mange"]}


@pytest.mark.parametrize("pipeline", [DEFAULT, FRENCH])
def test_the_tags_are_those_of_the_pipeline_itself(pipeline: str) -> None:
    texts = [*captions(50), "Une  vieille dame\nlit devant l'Opéra de Nice.", "A tall ship  passes\tthe old pier."]
    nlp = spacy.load(pipeline, exclude=["parser", "ner", "lemmatizer"])
    class_of = tagger(pipeline).class_of
    expected = [[(t.idx, class_of(t.tag_ if pipeline == DEFAULT else t.pos_)) for t in doc] for doc in nlp.pipe(texts)]
    for quick in (True, False):
        assert tagger(pipeline, quick).is_quick is quick
        assert [pairs(tagged) for tagged in tagger(pipeline, quick).tag(texts)] == expected


@pytest.mark.parametrize("pipeline", [DEFAULT, FRENCH])
@settings(max_examples=15, deadline=None)
@given(texts=st.lists(odd_texts, max_size=8))
def test_both_ways_agree_on_odd_texts(pipeline: str, texts: list[str]) -> None:
    assert_same(tagger(pipeline).tag(texts), tagger(pipeline, False).tag(texts), texts)


@settings(max_examples=15, deadline=None)
@given(st.lists(odd_texts, min_size=1, max_size=12), st.data())
def test_scores_have_the_same_bits_in_any_batch(texts: list[str], data: st.DataObject) -> None:
    way = tagger()._quick
    assert way is not None
    alone = np.concatenate([way.scores([text]) for text in texts])
    filler = captions(data.draw(st.integers(0, 40)), data.draw(st.integers(0, 3)))
    together = way.scores([*filler, *texts, *filler])
    first = len(way.scores(filler))
    assert np.array_equal(together[first : first + len(alone)], alone)


def test_a_large_batch_is_tagged_as_its_texts_are() -> None:
    texts = [*captions(500), " ".join(captions(60))]
    together = tagger().tag(texts)
    for place in (0, 1, 250, 499, 500):
        assert_same([together[place]], tagger().tag([texts[place]]), [texts[place]])


def test_a_row_of_spacys_own_way_has_the_same_bits_in_any_batch() -> None:
    nlp = tagger(quick=False)._nlp
    model: Any = nlp.get_pipe("tok2vec")
    docs = [nlp.make_doc(text) for text in captions(60)]
    for row, doc in zip(model.model.predict(docs), docs, strict=True):
        assert np.array_equal(row, model.model.predict([doc])[0])


@pytest.mark.parametrize("quick", [True, False])
def test_every_text_has_its_row_even_an_empty_one(quick: bool) -> None:
    assert tagger(quick=quick).tag([]) == []
    found = tagger(quick=quick).tag(["", "dogs", "", "two dogs", ""])
    assert [t.starts.tolist() for t in found] == [[], [0], [], [0, 4], []]
    assert [len(t.starts) for t in tagger(quick=quick).tag(["", ""])] == [0, 0]


def test_words_begin_at_text_and_none_is_left_out() -> None:
    texts = captions(200)
    for text, tagged in zip(texts, tagger().tag(texts), strict=True):
        starts = tagged.starts.tolist()
        assert starts == sorted(set(starts))
        begins = {place for place in range(len(text)) if text[place] != " " and (place == 0 or text[place - 1] == " ")}
        assert begins <= set(starts)


@pytest.mark.parametrize("text", ["= ):(x", "s ' 's-O . :owhen", "10 a . m", "see Mr . Smith"])
def test_special_cases_are_looked_for_across_spaces(text: str) -> None:
    assert_same(tagger().tag([text]), tagger(quick=False).tag([text]), [text])
    whole = [word.idx for word in tagger()._nlp.make_doc(text)]
    assert tagger().tag([text])[0].starts.tolist() == whole


@pytest.mark.parametrize("quick", [True, False])
def test_a_worker_does_not_grow_with_the_words_it_has_seen(quick: bool) -> None:
    spacys = tagger(quick=quick)._nlp.vocab.strings
    tagger(quick=quick).tag(["a dog"])
    before = len(spacys)
    tagger(quick=quick).tag([f"unheard{i}of" for i in range(1000)])
    assert len(spacys) == before


def test_what_the_quick_way_remembers_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = captions(30)
    expected = tagger().tag(texts)
    way = SpacyTagger()._quick
    assert way is not None
    monkeypatch.setattr(spacy_words, "_MAX_WORDS", 50)
    for text, tagged in zip(texts, expected, strict=True):
        assert_same(way.tag([text]), [tagged], [text])
        assert way._network.num_words <= 50 + 2 * 80


def test_the_identity_names_the_tagger_its_version_and_its_model() -> None:
    identity = tagger().identity()
    assert identity == load_tagger("spacy").identity() == tagger(quick=False).identity()
    assert identity["name"] == "spacy"
    assert identity["model"] == DEFAULT
    assert identity["version"].startswith("3.8.0 (spaCy 3.8.")
    assert identity["fingerprint"].startswith("sha256:")
    french = tagger(FRENCH).identity()
    assert french["name"] == f"spacy:{FRENCH}"
    assert french["fingerprint"] != identity["fingerprint"]


@pytest.mark.parametrize("part", ["config.cfg", "tokenizer", "tok2vec/model", "tagger/model", "vocab/strings.json"])
def test_the_fingerprint_is_of_the_models_bytes(part: str, tmp_path: Path) -> None:
    for name in ("config.cfg", "tokenizer", "tok2vec/model", "tagger/model", "vocab/strings.json", "ner/model"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = _hash_model(tmp_path, ["tok2vec", "tagger"])
    (tmp_path / "ner/model").write_text("not used")
    assert _hash_model(tmp_path, ["tok2vec", "tagger"]) == before
    (tmp_path / part).write_text("another")
    assert _hash_model(tmp_path, ["tok2vec", "tagger"]) != before


@pytest.mark.parametrize("missing", ["spacy", DEFAULT])
def test_a_missing_package_names_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", sys)  # found, whatever the path
    monkeypatch.setitem(sys.modules, DEFAULT, sys)
    monkeypatch.delitem(sys.modules, missing)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError) as caught:
        load_tagger()
    assert caught.value.remedy == INSTALL[missing]


@pytest.mark.parametrize("name", ["../elsewhere", "no_such_pipeline", "json.tool"])
def test_a_missing_pipeline_is_named(name: str) -> None:
    with pytest.raises(UserError, match="not installed"):
        load_tagger(f"spacy:{name}")


def test_a_package_that_is_no_pipeline_is_refused() -> None:
    with pytest.raises(UserError, match="wanted a spaCy pipeline"):
        load_tagger("spacy:json")


def test_a_pipeline_without_parts_of_speech_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nlp = spacy.blank("de", meta={"name": "speechless", "version": "1.0"})
    nlp.add_pipe("sentencizer")
    package = tmp_path / "de_speechless"
    package.mkdir()
    nlp.to_disk(package / "de_speechless-1.0")
    (package / "__init__.py").write_text("")
    (package / "meta.json").write_bytes((package / "de_speechless-1.0" / "meta.json").read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"parts of speech, found components sentencizer"):
        load_tagger("spacy:de_speechless")
