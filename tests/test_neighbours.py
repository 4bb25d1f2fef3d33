"""The nearest of many vectors: exactly, and with faiss."""

from pathlib import Path

import numpy as np
import pytest

from eval import neighbours


def test_the_index_finds_nearly_all(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((200, 24))
    vectors = centres[generator.integers(0, 200, 30_000)] + generator.standard_normal((30_000, 24))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    chunks = [vectors[:17_000], vectors[17_000:]]
    queries = vectors[generator.integers(0, 30_000, 50)]
    wanted = neighbours.exact(queries, chunks, 10)[1]
    scores, places = neighbours.open_cells(tmp_path, "x", chunks).find(queries, 10)
    shared = [len({*a} & {*b}) / 10 for a, b in zip(places.tolist(), wanted.tolist(), strict=True)]
    assert np.mean(shared) > 0.9
    assert np.allclose(scores[:, 0], 1, atol=1e-5)


def test_exact_is_a_stable_sort_whatever_the_chunks() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.integers(-1, 2, (60, 3)).astype(np.float32)
    queries = generator.integers(-1, 2, (4, 3)).astype(np.float32)
    for ends in ([60], [7, 60], [1, 2, 3, 59, 60]):
        chunks = np.split(vectors, ends[:-1])
        scores, places = neighbours.exact(queries, chunks, 11)
        for query, row, values in zip(queries, places.tolist(), scores.tolist(), strict=True):
            plain = (vectors @ query).tolist()
            assert row == sorted(range(60), key=lambda i: (-plain[i], i))[:11]
            assert values == [plain[i] for i in row]
    assert neighbours.exact(queries, [vectors[:4]], 11)[1].shape == (4, 4)
