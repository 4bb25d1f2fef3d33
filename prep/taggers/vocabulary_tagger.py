"""The table of CLIPA's JAX code, behind every CLIPA-v2 model: a class for each entry of BERT's vocabulary.

Each entry is split and tagged by NLTK on its own, in lower case, and the tag of its last word gives the class; a word
of a caption has the class of its first piece, whatever stands around it. So "running" is a verb and "beautiful" and
"blue" are nouns everywhere: of 30,522 entries 23,612 are nouns, 1,590 adjectives, 3,384 verbs, 1,936 other.

The words are BERT's, and their places are told as any tagger tells them. With BERT's tokenizer they are the tokenizer's
own; CLIP's takes the class of the word that covers it.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prep.bert_tokenizer import BertTokenizer, load_bert_tokenizer
from prep.taggers import OTHER, Tagged, penn_class
from prep.taggers.nltk_tagger import NltkTagger


class VocabularyTagger:
    """Classes by the vocabulary of a tokenizer of BERT's kind. One thread; not to be shared between threads.

    Raises `UserError` when NLTK, its data or the vocabulary are missing.
    """

    def __init__(self, tokenizer: BertTokenizer | None = None) -> None:
        self._tokenizer = tokenizer or load_bert_tokenizer()
        self._nltk = NltkTagger()
        # Filled as entries are met: tagging all of them takes seconds, and captions use a few thousand.
        self._classes: dict[int, int] = {}

    def identity(self) -> dict[str, str]:
        """See `Tagger`. The fingerprint is of the vocabulary and of NLTK's data."""
        nltk = self._nltk.identity()
        parts = f"{self._tokenizer.fingerprint} {nltk['fingerprint']}"
        return {
            "name": "vocabulary",
            "model": f"{self._tokenizer.name} by {nltk['model']}",
            "version": nltk["version"],
            "fingerprint": f"sha256:{hashlib.sha256(parts.encode()).hexdigest()}",
        }

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`."""
        return [self._tag(text) for text in texts]

    def class_of(self, id_: int) -> int:
        """The class of one entry of the vocabulary."""
        if (known := self._classes.get(id_)) is not None:
            return known
        tagged = self._nltk.words_and_tags(self._tokenizer.entries[id_].lower())
        self._classes[id_] = found = penn_class(tagged[-1][1]) if tagged else OTHER
        return found

    def table(self) -> NDArray[np.uint8]:
        """The class of every entry: uint8 [vocabulary size]. Takes seconds."""
        return np.array([self.class_of(id_) for id_ in range(len(self._tokenizer.entries))], np.uint8)

    def _tag(self, text: str) -> Tagged:
        # U+0130, a capital I with a dot, is the one character that lowers to two, and BERT drops the second.
        words = self._tokenizer.encode_words(text.replace("\u0130", "i").lower())
        classes = [self.class_of(ids[0]) for ids, _, _ in words]
        return Tagged(np.array([start for _, start, _ in words], np.int32), np.array(classes, np.uint8))
