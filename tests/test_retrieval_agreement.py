"""The same features and the same recalls, judged by CLIP_benchmark and by us; several captions an image."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from eval.recall import RECALLS, ranks_both_ways, recalls

theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")


@pytest.mark.parametrize("num_captions", [(5, 5), (1, 7), (1, 1)])
def test_recalls_are_clip_benchmarks(num_captions: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(num_captions))
    images = normalize(torch.randn(150, 12, generator=generator), dim=-1)
    counts = torch.randint(num_captions[0], num_captions[1] + 1, (150,), generator=generator)
    owners = torch.arange(150).repeat_interleave(counts)
    texts = normalize(images[owners] + 0.35 * torch.randn(len(owners), 12, generator=generator), dim=-1)

    def batches() -> Iterator[tuple[torch.Tensor, list[list[str]]]]:
        """Images and captions as their loaders give them; here both stand for their places."""
        for places in torch.arange(150).split(32):
            yield places, [[str(c) for c in (owners == i).nonzero()[:, 0].tolist()] for i in places]

    model = SimpleNamespace(encode_image=lambda places: images[places], encode_text=lambda places: texts[places])

    def tokenizer(captions: list[str]) -> torch.Tensor:
        return torch.tensor([int(caption) for caption in captions])

    wanted = theirs.evaluate(model, list(batches()), tokenizer, "cpu", amp=False, recall_k_list=list(RECALLS))
    to_images, to_texts = map(recalls, ranks_both_ways(images, texts, owners))
    for k in RECALLS:
        assert to_images[k] == pytest.approx(wanted[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert to_texts[k] == pytest.approx(wanted[f"text_retrieval_recall@{k}"], abs=1e-6)
    assert 0.2 < to_images[1] < 0.95
