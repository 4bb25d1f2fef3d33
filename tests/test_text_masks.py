"""The four text strategies: what they keep, and the properties that hold for all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prep.text_masks import TEXT_MASKS, select

LENGTH = 77
SOT, EOT = 49406, 49407


def caption(classes: list[int]) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]]:
    """One caption whose content token i has id i + 1 and word class classes[i]."""
    num = len(classes) + 2
    tokens, priorities = np.zeros((1, LENGTH), np.uint16), np.full((1, LENGTH), 255, np.uint8)
    tokens[0, :num] = [SOT, *range(1, num - 1), EOT]
    priorities[0, :num] = [0, *classes, 0]
    return tokens, priorities, np.array([num], np.uint8)


def kept(classes: list[int], text_tokens: int, text_mask: str, key: int = 0) -> list[int]:
    rows = select(*caption(classes), text_tokens, text_mask, np.array([key], np.uint64))
    assert rows.shape == (1, text_tokens)
    assert rows.dtype == np.int64
    return [int(token) for token in rows[0]]


def test_syntax_keeps_nouns_then_adjectives_then_verbs_then_the_rest() -> None:
    classes = [4, 2, 1, 3, 4, 4, 2, 1]
    assert kept(classes, 4, "syntax") == [SOT, 3, 8, EOT]
    assert kept(classes, 6, "syntax") == [SOT, 2, 3, 7, 8, EOT]
    assert kept(classes, 7, "syntax") == [SOT, 2, 3, 4, 7, 8, EOT]
    assert kept(classes, 8, "syntax") == [SOT, 1, 2, 3, 4, 7, 8, EOT]


def test_truncate_keeps_the_first_and_the_end() -> None:
    assert kept([1, 4, 4, 1, 1], 4, "truncate") == [SOT, 1, 2, EOT]


def test_a_short_caption_is_padded_whatever_the_strategy() -> None:
    for text_mask in TEXT_MASKS:
        assert kept([4, 1], 7, text_mask, key=3) == [SOT, 1, 2, EOT, 0, 0, 0]


def test_an_empty_caption_keeps_its_ends() -> None:
    for text_mask in TEXT_MASKS:
        assert kept([], 3, text_mask) == [SOT, EOT, 0]


def test_block_is_contiguous_and_uniform() -> None:
    starts = [kept([4] * 10, 6, "block", key)[1] for key in range(7000)]
    for key in range(50):
        window = kept([4] * 10, 6, "block", key)[1:-1]
        assert window == list(range(window[0], window[0] + 4))
    counts = np.bincount(starts, minlength=8)[1:]
    assert len(counts) == 7
    assert np.abs(counts - 1000).max() < 150


def test_random_keeps_every_token_equally_often() -> None:
    rows = [kept([4] * 10, 6, "random", key)[1:-1] for key in range(5000)]
    counts = np.bincount(np.concatenate(rows), minlength=11)[1:]
    assert np.abs(counts - 2000).max() < 200


CLASSES = st.lists(st.integers(1, 4), max_size=75)


@given(CLASSES, st.integers(2, 76), st.integers(0, 2**64 - 1), st.sampled_from(TEXT_MASKS))
def test_reading_order_ends_and_nesting(classes: list[int], text_tokens: int, key: int, text_mask: str) -> None:
    small, large = (kept(classes, length, text_mask, key) for length in (text_tokens, text_tokens + 1))
    content = [token for token in small if token not in (SOT, EOT, 0)]
    assert small[0] == SOT
    assert small[len(content) + 1] == EOT
    assert content == sorted(content)
    assert len(content) == min(len(classes), text_tokens - 2)
    assert set(small) - {0} <= set(large)


@given(CLASSES, st.integers(2, 77), st.integers(0, 2**64 - 1), st.sampled_from(TEXT_MASKS))
def test_a_batch_is_its_rows(classes: list[int], text_tokens: int, key: int, text_mask: str) -> None:
    parts = [caption(classes), caption([1]), caption(classes[::-1])]
    tokens, priorities, num = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys = np.array([key, 1, 2], np.uint64)
    rows = select(tokens, priorities, num, text_tokens, text_mask, keys)
    for i, part in enumerate(parts):
        assert rows[i].tolist() == select(*part, text_tokens, text_mask, keys[i : i + 1])[0].tolist()


@pytest.mark.parametrize(("text_tokens", "text_mask"), [(1, "syntax"), (78, "syntax"), (8, "simple")])
def test_wrong_arguments_are_refused(text_tokens: int, text_mask: str) -> None:
    with pytest.raises(ValueError, match="text_mask"):
        kept([1, 2], text_tokens, text_mask)
