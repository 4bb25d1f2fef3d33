"""BERT's WordPiece: its published ids, the ids of two other implementations, places, and vocabularies of one's own."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep.bert_tokenizer import BertTokenizer, load_bert_tokenizer
from prep.captions import clean
from prep.errors import UserError
from prep.taggers import NOUN, Tagged
from prep.text_columns import ENDS, PADDING, annotate
from prep.tokenizer import load_tokenizer

UNKNOWN = 100
FOREIGN = [
    *("naïve Café", "東京タワー", "한국어 캡션", "e\u0301 \u0300 alone", "Ёлка", "हिन्दी में", "السلام", "ไทย ครับ"),
    *("“quoted” – dash—", "zero\u200bwidth", "½ ² ™", "emoji 🙂🙂 ok", "👨\u200d👩", "a\x07b a\ufffdb", "，。！〜"),
    *("straße", "ﬁne", "Đà Nẵng", "İstanbul", "x" * 100, "x" * 101, "é" * 101, "豈 𠀀"),
    *("[SEP] [unused1] ##ing", "C++ #tag @you $5.00 don't co-op's"),
]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return load_bert_tokenizer()


def ids_of(tokenizer: BertTokenizer, text: str) -> list[int]:
    return [id_ for ids, _, _ in tokenizer.encode_words(clean(text).lower()) for id_ in ids]


def test_published_ids(tokenizer: BertTokenizer) -> None:
    assert tokenizer.identity()["name"] == "bert-wordpiece-30522"
    assert (tokenizer.start, tokenizer.end) == (101, 102)
    assert tokenizer.tokenize(["Hello, World!", "unaffable"], 8).tolist() == [
        [101, 7592, 1010, 2088, 999, 102, 0, 0],
        [101, 14477, 20961, 3468, 102, 0, 0, 0],
    ]


def test_ids_and_places_are_blingfires_on_ascii(tokenizer: BertTokenizer) -> None:
    import blingfire

    model = blingfire.load_model(str(Path(blingfire.__file__).parent / "bert_base_tok.bin"))
    rng = random.Random(0)
    letters = "".join(map(chr, range(33, 127))) + "aeiou      " * 9
    texts = [clean("".join(rng.choices(letters, k=rng.randint(1, 90)))) for _ in range(400)]
    texts += ["a red dog's un-imaginably long-lasting bone", "[CLS] dog [SEP]"]
    try:
        for text in texts:
            ids, starts, ends = blingfire.utf8text_to_ids_with_offsets(model, text.encode(), 200, UNKNOWN, True)
            words = tokenizer.encode_words(text.lower())
            assert [id_ for word, _, _ in words for id_ in word] == ids.tolist()
            heads = np.cumsum([0, *(len(word) for word, _, _ in words)])
            assert [start for _, start, _ in words] == starts[heads[:-1]].tolist()
            assert [end for _, _, end in words] == (ends[heads[1:] - 1] + 1).tolist()
    finally:
        blingfire.free_model(model)


@given(text=st.lists(st.sampled_from(FOREIGN) | st.text(max_size=4)).map(" ".join))
def test_ids_are_those_of_hugging_face(tokenizer: BertTokenizer, text: str) -> None:
    """Its Unicode tables are older than ours: younger characters are left out."""
    import tokenizers

    word_piece = tokenizers.models.WordPiece({e: i for i, e in enumerate(tokenizer.entries)}, unk_token="[UNK]")
    theirs = tokenizers.Tokenizer(word_piece)
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    text = clean("".join(char for char in text if ord(char) < 0x250 or char in "".join(FOREIGN))).lower()
    assert ids_of(tokenizer, text) == theirs.encode(text, add_special_tokens=False).ids


def test_what_blingfire_does_not_know(tokenizer: BertTokenizer) -> None:
    """Decomposed, the syllables are in the vocabulary; accents and control characters do not count."""
    entries = tokenizer.entries
    assert UNKNOWN not in ids_of(tokenizer, "한국어 हिन्दी")
    assert ids_of(tokenizer, "e\u0301te\u0301") == ids_of(tokenizer, "été") == ids_of(tokenizer, "ete")
    assert ids_of(tokenizer, "zero\u200bwidth") == ids_of(tokenizer, "zerowidth")
    assert [entries[id_] for id_ in ids_of(tokenizer, "東京タワー")] == ["東", "京", "タ", "##ワ", "##ー"]
    assert ids_of(tokenizer, "🙂") == ids_of(tokenizer, "x" * 101) == [UNKNOWN]
    assert UNKNOWN not in ids_of(tokenizer, "x" * 100)
    assert [entries[id_] for id_ in ids_of(tokenizer, "[SEP]")] == ["[", "sep", "]"]


@given(text=st.lists(st.sampled_from(FOREIGN) | st.text(max_size=6)).map(" ".join))
def test_words_are_places_in_the_text(tokenizer: BertTokenizer, text: str) -> None:
    lowered = clean(text).lower()
    end_before = 0
    for ids, start, end in tokenizer.encode_words(lowered):
        assert end_before <= start < end <= len(lowered)
        assert " " not in lowered[start:end]
        assert tokenizer.encode_words(lowered[start:end])[0][0] == ids
        end_before = end


def test_a_vocabulary_file_of_ones_own(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    same = tmp_path / "vocab.txt"
    same.write_text("\n".join(tokenizer.entries) + "\n", encoding="utf-8")
    assert load_tokenizer(f"bert:{same}").identity() == load_tokenizer("bert").identity() == tokenizer.identity()
    other = tmp_path / "other.txt"
    other.write_bytes("[UNK]\r\n[SEP]\r\n[CLS]\r\ndog\r\n##s\r\né".encode())
    found = load_tokenizer(f"bert:{other}")
    assert found.tokenize(["Dogs dog é cat"], 8).tolist() == [[2, 3, 4, 3, 0, 0, 1, 0]]
    assert found.identity()["name"] == "bert-wordpiece-6"
    assert found.identity()["fingerprint"] != tokenizer.fingerprint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is none"),
        (b"[UNK]\n[CLS]\ndog\n", r"\[SEP\] missing"),
        (b"[UNK]\n[CLS]\n[SEP]\n\xff\n", "wanted UTF-8"),
        (b"[UNK]\n[CLS]\n[SEP]\n" + b"a\n" * 65_534, "65,537"),
    ],
)
def test_a_bad_vocabulary_is_a_message(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_tokenizer(f"bert:{path}")


@pytest.mark.parametrize("name", ["", "bert:", "clip:x", "gpt2"])
def test_an_unknown_name_is_a_message(name: str) -> None:
    with pytest.raises(UserError, match="wanted clip, bert, bert:FILE or clip-nltk"):
        load_tokenizer(name)


def test_a_missing_package_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blingfire", None)
    with pytest.raises(UserError, match="pip install blingfire"):
        load_bert_tokenizer()


class FirstLetter:
    """A tagger of words between spaces: those that begin with d are nouns."""

    def identity(self) -> dict[str, str]:
        return {"name": "first letter"}

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        words = [[(i, t[i]) for i in range(len(t)) if t[i] != " " and (i == 0 or t[i - 1] == " ")] for t in texts]
        return [
            Tagged(np.array([i for i, _ in w], np.int32), np.array([NOUN if c in "dD" else 4 for _, c in w], np.uint8))
            for w in words
        ]


def test_text_columns_by_bert(tokenizer: BertTokenizer) -> None:
    columns = annotate(["İ Dog unaffable Dédoublé", "d " * 80], tokenizer, FirstLetter())
    assert columns.tokens[0, :6].tolist() == [101, 1045, 3899, 14477, 20961, 3468]
    num_pieces = len(ids_of(tokenizer, "dedouble"))
    assert columns.priorities[0, :6].tolist() == [ENDS, 4, NOUN, 4, 4, 4]
    assert columns.priorities[0, 6 : 8 + num_pieces].tolist() == [NOUN] * num_pieces + [ENDS, PADDING]
    assert columns.tokens[:, 76].tolist() == [0, 102]
    assert columns.truncated.tolist() == [False, True]
