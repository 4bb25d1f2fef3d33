"""One small retrieval set in every layout: coloured pictures with one to four captions each, and a model of them."""

import io
import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from eval.recall import RECALLS
from prep.build import main as build_main
from train.text_tokens import tokens_of

from .tar_files import Members, tar_of

NUM = 12
TEXT_TOKENS = 10
CAPTIONS = [
    [f"{n} pictures of cat {i}" + (", told many times over" if n == 0 else "") for n in range(1 + i % 4)]
    for i in range(NUM)
]
"""The first of each image is longer than TEXT_TOKENS, the others are not."""
COLOURS = [(20 * i, 250 - 20 * i, 60 * (i % 4)) for i in range(NUM)]


def png(colour: tuple[int, int, int], size: tuple[int, int] = (36, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def entry(i: int, split: str = "test", **more: object) -> dict[str, object]:
    """One image of Karpathy's JSON."""
    sentences = [{"raw": caption, "tokens": caption.split()} for caption in CAPTIONS[i % NUM]]
    return {"filename": f"{i}.png", "filepath": "val", "split": split, "sentences": sentences, "imgid": i, **more}


def write_karpathy(folder: Path, entries: list[dict[str, object]] | None = None) -> Path:
    """dataset.json, and images/val/*.png."""
    (folder / "images" / "val").mkdir(parents=True)
    for i, colour in enumerate(COLOURS):
        (folder / "images" / "val" / f"{i}.png").write_bytes(png(colour))
    entries = [entry(i) for i in range(NUM)] if entries is None else entries
    (folder / "dataset.json").write_text(json.dumps({"images": entries, "dataset": "coloured"}))
    return folder / "dataset.json"


def members(first: int, last: int, extension: str = "txt") -> Members:
    found: Members = []
    for i in range(first, last):
        told = "\n".join(CAPTIONS[i]) if extension == "txt" else json.dumps({"caption": CAPTIONS[i]})
        found += [(f"s{i:04d}.png", png(COLOURS[i])), (f"s{i:04d}.{extension}", told.encode())]
    return found


def write_tars(folder: Path, extension: str = "txt") -> Path:
    folder.mkdir(parents=True)
    (folder / "0.tar").write_bytes(tar_of(members(0, 7, extension)))
    (folder / "1.tar").write_bytes(tar_of(members(7, NUM, extension)))
    return folder


def write_store(folder: Path) -> Path:
    tars = write_tars(folder / "tars", "json")
    options = ["--res", "16", "--tagger", "textblob", "--workers", "0", "--encoding", "raw"]
    build_main(["--input", str(tars / "*.tar"), "--out", str(folder / "store"), *options])
    return folder / "store"


class ColourModel(nn.Module):
    """Sees colours, and reads captions through a random table; the two have something to do with each other."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.points = normalize(torch.randn(NUM, 6, generator=generator), dim=-1)
        self.colours = torch.tensor(COLOURS).float()
        self.texts: dict[bytes, Tensor] = {}
        for i, captions in enumerate(CAPTIONS):
            near = self.points[i] + 0.4 * torch.randn(len(captions), 6, generator=generator)
            rows = tokens_of(captions, TEXT_TOKENS).numpy()
            self.texts |= {row.tobytes(): text for row, text in zip(rows, normalize(near, dim=-1), strict=True)}

    def encode_image(self, images: Tensor) -> Tensor:
        return self.points[torch.cdist(images.float().mean(dim=(2, 3)), self.colours).argmin(dim=1)]

    def encode_text(self, tokens: Tensor) -> Tensor:
        return torch.stack([self.texts[row.numpy().tobytes()] for row in tokens])


def expected(model: ColourModel, which: str = "all") -> dict[str, dict[int, float]]:
    """Recalls by a plain loop over sorted lists."""
    owners = [i for i, captions in enumerate(CAPTIONS) for _ in (captions if which == "all" else captions[:1])]
    texts = [caption for captions in CAPTIONS for caption in (captions if which == "all" else captions[:1])]
    scores = (model.encode_text(tokens_of(texts, TEXT_TOKENS)) @ model.points.T).tolist()
    found: dict[str, dict[int, float]] = {"text_to_image": {}, "image_to_text": {}}
    for k in RECALLS:
        hits = [
            owner in sorted(range(NUM), key=lambda i: -row[i])[:k] for row, owner in zip(scores, owners, strict=True)
        ]
        found["text_to_image"][k] = sum(hits) / len(hits)
        best = [sorted(range(len(texts)), key=lambda c: -scores[c][i])[:k] for i in range(NUM)]
        found["image_to_text"][k] = sum(any(owners[c] == i for c in top) for i, top in enumerate(best)) / NUM
    return found
