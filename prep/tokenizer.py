"""CLIP's byte-pair encoding: the ids that open_clip's `SimpleTokenizer` gives, to the id, about seven times as fast.

A caption is cleaned and lower-cased, split into words (a regular expression), and each word, as UTF-8 bytes, is merged
pair by pair. The vocabulary, 1.3 MB, comes with the `open_clip_torch` package, which is located but never imported:
importing it takes seconds and pulls in torch. Its hash is pinned, and so are the ids.

Ids: those of `prep.byte_pairs`, then START_OF_TEXT, END_OF_TEXT.

As in open_clip, the literal texts "<start_of_text>" and "<end_of_text>" in a caption become those very ids, and a
model that pools at the first end of text reads no further; the "<|endoftext|>" of OpenAI's own tokenizer is
punctuation and letters.
"""

import gzip
import hashlib
from array import array
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

from prep.byte_pairs import merge, parse_merges, spelled_by, symbols_of
from prep.captions import clean
from prep.chunks import ChunkTable
from prep.errors import UserError
from prep.store import CONTEXT_LENGTH
from prep.token_marks import marks_of

START_OF_TEXT = 49406
END_OF_TEXT = 49407
VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"

Word = tuple[tuple[int, ...], int, int]
"""The ids of one word, and the word's place in the text: start, end."""

_SPECIAL = {"<start_of_text>": START_OF_TEXT, "<end_of_text>": END_OF_TEXT}
# OpenAI's pattern with open_clip's names of the special tokens. No alternative matches a space, and none looks around
# itself, so what lies between two spaces can be split, and remembered, on its own.
_WORD = regex.compile(
    rf"{'|'.join(_SPECIAL)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)
# Bounds on what is remembered: about 30 MB. A longer text between two spaces is a rare address or a script without
# spaces.
_MAX_REMEMBERED = 1 << 16
_MAX_REMEMBERED_LENGTH = 64


class Encoded(NamedTuple):
    """The ids of many texts, one text after another: uint16 [I].

    starts: int64 [I], place in its text of the word that an id belongs to; ends: int64 [B], of each text in I.
    """

    ids: NDArray[np.uint16]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Chunks(dict[str, tuple[Word, ...]]):
    """The words of each text between two spaces, encoded when first asked for: what tokenizers differ in."""

    def __init__(self) -> None:
        super().__init__()
        self._table, self._ids = ChunkTable(), array("H")

    def words(self, chunk: str) -> tuple[Word, ...]:
        """The words of one text without spaces."""
        raise NotImplementedError

    def __missing__(self, chunk: str) -> tuple[Word, ...]:
        words = self.words(chunk)
        if len(chunk) <= _MAX_REMEMBERED_LENGTH:
            if len(self) >= _MAX_REMEMBERED:
                self.clear()
            self[chunk] = words
        return words

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See `Tokenizer.encode_texts`."""
        if len(self._table) > _MAX_REMEMBERED or self._table.num_parts > 8 * _MAX_REMEMBERED:
            self._table, self._ids = ChunkTable(), array("H")
        found = self._table.find([text.split(" ") for text in texts], self._learn)
        parts = self._table.parts(found)
        ids = np.frombuffer(self._ids, np.uint16)[parts.rows] if self._ids else np.zeros(0, np.uint16)
        return Encoded(ids, parts.starts, parts.ends)

    def _learn(self, new: list[str]) -> None:
        for chunk in new:
            words = self.words(chunk)
            self._table.add(chunk, [start for ids, start, _ in words for _ in ids])
            self._ids.extend(id_ for ids, _, _ in words for id_ in ids)


class _ClipChunks(Chunks):
    def __init__(self, merges: dict[tuple[int, int], int]) -> None:
        super().__init__()
        self._merges = merges

    def words(self, chunk: str) -> tuple[Word, ...]:
        return tuple((self._encode(m.group()), m.start(), m.end()) for m in _WORD.finditer(chunk))

    def _encode(self, word: str) -> tuple[int, ...]:
        if word in _SPECIAL:
            return (_SPECIAL[word],)
        return merge(symbols_of(word), self._merges)


class Tokenizer:
    """CLIP's tokenizer, and the shape of every other.

    start, end: the ids that enclose a text. fingerprint: the hash of the vocabulary.
    """

    name = "clip-bpe-49408"
    fingerprint = f"sha256:{VOCABULARY_SHA256}"
    start, end = START_OF_TEXT, END_OF_TEXT

    def __init__(self, merges: dict[tuple[int, int], int]) -> None:
        self._chunks: Chunks = _ClipChunks(merges)
        self._merges = merges

    def identity(self) -> dict[str, str]:
        """What a manifest records; two stores with the same identity hold the same ids for the same captions."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def spelled(self) -> list[bytes]:
        """What each id spells, in the order of ids: UTF-8 that may be cut within a character, nothing for the ends."""
        return [*spelled_by(self._merges), b"", b""]

    def marks(self) -> NDArray[np.uint8]:
        """What the text masks must know of each id: uint8 [vocabulary size], see `prep.token_marks`."""
        return marks_of(self.spelled())

    def encode_words(self, text: str) -> list[Word]:
        """The words of a text that is clean and lower-cased already, in order, with their places in it."""
        words: list[Word] = []
        offset = 0
        for chunk in text.split(" "):
            for ids, start, end in self._chunks[chunk]:
                words.append((ids, offset + start, offset + end))
            offset += len(chunk) + 1
        return words

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """The ids of many texts that are clean and lower-cased already, with their places: `encode_words`, flat."""
        return self._chunks.encode(texts)

    def encode(self, text: str) -> list[int]:
        """The ids of a raw text, neither truncated nor enclosed in start and end of text."""
        chunks = self._chunks
        return [id_ for chunk in clean(text).lower().split(" ") for ids, _, _ in chunks[chunk] for id_ in ids]

    def tokenize(self, texts: Sequence[str], context_length: int = CONTEXT_LENGTH) -> NDArray[np.int64]:
        """Raw texts to int64 [N, context_length]: start of text, ids, end of text, zero padding.

        A longer text is truncated, with end of text in the last place: `open_clip.tokenize`, as a numpy array.
        """
        assert not isinstance(texts, str), "a list of texts, not one text"
        tokens = np.zeros((len(texts), context_length), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self.start, *self.encode(text)[: context_length - 2], self.end]
            row[: len(ids)] = ids
        return tokens


def _vocabulary_path() -> Path:
    package = find_spec("open_clip")
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder) / VOCABULARY_FILE).is_file():
            return path
    raise UserError(
        VOCABULARY_FILE,
        "wanted CLIP's vocabulary, which the package open_clip_torch brings; it is not installed",
        "pip install open_clip_torch",
    )


