"""BERT's WordPiece, uncased: the ids of CLIPA's JAX code, and so of all CLIPA-v2 models.

A text is stripped of accents and control characters, split at white space, punctuation and ideographs, and each word
cut from the left into the longest pieces that the vocabulary holds; those inside a word are marked `##`. A word with no
such cut, or of more than 100 characters, is one [UNK]. These are the ids that Hugging Face's `tokenizers` gives, but
with no special names: "[SEP]" in a caption is a word between brackets.

`load_tokenizer("bert")` takes the vocabulary of `bert-base-uncased`, 30,522 entries, out of the package `blingfire`,
which is located but never imported: its own tokenizer differs outside ASCII (Korean, Devanagari, combining marks).
`load_tokenizer("bert:FILE")` reads a `vocab.txt`, an entry a line.

A store's row is enclosed as a row of CLIP's is: [CLS], pieces, [SEP]. CLIPA's JAX code has no [SEP]: a model that wants
none takes it for padding (0), as open_clip does for these weights (`strip_sep_token`).
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from unicodedata import normalize

import numpy as np
import regex
from numpy.typing import NDArray

from prep.errors import UserError
from prep.token_marks import CONTINUES
from prep.tokenizer import Chunks, Tokenizer, Word

INSTALL = "pip install blingfire==0.1.8"
VOCABULARY_FILE = "bert_base_tok.i2w"
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
"""Of `vocab.txt` as Google published it: the entries, a line feed after each."""

CLS, SEP, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"

_MAX_WORD = 100
_MAX_ENTRIES = 1 << 16  # ids are stored as uint16
# What BERT calls punctuation: Unicode's, and the ASCII symbols. Each ideograph is a word of its own; kana are letters.
_SINGLE = (
    r"\p{P}$+<=>^`|~"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002f800-\U0002fa1f"
)
_WORD = regex.compile(rf"[{_SINGLE}]|[^\s{_SINGLE}]+")
_DROPPED = regex.compile(r"[\p{Mn}\p{Cc}\p{Cf}\p{Co}\ufffd]")


class _BertChunks(Chunks):
    def __init__(self, entries: Sequence[str]) -> None:
        super().__init__()
        self._id_of = {entry: id_ for id_, entry in enumerate(entries)}
        self._longest = max(map(len, entries))

    def words(self, chunk: str) -> tuple[Word, ...]:
        if chunk.isascii() and chunk.isprintable():
            return tuple((self._pieces(m.group()), m.start(), m.end()) for m in _WORD.finditer(chunk))
        text, origin = _stripped(chunk)
        found = ((self._pieces(m.group()), m.start(), m.end()) for m in _WORD.finditer(text))
        return tuple((ids, origin[start], origin[end - 1] + 1) for ids, start, end in found)

    def _pieces(self, word: str) -> tuple[int, ...]:
        unknown = (self._id_of[UNKNOWN],)
        if len(word) > _MAX_WORD:
            return unknown
        pieces, start, mark = [], 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                if (id_ := self._id_of.get(mark + word[start:end])) is not None:
                    break
            else:
                return unknown
            pieces.append(id_)
            start, mark = end, "##"
        return tuple(pieces)


def _stripped(chunk: str) -> tuple[str, list[int]]:
    """The text decomposed, without accents and control characters, and the place in `chunk` of each character."""
    kept = [
        (char, place)
        for place, composed in enumerate(chunk)
        for char in normalize("NFD", composed)
        if not _DROPPED.match(char)
    ]
    return "".join(char for char, _ in kept), [place for _, place in kept]


class BertTokenizer(Tokenizer):
    """WordPiece over any vocabulary with [CLS], [SEP] and [UNK]. entries: in the order of their ids."""

    def __init__(self, entries: Sequence[str]) -> None:
        self.entries = tuple(entries)
        self.name = f"bert-wordpiece-{len(entries)}"
        self.fingerprint = f"sha256:{_hash(entries)}"
        self.start, self.end = entries.index(CLS), entries.index(SEP)
        self._chunks = _BertChunks(entries)

    def spelled(self) -> list[bytes]:
        """See `Tokenizer`; without the ## of a piece inside a word."""
        ends = (CLS, SEP)
        return [b"" if entry in ends else entry.removeprefix("##").encode() for entry in self.entries]

    def marks(self) -> NDArray[np.uint8]:
        """See `Tokenizer`."""
        continues = [CONTINUES * (entry.startswith("##") and len(entry) > 2) for entry in self.entries]
        return super().marks() | np.array(continues, np.uint8)


def _hash(entries: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{entry}\n" for entry in entries).encode()).hexdigest()


def load_bert_tokenizer(path: Path | None = None) -> BertTokenizer:
    """The tokenizer of a `vocab.txt`, or without one of `bert-base-uncased`.

    Raises `UserError` when the vocabulary is missing or none.
    """
    if path is not None:
        return BertTokenizer(_read_vocabulary(path))
    package = find_spec("blingfire")
    for folder in (package and package.submodule_search_locations) or ():
        if (packed := Path(folder) / VOCABULARY_FILE).is_file():
            break
    else:
        raise UserError(
            "tokenizer bert",
            "wanted BERT's vocabulary, which the package blingfire brings; it is not installed",
            f"{INSTALL}   or name a vocab.txt: bert:FILE",
        )
    entries = list(unpack(packed.read_bytes()))
    if (found := _hash(entries)) != VOCABULARY_SHA256:
        problem = f"wanted the vocabulary with sha256 {VOCABULARY_SHA256}, found {found}"
        raise UserError(str(packed), problem, INSTALL)
    return BertTokenizer(entries)


def unpack(packed: bytes) -> Iterator[str]:
    """The vocabulary in blingfire's file, as BERT writes it.

    Little-endian: at byte 96 the number of entries N, then N + 1 offsets, then the entries: one that begins a word has
    a space before it, the others have lost their ##. Four special names are in lower case there.
    """
    (num_entries,) = struct.unpack_from("<I", packed, 96)
    offsets = struct.unpack_from(f"<{num_entries + 1}I", packed, 100)
    text = packed[100 + 4 * len(offsets) :]
    special = {name.lower(): name for name in (CLS, SEP, UNKNOWN, "[MASK]")}
    for start, end in pairwise(offsets):
        entry = text[start:end].decode()
        yield special.get(entry[1:], entry[1:]) if entry.startswith(" ") else f"##{entry}"


def _read_vocabulary(path: Path) -> list[str]:
    remedy = "Give the vocab.txt of an uncased BERT: one entry a line, UTF-8."
    if not path.is_file():
        raise UserError(str(path), "wanted a vocabulary file; there is none", remedy)
    try:
        entries = path.read_bytes().decode("utf-8").removesuffix("\n").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"wanted UTF-8, found byte {error.start} that is none", remedy) from error
    if missing := [name for name in (CLS, SEP, UNKNOWN) if name not in entries]:
        raise UserError(str(path), f"wanted the entries {CLS}, {SEP}, {UNKNOWN}; {', '.join(missing)} missing", remedy)
    if len(entries) > _MAX_ENTRIES:
        problem = f"wanted at most {_MAX_ENTRIES:,} entries, the ids of 16 bits; found {len(entries):,}"
        raise UserError(str(path), problem, remedy)
    return entries
