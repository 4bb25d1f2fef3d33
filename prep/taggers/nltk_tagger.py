"""The reference's tagger: NLTK's `word_tokenize`, then its averaged perceptron with Penn Treebank tags.

As in CLIPA's torch code, one difference apart: it reads the clean caption, with its capitals, where the reference tags
the raw text and so takes `&amp;` for three words. All sentences of a caption are tagged as one list of words.

The words are those of `word_tokenize`, which rewrites quotes and tells no places; `_places` recovers them. The tags are
those of `nltk.pos_tag` to the letter: `_Perceptron` adds the same weights in the same order, a row of a matrix where
NLTK goes over dictionaries, in a fifth of the time and 27 MB more memory.

The model is data that NLTK downloads, never this program: see `DOWNLOAD`. It is looked for where NLTK looks, in
`nltk.data.path`, which begins with the folders of the environment variable NLTK_DATA.
"""

import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError
from prep.taggers import Tagged, penn_class

if TYPE_CHECKING:
    from nltk.tag import PerceptronTagger

INSTALL = "pip install 'nltk>=3.9'"
DOWNLOAD = "python -m nltk.downloader averaged_perceptron_tagger_eng punkt_tab"

_MODEL = "averaged_perceptron_tagger_eng"
_FILES = {
    f"taggers/{_MODEL}/": tuple(f"{_MODEL}.{part}.json" for part in ("classes", "tagdict", "weights")),
    "tokenizers/punkt_tab/english/": (
        "abbrev_types.txt",
        "collocations.tab",
        "ortho_context.tab",
        "sent_starters.txt",
    ),
}
"""What decides a tag: folders as NLTK names them, and their files."""


class NltkTagger:
    """NLTK's English tagger. One thread; not to be shared between threads.

    Raises `UserError` when NLTK or its data are missing.
    """

    def __init__(self) -> None:
        if find_spec("nltk") is None:
            raise UserError("tagger nltk", "wanted the package nltk; it is not installed", INSTALL)
        fingerprint = _hash_data()
        from nltk.tag import PerceptronTagger
        from nltk.tokenize import word_tokenize

        self._split = word_tokenize
        self._perceptron = _Perceptron(PerceptronTagger())
        self._identity = {"name": "nltk", "model": _MODEL, "version": version("nltk"), "fingerprint": fingerprint}

    def identity(self) -> dict[str, str]:
        """See `Tagger`. The fingerprint is of the tagger's weights and the sentence splitter's lists."""
        return dict(self._identity)

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`."""
        return [self._tag(text) for text in texts]

    def words_and_tags(self, text: str) -> list[tuple[str, str]]:
        """The words as NLTK writes them, with their Penn tags: `nltk.pos_tag(nltk.word_tokenize(text))`."""
        words = self._split(text)
        return list(zip(words, self._perceptron.tag(words), strict=True))

    def _tag(self, text: str) -> Tagged:
        words = self._split(text)
        classes = [penn_class(tag) for tag in self._perceptron.tag(words)]
        return Tagged(_places(words, text), np.array(classes, np.uint8))


def _places(words: Sequence[str], text: str) -> NDArray[np.int32]:
    """Where each word begins in the text.

    The word splitter only inserts white space and rewrites quotes: " becomes two back-ticks or two single quotes, and a
    pair of single quotes may become back-ticks. So the characters of the words, counted, are those of the text without
    its white space, with " counted twice.
    """
    places = [place for place, char in enumerate(text) if not char.isspace()]
    if '"' in text:
        places = [place for place in places for _ in range(1 + (text[place] == '"'))]
    *starts, length = accumulate((len(word) for word in words), initial=0)
    assert len(places) == length, f"{words} are not the words of {text!r}"
    return np.array([places[start] for start in starts], np.int32)


class _Perceptron:
    """Predicts what `nltk.tag.PerceptronTagger` predicts, from its weights.

    A tag's score is the sum of its weights over the features of a word, in their order; the highest wins, of equals the
    last in the alphabet. A weight that NLTK does not list is a 0.0 here, which changes no sum. The matrix has a column
    a tag, Z to A, so that the first highest is the one.
    """

    def __init__(self, loaded: "PerceptronTagger") -> None:
        weights: dict[str, dict[str, float]] = loaded.model.weights
        self._tags: list[str] = sorted(loaded.classes, reverse=True)
        self._known: dict[str, str] = loaded.tagdict
        # Of an empty one: a method of `loaded` would keep its dictionaries alive, 60 MB.
        self._normal: Callable[[str], str] = type(loaded)(load=False).normalize
        self._row = {feature: row for row, feature in enumerate(weights)}
        column = {tag: place for place, tag in enumerate(self._tags)}
        self._matrix = np.zeros((len(weights), len(self._tags)))
        for row, of_tag in enumerate(weights.values()):
            self._matrix[row, [column[tag] for tag in of_tag]] = list(of_tag.values())

    def tag(self, words: Sequence[str]) -> list[str]:
        """The Penn tags of a text's words."""
        around = ["-START-", "-START2-", *map(self._normal, words), "-END-", "-END2-"]
        tags: list[str] = []
        before, two_before = "-START-", "-START2-"
        for place, word in enumerate(words):
            tag = self._known.get(word) or self._predict(word, around[place : place + 5], before, two_before)
            tags.append(tag)
            before, two_before = tag, before
        return tags

    def _predict(self, word: str, around: list[str], before: str, two_before: str) -> str:
        previous_2, previous, this, following, following_2 = around
        features = (
            "bias",
            f"i suffix {word[-3:]}",
            f"i pref1 {word[0]}",
            f"i-1 tag {before}",
            f"i-2 tag {two_before}",
            f"i tag+i-2 tag {before} {two_before}",
            f"i word {this}",
            f"i-1 tag+i word {before} {this}",
            f"i-1 word {previous}",
            f"i-1 suffix {previous[-3:]}",
            f"i-2 word {previous_2}",
            f"i+1 word {following}",
            f"i+1 suffix {following[-3:]}",
            f"i+2 word {following_2}",
        )
        row_of = self._row
        rows = [row_of[feature] for feature in features if feature in row_of]
        # Along the first axis numpy adds row after row: the sums are NLTK's to the last bit.
        return self._tags[int(self._matrix[rows].sum(axis=0).argmax())]


def _hash_data() -> str:
    """sha256 over the data files, their names and lengths included; raises `UserError` when one is missing."""
    import nltk.data

    digest = hashlib.sha256()
    for folder, names in _FILES.items():
        for name in names:
            try:
                content = nltk.data.find(folder + name).open().read()
            except LookupError as error:
                places = ", ".join(str(place) for place in nltk.data.path)
                raise UserError(
                    "tagger nltk",
                    f"wanted {folder}{name}, which NLTK downloads; it is in none of {places}",
                    f"{DOWNLOAD}   or set NLTK_DATA to the folder that holds it.",
                ) from error
            digest.update(f"{folder}{name} {len(content)}\n".encode())
            digest.update(content)
    return f"sha256:{digest.hexdigest()}"
