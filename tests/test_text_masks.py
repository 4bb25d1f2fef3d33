"""The text strategies: what they keep, the properties that hold for all of them, and the plain telling they equal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prep.draws import U64, words
from prep.errors import UserError
from prep.text_masks import READING_MASKS, TEXT_MASKS, WORD_MASKS, select, text_mask_of
from prep.token_marks import CLOSES, CONTINUES, DIGITS, STOPS
from prep.word_masks import WORD_GOES_ON
from tests.slow_text_masks import select as slow_select

LENGTH = 77
SOT, EOT = 49406, 49407
_MARKS = np.array([0, 0, 0, CONTINUES, CONTINUES | DIGITS, STOPS, CLOSES, DIGITS], np.uint8)
MARKS = np.random.default_rng(0).choice(_MARKS, 2**16)
"""Made up: of an id what it may be."""
ENDS = st.booleans()


def caption(classes: list[int]) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]]:
    """One caption whose content token i has id i + 1 and word class classes[i]."""
    num = len(classes) + 2
    tokens, priorities = np.zeros((1, LENGTH), np.uint16), np.full((1, LENGTH), 255, np.uint8)
    tokens[0, :num] = [SOT, *range(1, num - 1), EOT]
    priorities[0, :num] = [0, *classes, 0]
    return tokens, priorities, np.array([num], np.uint8)


def kept(classes: list[int], text_tokens: int, text_mask: str, key: int = 0, end_token: bool = True) -> list[int]:
    rows = select(*caption(classes), text_tokens, text_mask, np.array([key], np.uint64), end_token, MARKS)
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
        assert kept([4, 1], 7, text_mask, key=3, end_token=False) == [SOT, 1, 2, 0, 0, 0, 0]
        assert kept([4, 1], 3, text_mask, key=3, end_token=False) == [SOT, 1, 2]


def test_an_empty_caption_keeps_its_ends() -> None:
    for text_mask in TEXT_MASKS:
        assert kept([], 3, text_mask) == [SOT, EOT, 0]
        assert kept([], 2, text_mask, end_token=False) == [SOT, 0]


def test_without_an_end_token_one_more_has_room() -> None:
    assert kept([4, 2, 1, 3, 1], 4, "truncate", end_token=False) == [SOT, 1, 2, 3]
    assert kept([4, 2, 1, 3, 1], 4, "syntax", end_token=False) == [SOT, 2, 3, 5]
    assert kept([4, 2, 1, 3, 1], 2, "syntax", end_token=False) == [SOT, 3]


def test_shuffle_keeps_what_random_keeps_in_the_order_drawn() -> None:
    orders = set()
    for key in range(300):
        shuffled, in_order = (kept([4] * 6, 5, mask, key) for mask in ("shuffle", "random"))
        assert sorted(shuffled[1:-1]) == in_order[1:-1]
        assert kept([4] * 6, 6, "shuffle", key)[:4] == shuffled[:4]
        orders.add(tuple(shuffled[1:-1]))
    assert len(orders) > 90  # of 6 x 5 x 4 = 120


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


@given(CLASSES, st.integers(2, 76), st.integers(0, 2**64 - 1), st.sampled_from(TEXT_MASKS), ENDS)
def test_reading_order_ends_and_nesting(
    classes: list[int], text_tokens: int, key: int, text_mask: str, end_token: bool
) -> None:
    small, large = (kept(classes, length, text_mask, key, end_token) for length in (text_tokens, text_tokens + 1))
    content = [token for token in small if token not in (SOT, EOT, 0)]
    assert small == [SOT, *content, *[EOT] * end_token, *[0] * (text_tokens - 1 - end_token - len(content))]
    if text_mask != "shuffle":
        assert content == sorted(content)
    room = text_tokens - 1 - end_token
    if text_mask == "sub-caption" and len(classes) > room:
        assert content == list(range(content[0], content[-1] + 1)) if content else not room
    else:
        assert len(content) == min(len(classes), room)
    if text_mask not in WORD_MASKS:
        assert set(small) - {0} <= set(large)


@given(CLASSES, st.integers(2, 77), ENDS)
def test_syntax_keeps_no_token_over_a_better_one(classes: list[int], text_tokens: int, end_token: bool) -> None:
    """Its whole budget goes to the best: nothing that it selects is cut, and nothing worse takes a place."""
    ids = [token for token in kept(classes, text_tokens, "syntax", end_token=end_token) if token not in (SOT, EOT, 0)]
    dropped = set(range(1, len(classes) + 1)) - set(ids)
    worst = max(((classes[token - 1], token) for token in ids), default=(0, 0))
    assert all((classes[token - 1], token) > worst for token in dropped)


@given(CLASSES, st.integers(2, 77), st.integers(0, 2**64 - 1), st.sampled_from(TEXT_MASKS))
def test_a_batch_is_its_rows(classes: list[int], text_tokens: int, key: int, text_mask: str) -> None:
    parts = [caption(classes), caption([1]), caption(classes[::-1])]
    tokens, priorities, num = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys = np.array([key, 1, 2], np.uint64)
    rows = select(tokens, priorities, num, text_tokens, text_mask, keys, True, MARKS)
    for i, part in enumerate(parts):
        alone = select(*part, text_tokens, text_mask, keys[i : i + 1], True, MARKS)
        assert rows[i].tolist() == alone[0].tolist()


@st.composite
def batches(draw: st.DrawFn) -> tuple[tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]], U64, int]:
    """A batch of captions with keys, and T. Seeded, for what matters is drawn: how many rows, how long, how wide."""
    length = draw(st.integers(2, 120))
    num_rows = draw(st.sampled_from([0, 1, 5, 127, 129, 600, 1300]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shortest = draw(st.integers(2, length))
    num = rng.integers(shortest, draw(st.integers(shortest, length)) + 1, num_rows)
    num[rng.random(num_rows) < draw(st.sampled_from([0, 0.02]))] = length
    position, goes_on = np.arange(length), draw(st.sampled_from([0, 0.3]))
    is_end, is_padding = (position == 0) | (position == num[:, None] - 1), position >= num[:, None]
    tokens = np.where(is_padding, 0, rng.integers(1, 2**16, (num_rows, length)))
    ranks = rng.integers(1, 5, (num_rows, length)) + WORD_GOES_ON * (rng.random((num_rows, length)) < goes_on)
    priorities = np.where(is_padding, 255, np.where(is_end, 0, ranks))
    keys = rng.integers(0, 2**64, num_rows, np.uint64)
    caption_columns = tokens.astype(np.uint16), priorities.astype(np.uint8), num.astype(np.uint8)
    return caption_columns, keys, draw(st.integers(2, length))


@settings(deadline=None)
@given(batches(), ENDS)
@pytest.mark.parametrize("text_mask", TEXT_MASKS)
def test_the_selection_equals_the_plain_one(
    text_mask: str,
    batch: tuple[tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]], U64, int],
    end_token: bool,
) -> None:
    columns, keys, text_tokens = batch
    if text_mask not in READING_MASKS:  # which are told a token at a time
        columns, keys = (columns[0][:150], columns[1][:150], columns[2][:150]), keys[:150]
    before = [column.copy() for column in (*columns, keys)]
    rows = select(*columns, text_tokens, text_mask, keys, end_token, MARKS)
    assert rows.dtype == np.int64
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, slow_select(*columns, text_tokens, text_mask, keys, end_token, MARKS))
    for column, old in zip((*columns, keys), before, strict=True):
        np.testing.assert_array_equal(column, old)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_words_are_of_splitmix64(key: int, counter: int) -> None:
    def mix(word: int) -> int:
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    golden = 0x9E3779B97F4A7C15
    expected = mix(mix((key + golden) % 2**64) ^ counter * golden % 2**64)
    assert words(np.uint64(key), np.array([counter], np.uint64)).tolist() == [expected]


@pytest.mark.parametrize(("text_tokens", "text_mask"), [(1, "syntax"), (78, "syntax"), (8, "simple")])
def test_wrong_arguments_are_refused(text_tokens: int, text_mask: str) -> None:
    with pytest.raises(ValueError, match="text_mask"):
        kept([1, 2], text_tokens, text_mask)


def test_the_references_names_are_ours() -> None:
    assert [text_mask_of(mask) for mask in TEXT_MASKS] == list(TEXT_MASKS)
    assert [text_mask_of(mask) for mask in ("simple", "random", "shuffle", "syntax", "")] == [
        *("block", "random", "shuffle", "syntax"),
        "truncate",
    ]
    with pytest.raises(UserError, match=r"wanted one of truncate, .*, syntax-jax, or simple; found noun"):
        text_mask_of("noun")
