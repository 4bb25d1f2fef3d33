"""Texts to the numbers of their words, as spaCy's tokenizer splits them, each text between two spaces split once.

Between two spaces spaCy's tokenizer sees nothing but what is there, with one exception: a special case such as ":)" or
"a.m." is also looked for in the tokens of the whole text, where a space counts for nothing. A match across a space
changes no token, but it hides shorter matches that it overlaps: of "= ):(x" the "):" is one token, of "):(x" it is not.
Where one could begin, and for any text with other white space than single spaces between its words, the tokenizer gets
the whole text.

A word is told from another by what its embedding is made of: its norm, shape and so on, and whether a space follows.
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import IDS, IDX  # type: ignore[import-not-found]
from spacy.tokenizer import Tokenizer  # type: ignore[import-not-found]

from prep.chunks import ChunkTable
from prep.taggers.spacy_network import Network

if TYPE_CHECKING:
    from spacy.language import Language
    from thinc.api import Model

# Bounds on what is remembered: about 80 MB, most of it in the network's table of words. With as many words known, few
# captions bring a new one.
_MAX_CHUNKS = 1 << 16
_MAX_WORDS = 1 << 14


class Read(NamedTuple):
    """The words of texts, one text after another.

    words: int64 [W], numbers in the network's table; starts: int32 [W], place of the first character in its text;
    spaces: bool [W], white space that is a token; lengths: int64 [B], words a text.
    """

    words: NDArray[np.int64]
    starts: NDArray[np.int32]
    spaces: NDArray[np.bool_]
    lengths: NDArray[np.int64]


class Words:
    """Reads texts for a network. `fits` says beforehand whether it can serve a pipeline.

    embed: spaCy's `MultiHashEmbed`, its first layer the extraction of features. Of the pipeline's vocabulary the
    attributes of words that no feature needs are switched off: most of a new word's cost.
    """

    def __init__(self, nlp: "Language", embed: "Model[Any, Any]", network: Network) -> None:
        self._nlp, self._split, self._network = nlp, _tokenizer(nlp), network
        self._features: list[str] = [*embed.layers[0].attrs["columns"], "IS_SPACE"]
        self._layers = embed.layers[1:]
        getters = attribute_getters(nlp)
        for attribute in set(getters).difference(IDS[name] for name in self._features):
            del getters[attribute]
        self._before, self._after = _special_cases(self._split)
        self.forget()

    @staticmethod
    def fits(nlp: "Language") -> bool:
        """Whether it is spaCy's own tokenizer, and no special case has a space between words."""
        own = type(nlp.tokenizer) is Tokenizer
        return own and all(case.isspace() or case.split() == [case] for case in _tokenizer(nlp).rules)

    def forget(self) -> None:
        """Forget all words, here and in the network."""
        self._network.forget()
        self._table = ChunkTable()
        self._words = array("q")  # of each part, the number in the network's table
        self._last = array("q")  # of each chunk, the number of its last word where no space follows
        self._opens, self._closes = array("b"), array("b")  # a special case may have begun before it, or end behind it
        self._number_of: dict[bytes, int] = {}
        self._spaces = array("b", [0] * self._network.num_words)

    def read(self, texts: Sequence[str]) -> Read:
        """The words of texts, all known to the network until the next call."""
        if len(self._table) > _MAX_CHUNKS or self._network.num_words > _MAX_WORDS:
            self.forget()
        split = [text.split() for text in texts]
        split = [[text] if text and " ".join(part) != text else part for part, text in zip(split, texts, strict=True)]
        chunks = self._table.find(split, self._learn)
        if not len(chunks.numbers):
            nothing = np.zeros(0, np.int64)
            return Read(nothing, nothing.astype(np.int32), nothing.astype(np.bool_), chunks.ends)
        closes, opens = (np.frombuffer(flags, np.bool_)[chunks.numbers] for flags in (self._closes, self._opens))
        if (doubtful := np.flatnonzero(closes[:-1] & opens[1:])).size:
            for text in np.unique(np.searchsorted(chunks.ends, doubtful, side="right")):
                split[text] = [texts[text]]
            chunks = self._table.find(split, self._learn)

        parts = self._table.parts(chunks)
        words = np.frombuffer(self._words, np.int64)[parts.rows]
        filled = np.diff(chunks.ends, prepend=0) > 0
        words[parts.ends[filled] - 1] = np.frombuffer(self._last, np.int64)[chunks.numbers[chunks.ends[filled] - 1]]
        spaces = np.frombuffer(self._spaces, np.bool_)[words]
        return Read(words, parts.starts.astype(np.int32), spaces, np.diff(parts.ends, prepend=0))

    def _learn(self, new: list[str]) -> None:
        """Add chunks to the tables, and their words to the network's."""
        features = []
        # Leaving the zone forgets the words met in it: without it a worker grows with every new word.
        with self._nlp.memory_zone():
            for text in new:
                doc = self._split(text)
                self._table.add(text, doc.to_array(IDX).tolist())
                self._opens.append(doc[0].orth in self._after)
                self._closes.append(doc[-1].orth in self._before)
                features.append(doc.to_array(self._features))
        ends = np.cumsum([len(rows) for rows in features])
        flat = np.concatenate(features)
        last = flat[ends - 1]
        if "SPACY" in self._features:
            followed = ends[[text.split() == [text] for text in new]] - 1
            flat[followed, self._features.index("SPACY")] = 1
        numbers = self._number(np.concatenate([flat, last]))
        self._words.extend(numbers[: len(flat)])
        self._last.extend(numbers[len(flat) :])

    def _number(self, features: NDArray[np.uint64]) -> list[int]:
        """The number of each word by its features [W, F], a new one to new words."""
        keys: list[bytes] = features.view(f"V{features.shape[1] * features.itemsize}").ravel().tolist()
        new = {key: row for row, key in enumerate(keys) if key not in self._number_of}
        if new:
            embedded: Any = [features[list(new.values()), :-1]]
            for layer in self._layers:
                embedded = layer.predict(embedded)
            self._network.add_words(embedded[0])
            for key, row in new.items():
                self._number_of[key] = len(self._spaces)
                self._spaces.append(int(features[row, -1]))
        return list(map(self._number_of.__getitem__, keys))


def attribute_getters(nlp: "Language") -> dict[int, Callable[[str], Any]]:
    """What a pipeline finds out about a new word, by attribute; a change of it holds."""
    vocabulary: Any = nlp.vocab
    getters: dict[int, Callable[[str], Any]] = vocabulary.lex_attr_getters
    return getters


def _tokenizer(nlp: "Language") -> Tokenizer:
    return cast(Tokenizer, nlp.tokenizer)


def _special_cases(splitter: Tokenizer) -> tuple[set[int], set[int]]:
    """The tokens before and after each place within a special case, as it is split by all other rules.

    And what a text between two spaces may hold in their stead: the tokens of a special case that ends or begins so.
    """
    plain = Tokenizer(
        splitter.vocab,
        prefix_search=splitter.prefix_search,
        suffix_search=splitter.suffix_search,
        infix_finditer=splitter.infix_finditer,
        token_match=splitter.token_match,
        url_match=splitter.url_match,
    )
    cases = [([token.orth for token in plain(case)], splitter(case)) for case in splitter.rules]
    before = {left for parts, _ in cases for left, _ in pairwise(parts)}
    after = {right for parts, _ in cases for _, right in pairwise(parts)}
    before_too = {special[-1].orth for parts, special in cases if parts[-1] in before}
    after_too = {special[0].orth for parts, special in cases if parts[0] in after}
    return before | before_too, after | after_too
