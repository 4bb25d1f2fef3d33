"""Chunks: parts of many texts at once are those of each text alone, and what is remembered is bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep import tokenizer as module
from prep.chunks import ChunkTable
from prep.tokenizer import Tokenizer, load_tokenizer

texts_of_letters = st.lists(st.text("ab' 1", max_size=12), max_size=6)


@given(st.lists(texts_of_letters, max_size=4))
def test_parts_are_found_where_they_are(batches: list[list[str]]) -> None:
    table, taken = ChunkTable(), list[tuple[str, int]]()

    def learn(new: list[str]) -> None:
        """Two parts for each b: itself, and what it belongs to, the chunk."""
        for chunk in new:
            starts = [start for place, character in enumerate(chunk) if character == "b" for start in (place, 0)]
            table.add(chunk, starts)
            taken.extend((chunk, start) for start in starts)

    for texts in batches:
        rows, starts, ends = table.parts(table.find([text.split(" ") for text in texts], learn))
        expected = []
        for text in texts:
            place = 0
            for chunk in text.split(" "):
                for inside, character in enumerate(chunk):
                    expected += [(chunk, inside, place + inside), (chunk, 0, place)] if character == "b" else []
                place += len(chunk) + 1
        found = [(*taken[row], start) for row, start in zip(rows.tolist(), starts.tolist(), strict=True)]
        assert found == expected
        assert np.diff(ends, prepend=0).tolist() == [2 * text.count("b") for text in texts]
    assert len(table) == len({chunk for texts in batches for text in texts for chunk in text.split(" ")})
    assert table.num_parts == len(taken)


@given(st.lists(st.text("aB cç'1 .😀", max_size=30).map(str.lower), max_size=6))
def test_many_texts_are_encoded_as_each_is(texts: list[str]) -> None:
    tokenizer = load_tokenizer()
    ids, starts, ends = tokenizer.encode_texts(texts)
    words = [tokenizer.encode_words(text) for text in texts]
    assert ids.dtype == np.uint16
    assert ids.tolist() == [id_ for text in words for word, _, _ in text for id_ in word]
    assert starts.tolist() == [start for text in words for word, start, _ in text for _ in word]
    assert np.diff(ends, prepend=0).tolist() == [sum(len(word) for word, _, _ in text) for text in words]


def test_what_a_tokenizer_remembers_of_chunks_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [[f"word{n} of {n * n}", "the same dog"] for n in range(40)]
    expected = [load_tokenizer().encode_texts(texts) for texts in batches]
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 5)
    fresh = Tokenizer(load_tokenizer()._chunks._merges)  # type: ignore[attr-defined]
    for texts, encoded in zip(batches, expected, strict=True):
        found = fresh.encode_texts(texts)
        assert [column.tolist() for column in found] == [column.tolist() for column in encoded]
        assert len(fresh._chunks._table) <= 5 + 6
