"""Counter-based randomness: every draw is a pure function of (seed, epoch, row, operation), so nothing has a state to
save.

The generator is the finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words with full
avalanche.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]


def stream(seed: int, epoch: int, operation: str) -> int:
    """The 64-bit key of one operation in one epoch; the pair is hashed, so seed 1 epoch 0 is not seed 0 epoch 1."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{operation}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def mix(words: U64) -> U64:
    """splitmix64's finaliser, element by element (wraps modulo 2^64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def words(keys: U64 | np.uint64, counter: U64) -> U64:
    """Random 64-bit words for broadcastable keys and counters; equal inputs give equal words."""
    keys = np.atleast_1d(keys)  # numpy warns of wrapping in scalars, but not in arrays
    return mix(mix(keys + np.uint64(0x9E3779B97F4A7C15)) ^ (counter * np.uint64(0x9E3779B97F4A7C15)))


def uniforms(keys: U64, counter: U64) -> NDArray[np.float64]:
    """Uniform float64 in [0, 1) with 53 random bits, for broadcastable keys and counters."""
    return (words(keys, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def row_keys(seed: int, epochs: NDArray[np.int64], rows: NDArray[np.int64], operation: str) -> U64:
    """One key a row, uint64 [B], for an operation in each row's own epoch."""
    keys = np.empty(len(rows), np.uint64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        keys[here] = words(np.uint64(stream(seed, int(epoch), operation)), rows[here].astype(np.uint64))
    return keys
