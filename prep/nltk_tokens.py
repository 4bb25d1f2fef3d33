"""The token column of the mask `syntax-torch`: CLIP's ids of a caption as NLTK splits it, and where its words begin.

CLIPA's torch code and open_clip split a caption with NLTK's `word_tokenize`, tag it, keep the best words, and encode
what is left, joined by single spaces. NLTK rewrites what it splits (" becomes two back-ticks, "don't" do + n't), so
these are other ids than the caption's own; the tokenizer `clip-nltk` gives them. Its priorities (tagger `nltk`) are the
word classes of every other column, with WORD_GOES_ON added to each token that continues a word of NLTK's: so a loader
needs neither NLTK nor the caption to keep, for any T, what the reference keeps.

As everywhere here the caption is clean, with its capitals, where the reference splits the raw one and so takes "&amp;"
for three words. Of a caption of more than 75 ids those of its best words are stored, not its first ones, and the worst
of these words is cut where it has too many: the reference chooses among all words, and so the T - 2 best are there,
whole, for every T up to one more than the number of stored words.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from prep.errors import UserError
from prep.store import CONTEXT_LENGTH
from prep.taggers import penn_class
from prep.taggers.nltk_tagger import NltkTagger
from prep.tokenizer import Tokenizer, Word
from prep.word_masks import WORD_GOES_ON

NAME = "clip-nltk"
TAGGER = "nltk"
"""The only one whose priorities belong to these ids."""

_MAX_CONTENT = CONTEXT_LENGTH - 2


class NltkTokenizer(Tokenizer):
    """CLIP's ids of NLTK's words. One thread; not to be shared between threads.

    Raises `UserError` when NLTK or its data are missing.
    """

    name = "clip-nltk-49408"

    def __init__(self, clip: Tokenizer) -> None:
        self._clip, self._tagger = clip, NltkTagger()
        parts = f"{clip.fingerprint} {self._tagger.identity()['fingerprint']}"
        self.fingerprint = f"sha256:{hashlib.sha256(parts.encode()).hexdigest()}"

    def identity(self) -> dict[str, str]:
        """See `Tokenizer`. The fingerprint is of the vocabulary and of NLTK's data."""
        return {**super().identity(), "nltk": self._tagger.identity()["version"]}

    def spelled(self) -> list[bytes]:
        """See `Tokenizer`."""
        return self._clip.spelled()

    def encode_words(self, text: str) -> list[Word]:
        """Raises `UserError`: NLTK's words have no place in the text."""
        problem = f"the ids of {NAME} are of words as NLTK rewrites them, which have no place in the caption"
        raise UserError(f"tokenizer {NAME}", problem, "Choose clip or bert.")

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return [id_ for ids, _ in self._words(text) for id_ in ids]

    def content(self, text: str) -> tuple[list[int], list[int], bool]:
        """What is stored of a clean caption between the ends: ids, priorities, and whether there were more ids."""
        words = self._words(text)
        has_more = sum(len(ids) for ids, _ in words) > _MAX_CONTENT
        if has_more:
            words = _best(words)
        tokens = [id_ for ids, _ in words for id_ in ids]
        ranks = [word_class + WORD_GOES_ON * (place > 0) for ids, word_class in words for place in range(len(ids))]
        return tokens, ranks, has_more

    def _words(self, text: str) -> list[tuple[list[int], int]]:
        """Ids and class of each word."""
        tagged = self._tagger.words_and_tags(text)
        return [(self._clip.encode(word), penn_class(tag)) for word, tag in tagged]


def _best(words: Sequence[tuple[list[int], int]]) -> list[tuple[list[int], int]]:
    """The best words, by class, of equals the earlier, as many as make 75 ids, in reading order; the worst is cut."""
    kept, room = dict[int, list[int]](), _MAX_CONTENT
    for place in np.argsort([word_class for _, word_class in words], kind="stable").tolist():
        kept[place] = words[place][0][:room]
        room -= len(kept[place])
        if not room:
            break
    return [(kept[place], words[place][1]) for place in sorted(kept)]
