"""The quick way through a spaCy pipeline: its words, its network and its labels, without its documents.

A pipeline takes it when all of this holds, and spaCy's own way otherwise:

- the component that tags is spaCy's `Tagger` or `Morphologizer`, over a `tok2vec` whose embedding knows no context and
  whose encoder is a `MaxoutWindowEncoder`; no component between changes a word;
- an attribute ruler behind it, if its corrections count, turns nothing but what is of class OTHER anyway, or white
  space, into something of class OTHER;
- the tokenizer is spaCy's own;
- a few sentences, tried at loading, get spaCy's scores, up to the rounding of float32;
- on this machine a row of a matrix product does not depend on its place (`Network.ignores_place`).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.morphology import Morphology  # type: ignore[import-not-found]
from spacy.pipeline import AttributeRuler, Morphologizer, Tagger, Tok2Vec

from prep.taggers import OTHER, Tagged, by_text
from prep.taggers.spacy_network import Network, network_of
from prep.taggers.spacy_words import Words, attribute_getters

if TYPE_CHECKING:
    from spacy.language import Language
    from thinc.api import Model

ClassOf = Callable[[str], int]

_EMBEDDING_LAYERS = {
    *("extract_features", "list2ragged", "ints-getitem", "hashembed"),
    *("maxout", "layernorm", "dropout", "ragged2list"),
}
_FEATURES = {"ORTH", "NORM", "LOWER", "PREFIX", "SUFFIX", "SHAPE", "SPACY", "IS_SPACE", "LENGTH"}
"""What a word's embedding may be made of."""

_SENTENCES = (
    "The quick brown fox, aged 7, doesn't jump over Mr. Smith's lazy dogs (see https://example.org) :-)",
    "L'été, des élèves déjà grands mangent-ils 3 glaces près de l'Élysée ?",
    "Zwei Männer und ein altes Fahrrad",
    "東京の古い寺 и большая красная площадь",
    "x",
)
"""Words of many forms, whatever the language of the pipeline; texts shorter and longer than the network sees."""


class QuickWay:
    """Tags as the pipeline would. classes: uint8, of each label; spaces_are_other: white space is of class OTHER."""

    def __init__(self, words: Words, network: Network, classes: NDArray[np.uint8], spaces_are_other: bool) -> None:
        self._words, self._network = words, network
        self._classes, self._spaces_are_other = classes, spaces_are_other

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Of each word of all texts and each label: float32 [W, num_labels]."""
        read = self._words.read(texts)
        return self._network.scores(read.words, read.lengths)

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`."""
        read = self._words.read(texts)
        classes = self._classes[self._network.scores(read.words, read.lengths).argmax(1)]
        if self._spaces_are_other:
            classes[read.spaces] = OTHER
        return by_text(read.starts, classes, read.lengths.tolist())


class _Parts(NamedTuple):
    """The models that a tag is made by: list of docs to embedded words, those to words in context, those to scores."""

    embed: "Model[Any, Any]"
    encode: "Model[Any, Any]"
    label: "Model[Any, Any]"


def quick_way(nlp: "Language", source: str, class_of: ClassOf) -> QuickWay | None:
    """The quick way for a pipeline whose component `source` tags, or None if it has none."""
    pipe = nlp.get_pipe(source)
    if type(pipe) not in (Tagger, Morphologizer) or not Words.fits(nlp):
        return None
    parts, rulers = _parts(nlp, pipe), [p for _, p in nlp.pipeline if type(p) is AttributeRuler]
    known = {id(pipe), *map(id, rulers), *(id(p) for _, p in nlp.pipeline if type(p) is Tok2Vec)}
    if parts is None or any(id(p) not in known for _, p in nlp.pipeline):
        return None
    if not all(_keeps_classes(rule, class_of) for ruler in rulers for rule in ruler.patterns):
        return None
    network = network_of(parts.encode, parts.label)
    if network is None or not network.ignores_place():
        return None
    classes = np.array([class_of(tag) for tag in _tags(pipe)], np.uint8)
    spaces = any(_sets_spaces(rule) for ruler in rulers for rule in ruler.patterns)
    expected, attributes = _scores(nlp, pipe), dict(attribute_getters(nlp))
    way = QuickWay(Words(nlp, parts.embed, network), network, classes, spaces)
    scores = way.scores(_SENTENCES)
    if scores.shape == expected.shape and np.allclose(scores, expected, rtol=1e-3, atol=1e-3):
        return way
    attribute_getters(nlp).update(attributes)
    return None


def _parts(nlp: "Language", pipe: Tagger) -> _Parts | None:
    tok2vec = pipe.model.get_ref("tok2vec")
    for _, other in nlp.pipeline:
        if type(other) is Tok2Vec and any(listener is tok2vec for listener in other.listeners):
            tok2vec = other.model
    if len(tok2vec.layers) != 2:
        return None
    embed, encode = tok2vec.layers
    names = [layer.name for layer in embed.layers]
    if names[:1] != ["extract_features"] or not set(embed.layers[0].attrs["columns"]) <= _FEATURES:
        return None
    if not {node.name for node in embed.walk() if not node.layers} <= _EMBEDDING_LAYERS:
        return None
    return _Parts(embed, encode, pipe.model.get_ref("softmax"))


def _keeps_classes(rule: dict[str, Any], class_of: ClassOf) -> bool:
    """Whether a rule of an attribute ruler leaves the class of every word as it is, but for white space."""
    if "POS" not in rule["attrs"]:
        return True
    found = [token for pattern in rule["patterns"] for token in pattern]
    single = all(len(pattern) == 1 for pattern in rule["patterns"])
    others = all(_is_space(token) or class_of(str(token.get("POS", "NOUN"))) == OTHER for token in found)
    return single and others and class_of(rule["attrs"]["POS"]) == OTHER


def _sets_spaces(rule: dict[str, Any]) -> bool:
    return "POS" in rule["attrs"] and any(_is_space(token) for pattern in rule["patterns"] for token in pattern)


def _is_space(token: dict[str, Any]) -> bool:
    return token.get("IS_SPACE") is True


def _tags(pipe: Tagger) -> list[str]:
    """The tag of each label: of a morphologizer's, such as "Number=Sing|POS=NOUN", the part of speech."""
    if type(pipe) is Morphologizer:
        return [Morphology.feats_to_dict(label).get("POS", "") for label in pipe.labels]
    return list(pipe.labels)


def _scores(nlp: "Language", pipe: Tagger) -> NDArray[np.float32]:
    """Of the sentences, by spaCy."""
    with nlp.memory_zone():
        docs = [nlp.make_doc(text) for text in _SENTENCES]
        for _, other in nlp.pipeline:
            if type(other) is Tok2Vec:
                docs = [other(doc) for doc in docs]
        return np.concatenate(pipe.model.predict(docs))
