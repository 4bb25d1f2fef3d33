"""Counter-based randomness: every draw is a pure function of (seed, epoch, row, operation), so nothing has a state to
save.

The generator is the finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words with full
avalanche.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: splitmix64's step from one counter to the next."""
_TO_53_BITS = np.uint64(11)


def stream(seed: int, epoch: int, operation: str) -> int:
    """The 64-bit key of one operation in one epoch; the pair is hashed, so seed 1 epoch 0 is not seed 0 epoch 1."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{operation}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def mix(words: U64) -> U64:
    """splitmix64's finaliser, element by element (wraps modulo 2^64), of an array of one dimension or more."""
    # In place: a fresh array for each of the eight steps would cost more than the steps.
    mixed = words >> _SHIFTS[0]
    mixed ^= words
    mixed *= _FACTORS[0]
    shifted = mixed >> _SHIFTS[1]
    mixed ^= shifted
    mixed *= _FACTORS[1]
    np.right_shift(mixed, _SHIFTS[2], out=shifted)
    mixed ^= shifted
    return mixed


def words(keys: U64 | np.uint64, counter: U64) -> U64:
    """Random 64-bit words for broadcastable keys and counters; equal inputs give equal words."""
    keys = np.atleast_1d(keys)  # numpy warns of wrapping in scalars, but not in arrays
    return mix(mix(keys + GOLDEN) ^ (counter * GOLDEN))


def uniforms(keys: U64, counter: U64) -> NDArray[np.float64]:
    """Uniform float64 in [0, 1) with 53 random bits, for broadcastable keys and counters."""
    drawn = words(keys, counter)
    drawn >>= _TO_53_BITS
    floats = drawn.astype(np.float64)
    floats *= 2.0**-53
    return floats


def row_keys(seed: int, epochs: NDArray[np.int64], rows: NDArray[np.int64], operation: str) -> U64:
    """One key a row, uint64 [B], for an operation in each row's own epoch."""
    if len(epochs) and (epochs == epochs[0]).all():
        return words(np.uint64(stream(seed, int(epochs[0]), operation)), rows.astype(np.uint64))
    keys = np.empty(len(rows), np.uint64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        keys[here] = words(np.uint64(stream(seed, int(epoch), operation)), rows[here].astype(np.uint64))
    return keys
