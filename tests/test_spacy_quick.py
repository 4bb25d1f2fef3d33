"""Which pipelines have a quick way, and that it computes what they compute, whatever the sizes of their networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

from prep.taggers import NOUN, OTHER, penn_class, universal_class
from prep.taggers.spacy_network import BLOCK, Layer, Network
from prep.taggers.spacy_quick import QuickWay, quick_way

TEXTS = ["", "a", "red dogs", "Don't eat the old dog's food, Mr. Smith! :)", "one two three four five six " * 20]

TOK2VEC = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "width": 16,
    "depth": 2,
    "embed_size": 100,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": True,
    "pretrained_vectors": None,
}


def pipeline(tagger: str = "tagger", listening: bool = True, tok2vec: dict[str, Any] = TOK2VEC) -> Language:
    """A pipeline with weights drawn at random; its `tagger` listens to a tok2vec, or has one of its own."""
    nlp = spacy.blank("en")
    if listening:
        nlp.add_pipe("tok2vec", config={"model": tok2vec})
        tok2vec = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16, "upstream": "tok2vec"}
    nlp.add_pipe(tagger, config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec}})
    words = {"words": ["red", "dogs"], "spaces": [True, False], "tags": ["JJ", "NNS"], "pos": ["ADJ", "NOUN"]}
    example = Example.from_dict(nlp.make_doc("red dogs"), words)
    nlp.initialize(lambda: [example])
    draw = np.random.default_rng(0)
    for _, pipe in nlp.pipeline:
        model: Any = getattr(pipe, "model", None)
        for node in model.walk() if model else ():
            for name in node.param_names:
                node.set_param(name, draw.normal(0, 0.5, node.get_param(name).shape).astype(np.float32))
    return nlp


def spacys_scores(nlp: Language, tagger: str) -> Any:
    docs = [nlp.make_doc(text) for text in TEXTS]
    for name, pipe in nlp.pipeline:
        docs = [pipe(doc) for doc in docs] if name == "tok2vec" else docs
    pipe = nlp.get_pipe(tagger)
    return np.concatenate(pipe.model.predict(docs))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes", [{}, {"depth": 1}, {"depth": 5, "maxout_pieces": 3}, {"window_size": 2, "depth": 3}]
)
def test_networks_of_any_size_are_computed(changes: dict[str, Any]) -> None:
    nlp = pipeline(tok2vec=TOK2VEC | changes)
    expected = spacys_scores(nlp, "tagger")
    way = quick_way(nlp, "tagger", penn_class)
    assert way is not None
    np.testing.assert_allclose(way.scores(TEXTS), expected, rtol=1e-4, atol=1e-4)
    shuffled = way.scores(TEXTS[::-1])
    assert np.array_equal(shuffled[-1], way.scores(TEXTS)[0])


@pytest.mark.parametrize(("tagger", "listening"), [("tagger", False), ("morphologizer", True)])
def test_a_tagger_of_its_own_and_a_morphologizer_have_a_quick_way(tagger: str, listening: bool) -> None:
    nlp = pipeline(tagger, listening)
    way = quick_way(nlp, tagger, penn_class if tagger == "tagger" else universal_class)
    assert way is not None
    np.testing.assert_allclose(way.scores(TEXTS), spacys_scores(nlp, tagger), rtol=1e-4, atol=1e-4)


def test_another_network_goes_through_spacy() -> None:
    embed = {"@architectures": "spacy.MultiHashEmbed.v2", "width": 16, "attrs": ["NORM"], "rows": [50]}
    encode = {"@architectures": "spacy.MishWindowEncoder.v2", "width": 16, "depth": 2, "window_size": 1}
    tok2vec = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": embed | {"include_static_vectors": False},
        "encode": encode,
    }
    assert quick_way(pipeline(tok2vec=tok2vec), "tagger", penn_class) is None


def with_component(nlp: Language) -> Language:
    nlp.add_pipe("merge_noun_chunks")
    return nlp


def with_phrase_of_two(nlp: Language) -> Language:
    nlp.tokenizer.add_special_case("New York", [{"ORTH": "New"}, {"ORTH": " York"}])  # type: ignore[union-attr]
    return nlp


def with_own_tokenizer(nlp: Language) -> Language:
    split = nlp.tokenizer
    nlp.tokenizer = lambda text: split(text)
    return nlp


def with_rule(nlp: Language) -> Language:
    ruler: Any = nlp.add_pipe("attribute_ruler")
    ruler.add([[{"ORTH": "dogs"}]], {"POS": "X"})
    return nlp


@pytest.mark.parametrize("change", [with_component, with_phrase_of_two, with_own_tokenizer, with_rule])
def test_other_pipelines_go_through_spacy(change: Callable[[Language], Language]) -> None:
    assert quick_way(pipeline("morphologizer"), "morphologizer", universal_class)
    assert quick_way(change(pipeline("morphologizer")), "morphologizer", universal_class) is None


def test_a_rule_for_white_space_is_kept() -> None:
    nlp = pipeline("morphologizer")
    ruler: Any = nlp.add_pipe("attribute_ruler")
    ruler.add([[{"IS_SPACE": True}]], {"POS": "SPACE"})
    way = quick_way(nlp, "morphologizer", lambda tag: OTHER if tag == "SPACE" else NOUN)
    assert way is not None
    assert way.tag(["a  b"])[0].classes.tolist() == [NOUN, OTHER, NOUN]


@pytest.mark.parametrize("fault", ["scores", "place"])
def test_a_quick_way_that_errs_is_not_taken(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = QuickWay.scores
    if fault == "scores":
        monkeypatch.setattr(QuickWay, "scores", lambda way, texts: scores(way, texts) + np.float32(0.01))
    else:
        monkeypatch.setattr(Network, "ignores_place", lambda network: False)
    nlp = pipeline()
    attributes = set(nlp.vocab.lex_attr_getters)  # type: ignore[attr-defined]
    assert quick_way(nlp, "tagger", penn_class) is None
    assert set(nlp.vocab.lex_attr_getters) == attributes  # type: ignore[attr-defined]


def test_a_product_that_depends_on_the_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Layer(torch.randn(24, 16), torch.zeros(16), torch.ones(8), torch.zeros(8))
    network = Network([layer], torch.randn(8, 3), torch.zeros(3))
    assert network.ignores_place()
    true = torch.addmm

    def other_in_the_last_row(bias: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        product = true(bias, left, right)
        product[BLOCK - 1] *= 1 + 2e-7
        return product

    monkeypatch.setattr(torch, "addmm", other_in_the_last_row)
    assert not network.ignores_place()
