"""The text path without its tagger, ours against the reference's: from captions as read to token ids and priorities.

The reference is open_clip's own code, `SimpleTokenizer` with its `syntax` mask. Its words and their tags come ready
made, as ours do: what is measured is cleaning, byte pairs, and the ranking of words.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from time import process_time
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

from prep.captions import decode
from prep.taggers import Tagged, penn_class
from prep.text_columns import annotate
from prep.tokenizer import load_tokenizer

_TAGS = ("NN", "DT", "JJ", "IN", "VBG", "NNS")


class ReadyTagger:
    """A tagger that costs nothing: words are what stands between spaces, their tags made up from their length."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.words = {text: text.split() for text in texts}
        self.tags = {
            text: [(word, _TAGS[len(word) % len(_TAGS)]) for word in words] for text, words in self.words.items()
        }
        self._tagged = {text: self._tag(text) for text in texts}

    def _tag(self, text: str) -> Tagged:
        lengths = np.array([len(word) + 1 for word in self.words[text]], np.int32)
        classes = np.array([penn_class(tag) for _, tag in self.tags[text]], np.uint8)
        return Tagged(np.cumsum(lengths, dtype=np.int32) - lengths, classes)

    def identity(self) -> dict[str, str]:
        """See `Tagger`."""
        return {"name": "ready"}

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`; knows no other texts."""
        return [self._tagged[text] for text in texts]


def text_ratio(captions: Sequence[str], rounds: int = 5, batch_size: int = 256) -> dict[str, float]:
    """Captions a second of one core: "ours", "open_clip", and the "ratio" of the two.

    The median of `rounds`, in turns, by the processor's time, after one round to warm up.
    """
    raw = [caption.encode() for caption in captions]
    ready = ReadyTagger([*captions, *(decode(caption).text for caption in raw)])
    batches = [slice(first, first + batch_size) for first in range(0, len(raw), batch_size)]
    tokenizer, theirs = load_tokenizer(), _open_clip(ready)

    def ours(batch: slice) -> None:
        annotate([decode(caption).text for caption in raw[batch]], tokenizer, ready)

    def reference(batch: slice) -> None:
        theirs(captions[batch])

    seconds = [[_seconds(path, batches) for path in (ours, reference)] for _ in range(rounds + 1)]
    mine, other = (len(raw) / statistics.median(column) for column in zip(*seconds[1:], strict=True))
    return {"ours": mine, "open_clip": other, "ratio": mine / other}


def _open_clip(ready: ReadyTagger) -> Callable[[Sequence[str]], object]:
    """open_clip's tokenizer with its syntax mask, NLTK's part in it ready made."""
    import open_clip.tokenizer as reference

    tags = {id(words): ready.tags[text] for text, words in ready.words.items()}
    nltk = SimpleNamespace(
        tokenize=SimpleNamespace(word_tokenize=ready.words.__getitem__), pos_tag=lambda words: tags[id(words)]
    )
    tokenizer = reference.SimpleTokenizer(reduction_mask="syntax")

    def tokenize(texts: Sequence[str]) -> object:
        with patch.dict(sys.modules, nltk=nltk), patch.object(reference, "_nltk_init", True):
            return tokenizer(list(texts))

    return tokenize


def _seconds(path: Callable[[slice], None], batches: Sequence[slice]) -> float:
    start = process_time()
    for batch in batches:
        path(batch)
    return process_time() - start
