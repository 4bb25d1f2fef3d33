"""Ids equal those of open_clip and of Hugging Face's `tokenizers` on 30,000 texts, odd ones included."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from open_clip.tokenizer import SimpleTokenizer

from prep.bert_tokenizer import BertTokenizer
from prep.captions import clean
from prep.tokenizer import load_tokenizer

from .caption_corpus import corpus, demo_captions, long_captions

NUM_TEXTS = 30_000


@cache
def texts() -> list[str]:
    """Of the vocabulary with odd fragments, of the demo, and long ones."""
    found = [*corpus(13_000), *demo_captions(12_000), *long_captions(5_000)]
    assert len(found) == NUM_TEXTS
    return found


def test_clips_ids_are_open_clips() -> None:
    oracle, ours = SimpleTokenizer(), load_tokenizer()
    mine = [ours.encode(text) for text in texts()]
    assert [text for text, ids in zip(texts(), mine, strict=True) if ids != oracle.encode(text)] == []
    assert len({id_ for ids in mine for id_ in ids}) > 25_000
    some = texts()[::30]
    assert np.array_equal(ours.tokenize(some), oracle(some).numpy())


def test_berts_ids_are_hugging_faces(tmp_path: Path) -> None:
    """From a `vocab.txt`, which both read."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    bert = load_tokenizer("bert")
    assert isinstance(bert, BertTokenizer)
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{entry}\n" for entry in bert.entries), encoding="utf-8")
    oracle = Tokenizer(WordPiece.from_file(str(path), unk_token="[UNK]", max_input_chars_per_word=100))
    oracle.normalizer = BertNormalizer(lowercase=True)
    oracle.pre_tokenizer = BertPreTokenizer()
    ours = load_tokenizer(f"bert:{path}")
    cleaned = [clean(text).lower() for text in texts()]
    theirs = oracle.encode_batch(cleaned, add_special_tokens=False)
    mine = [[id_ for ids, _, _ in ours.encode_words(text) for id_ in ids] for text in cleaned]
    assert [text for text, ids, own in zip(cleaned, theirs, mine, strict=True) if ids.ids != own] == []
    assert len({id_ for ids in mine for id_ in ids}) > 15_000


@pytest.mark.parametrize("name", ["clip", "bert"])
def test_flat_ids_are_those_of_a_text_at_a_time(name: str) -> None:
    """What a build calls: all texts of a batch at once."""
    tokenizer = load_tokenizer(name)
    cleaned = [clean(text).lower() for text in texts()[::6]]
    flat = tokenizer.encode_texts(cleaned)
    assert flat.ids.tolist() == [id_ for text in cleaned for ids, _, _ in tokenizer.encode_words(text) for id_ in ids]
