"""Parts of speech: which words of a caption carry its meaning, in four classes as CLIPA ranks them.

Nouns (1) are kept longest, then adjectives (2), verbs (3), and all else (4). A tagger is anything with the shape of
`Tagger`; `load_tagger` knows them by name:

    spacy               spaCy's small English model
    spacy:PIPELINE      any spaCy pipeline by the name of its package: spacy:fr_core_news_sm
    nltk                the reference's averaged perceptron
    textblob            TextBlob's pattern tagger: fast, and needs no model
    vocabulary          the table of CLIPA's JAX code: a class for each entry of BERT's vocabulary, whatever its context

Which one it was, its version and a hash of its model belong into the manifest: spaCy and NLTK keep different words in
44% of longer captions. Each lives in a module of its own, imported with its library when the tagger is loaded.
"""

from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError

NOUN, ADJECTIVE, VERB, OTHER = 1, 2, 3, 4
_PENN = {"NN": NOUN, "JJ": ADJECTIVE, "VB": VERB}
_UNIVERSAL = {"NOUN": NOUN, "PROPN": NOUN, "ADJ": ADJECTIVE, "VERB": VERB, "AUX": VERB}
_TAGGERS = {
    "spacy": ("prep.taggers.spacy_tagger", "SpacyTagger"),
    "nltk": ("prep.taggers.nltk_tagger", "NltkTagger"),
    "textblob": ("prep.taggers.textblob_tagger", "TextblobTagger"),
    "vocabulary": ("prep.taggers.vocabulary_tagger", "VocabularyTagger"),
}


class Tagged(NamedTuple):
    """The words of one text in order: int32 [W] place of the first character, uint8 [W] class."""

    starts: NDArray[np.int32]
    classes: NDArray[np.uint8]


class Tagger(Protocol):
    """What prep.build asks of a tagger: to tag, and to say exactly which one it is."""

    def identity(self) -> dict[str, str]:
        """What a manifest records: name, model, version, fingerprint. The same identity gives the same tags."""
        ...

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """Tag clean texts, in order. A text's tags do not depend on the texts beside it."""
        ...


def penn_class(tag: str) -> int:
    """The class of a Penn Treebank tag, by its first two letters: NN, JJ, VB."""
    return _PENN.get(tag[:2], OTHER)


def universal_class(tag: str) -> int:
    """The class of a Universal POS tag.

    An auxiliary (AUX) is a verb, as it is to Penn, whose VB covers be, have and do wherever they stand.
    """
    return _UNIVERSAL.get(tag, OTHER)


def by_text(starts: NDArray[np.int32], classes: NDArray[np.uint8], lengths: Iterable[int]) -> list[Tagged]:
    """The words of all texts, one text after another, as texts of `lengths` words."""
    places = pairwise(accumulate(lengths, initial=0))
    return [Tagged(starts[first:end], classes[first:end]) for first, end in places]


class Remembering:
    """A tagger that tags a text once: texts are remembered up to a number, with their words, and then all forgotten."""

    def __init__(self, tagger: Tagger, max_texts: int = 1 << 15) -> None:
        self._tagger, self._max_texts = tagger, max_texts
        self._tagged: dict[str, Tagged] = {}

    def identity(self) -> dict[str, str]:
        """That of the tagger."""
        return self._tagger.identity()

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._tagged]
        if len(self._tagged) + len(new) > self._max_texts:
            self._tagged.clear()
            new = list(dict.fromkeys(texts))
        self._tagged.update(zip(new, self._tagger.tag(new), strict=True))
        return [self._tagged[text] for text in texts]


def load_tagger(name: str = "spacy") -> Tagger:
    """The tagger of that name; it remembers texts it has seen (`Remembering`).

    Raises `UserError` for an unknown name, or when a package of the tagger is missing.
    """
    kind, colon, model = name.partition(":")
    if kind not in _TAGGERS or (colon and (kind != "spacy" or not model)):
        known = ", ".join(["spacy:PIPELINE", *sorted(_TAGGERS)])
        raise UserError("tagger", f"wanted one of {known}, found {name}", "Choose one of these.")
    module, found = _TAGGERS[kind]
    make = getattr(import_module(module), found)
    return Remembering(cast(Tagger, make(model) if model else make()))
