"""Text-token reduction: every strategy ranks a caption's tokens; the best T are kept in reading order.

    truncate      the first tokens
    random        a uniform subset
    block         a window, uniform among all windows
    syntax        by word class (noun, adjective, verb, other), earlier tokens first; the default
    shuffle       the tokens of `random` in the order drawn, as open_clip's mask of that name
    sub-caption   from a sentence on, drawn uniformly: see `prep.sentence_starts`
    syntax-torch  whole words by class, then cut from the right: CLIPA's torch code and open_clip, see `prep.word_masks`
    syntax-jax    the same of BERT's words, with a class for each entry of its vocabulary: CLIPA's JAX code

`syntax` counts its budget in tokens, so that all of it is used and nothing selected is ever cut. The other two count it
in words and cut what the pieces of long words push over the edge; they are there to repeat what was published.

A content token's rank is one integer key, unique in its caption: (word class or draw, position). The keys of the tokens
kept are those up to the K-th smallest, K = T - 2: start and end of text are kept by every strategy, and padding ranks
last. Without an end token K is T - 1. Most captions are shorter than the longest one, and many fit in T: only longer
ones are ranked, sorted by length and a few at a time, so that neither padding nor a large batch's memory is worked on.
tests/slow_text_masks.py ranks plainly.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prep.draws import U64, uniforms, words
from prep.errors import UserError
from prep.sentence_starts import sub_captions
from prep.token_marks import CONTINUES
from prep.word_masks import best_words, split_priorities

TEXT_MASKS = ("truncate", "random", "block", "syntax", "shuffle", "sub-caption", "syntax-torch", "syntax-jax")
READING_MASKS = TEXT_MASKS[:4]
"""Those that keep the order of reading and need no more than ids and priorities."""
WORD_MASKS = ("syntax-torch", "syntax-jax")
MARKED_MASKS = ("sub-caption", "syntax-jax")
"""Those that want to know something of each id: `marks`."""

_OTHER_NAMES = {"simple": "block", "": "truncate"}
# Ranked in one go: the keys stay in the second-level cache, and the cost of calling numpy is spread over enough rows.
_GROUP = 512
# More than so many go in two parts: the few long captions of a small batch would widen all of it.
_WHOLE = 128
_DRAWN_BITS = np.uint64(0xFFFFFFFFFF000000)

_NO_MARKS = np.zeros(0, np.uint8)

Ranks = NDArray[np.unsignedinteger]


def text_mask_of(name: str) -> str:
    """The mask of TEXT_MASKS that a recipe means, in our words or the reference's.

    CLIPA's `text_mask` is one of truncate, random, block, syntax; open_clip's `reduction_mask` one of simple (`block`),
    random, shuffle, syntax, or nothing (`truncate`). `syntax` is ours in both; `syntax-torch` is theirs to the letter.
    Raises `UserError` for any other name.
    """
    mask = _OTHER_NAMES.get(name, name)
    if mask not in TEXT_MASKS:
        problem = f"wanted one of {', '.join(TEXT_MASKS)}, or simple; found {name}"
        raise UserError("text_mask", problem, "Choose one of these; python -m prep.compare_masks shows what they keep.")
    return mask


def select(
    tokens: NDArray[np.uint16],
    priorities: NDArray[np.uint8],
    num_tokens: NDArray[np.uint8],
    text_tokens: int,
    text_mask: str,
    keys: U64,
    end_token: bool = True,
    marks: NDArray[np.uint8] | None = None,
) -> NDArray[np.int64]:
    """Reduce captions to `text_tokens` tokens: int64 [B, T], zero padded.

    tokens: uint16 [B, L], start of text first, zero padded. priorities: uint8 [B, L], 0 at the ends, word class 1-4
    (lower is kept longer), 255 at padding; for `syntax-torch` those of the tokenizer `clip-nltk`. num_tokens: uint8
    [B], ends included. keys: uint64 [B], drawn from (seed, epoch, row); `random`, `block`, `shuffle` and `sub-caption`
    use them. end_token: False leaves the end of text out of every row, so that one more content token has room.
    marks: uint8 [vocabulary size], of `prep.token_marks`; MARKED_MASKS want them. Raises ValueError for an unknown mask
    or a length outside 2 ... L.

    In all but the masks of whole words a larger budget keeps a superset of a smaller one.
    """
    length, ends_at = tokens.shape[1], text_tokens - end_token
    if text_mask not in TEXT_MASKS or not 2 <= text_tokens <= length:
        raise ValueError(f"text_mask {text_mask!r} (one of {TEXT_MASKS}) at {text_tokens} of {length} tokens")
    assert marks is not None or text_mask not in MARKED_MASKS, f"{text_mask} without marks"
    marks = _NO_MARKS if marks is None else marks
    kept = tokens[:, :text_tokens].astype(np.int64, order="C")
    if not end_token:
        whole = np.flatnonzero(num_tokens <= text_tokens)
        kept[whole, num_tokens[whole].astype(np.intp) - 1] = 0
    longer = np.flatnonzero(num_tokens > ends_at + 1)
    if not len(longer):
        return kept
    last = num_tokens[longer].astype(np.intp) - 1
    if end_token:
        kept[longer, ends_at] = tokens[longer, last]
    if text_mask == "truncate" or ends_at == 1:
        return kept
    if text_mask == "block":
        window = _block_starts(last, ends_at - 1, keys[longer])[:, None] + np.arange(ends_at - 1)
        kept[longer, 1:ends_at] = tokens[longer[:, None], window]
        return kept
    if text_mask == "sub-caption":
        kept[longer, 1:] = sub_captions(tokens[longer], last, text_tokens - 1, keys[longer], marks, end_token)
        return kept
    for group in _groups(num_tokens[longer]):
        rows, ends = longer[group], last[group]
        content, is_outside = tokens[rows, 1 : ends[-1]], np.arange(1, ends[-1]) >= ends[:, None]
        if text_mask in WORD_MASKS:
            classes, continues = split_priorities(priorities[rows, 1 : ends[-1]])
            if text_mask == "syntax-jax":
                continues = (marks[content] & CONTINUES) > 0
            kept[rows, 1:ends_at] = best_words(content, classes, continues, is_outside, ends_at - 1)
            continue
        rank = _classes(priorities[rows, 1 : ends[-1]]) if text_mask == "syntax" else _draws(keys[rows], ends[-1])
        rank[is_outside] = np.iinfo(rank.dtype).max
        choose = _as_drawn if text_mask == "shuffle" else _best
        kept[rows, 1:ends_at] = choose(content, rank, ends_at - 1)
    return kept


def _groups(num_tokens: NDArray[np.uint8]) -> Iterator[NDArray[np.intp]]:
    """The captions to be ranked together, as places in `num_tokens`, the shortest first and the longest last."""
    order = np.argsort(num_tokens, kind="stable")
    while len(order):
        size = len(order) if len(order) <= _WHOLE else min(_GROUP, len(order) * 7 // 8)
        yield order[:size]
        order = order[size:]


def _best(content: NDArray[np.uint16], rank: Ranks, count: int) -> NDArray[np.uint16]:
    """The `count` tokens of smallest rank in each row, in reading order; every row has so many."""
    threshold = np.partition(rank, count - 1, axis=1)[:, count - 1 : count]
    places = np.flatnonzero(rank <= threshold)
    return content.ravel().take(places).reshape(-1, count)


def _as_drawn(content: NDArray[np.uint16], rank: Ranks, count: int) -> NDArray[np.uint16]:
    """The same, the smallest rank first: its low bits are the token's position, counted from 1."""
    smallest = np.sort(np.partition(rank, count - 1, axis=1)[:, :count], axis=1)
    return np.take_along_axis(content, (smallest & ~_DRAWN_BITS).astype(np.intp) - 1, axis=1)


def _classes(priorities: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The ranks of `syntax`: (word class, position)."""
    rank = priorities.astype(np.uint32)
    rank <<= np.uint32(8)
    rank |= np.arange(rank.shape[1], dtype=np.uint32)
    return rank


def _draws(keys: U64, width: int) -> U64:
    """The ranks of `random`: (40 bits drawn for the token's position in its caption, that position)."""
    position = np.arange(1, width, dtype=np.uint64)
    rank = words(keys[:, None], position)
    rank &= _DRAWN_BITS
    rank |= position
    return rank


def _block_starts(last: NDArray[np.intp], count: int, keys: U64) -> NDArray[np.intp]:
    """Where the window of `count` content tokens begins, in captions that have more of them.

    The start floor(u x (number of windows)) is uniform, and because it moves left by at most one when the window
    grows by one, windows of growing size are nested for a fixed draw u.
    """
    num_windows = last - count
    draw = uniforms(keys, np.zeros_like(keys))
    return 1 + (draw * num_windows).astype(np.intp)