@cache
def load_tokenizer(name: str = "clip") -> Tokenizer:
    """The tokenizer of that name, made once a process: clip, bert or bert:FILE (see `prep.bert_tokenizer`), or
    clip-nltk (see `prep.nltk_tokens`).

    Raises `UserError` for another name, or when the vocabulary is missing or not the known one.
    """
    kind, colon, file = name.partition(":")
    if kind == "bert" and bool(colon) == bool(file):
        from prep.bert_tokenizer import load_bert_tokenizer

        return load_bert_tokenizer(Path(file) if file else None)
    if name == "clip-nltk":
        from prep.nltk_tokens import NltkTokenizer

        return NltkTokenizer(_load_clip())
    if name != "clip":
        raise UserError("tokenizer", f"wanted clip, bert, bert:FILE or clip-nltk, found {name}", "Choose one of these.")
    return _load_clip()


def _load_clip() -> Tokenizer:
    path = _vocabulary_path()
    packed = path.read_bytes()
    if (found := hashlib.sha256(packed).hexdigest()) != VOCABULARY_SHA256:
        raise UserError(
            str(path),
            f"wanted the vocabulary with sha256 {VOCABULARY_SHA256}, found {found}",
            "pip install --force-reinstall --no-deps open_clip_torch",
        )
    return Tokenizer(parse_merges(gzip.decompress(packed).decode("utf-8")))
