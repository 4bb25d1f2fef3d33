"""The same few labelled pictures as a folder per class, as tars, as tables and as a store."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from eval.labelled import LabelledSet
from eval.preprocess import Preprocess
from prep import build_options
from prep.build import build

from .tar_files import Members, tar_of

NAMES = ("black cat", "dog", "polar bear")
PER_CLASS = 4
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pixels(label: int, number: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([label, number])
    y, x = np.mgrid[:40, :56] / 56
    slopes = np.stack([200 * x, 200 * y, np.full_like(x, 60 * label)], axis=2)
    drawn: NDArray[np.uint8] = (slopes + rng.integers(0, 50, (40, 56, 3))).astype(np.uint8)
    return drawn


def png(label: int, number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(label, number)).save(file, "PNG")
    return file.getvalue()


def all_pictures() -> list[tuple[int, int]]:
    """(label, number) of each, class by class."""
    return [(label, number) for label in range(len(NAMES)) for number in range(PER_CLASS)]


def write_folders(out: Path) -> Path:
    for label, number in all_pictures():
        folder = out / NAMES[label].replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(label, number))
    return out


def members(kind: str = "cls") -> Members:
    found: Members = []
    for label, number in all_pictures():
        text = str(label) if kind == "cls" else NAMES[label]
        found += [(f"s{label}{number}.{kind}", text.encode()), (f"s{label}{number}.png", png(label, number))]
    return found


def write_tars(out: Path, kind: str = "cls") -> Path:
    """As CLIP_benchmark's sets lie: OUT/classnames.txt, OUT/test/0.tar and 1.tar."""
    (out / "test").mkdir(parents=True)
    found = members(kind)
    for number, part in enumerate((found[:10], found[10:])):
        (out / "test" / f"{number}.tar").write_bytes(tar_of(part))
    if kind == "cls":
        (out / "classnames.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return out


def table(labels: pa.Array | None = None, names: tuple[str, ...] = NAMES) -> pa.Table:
    """As `datasets` writes it; no names: no ClassLabel."""
    images = pa.array([{"bytes": png(*picture), "path": "x.png"} for picture in all_pictures()], STRUCT)
    labels = pa.array([label for label, _ in all_pictures()], pa.int64()) if labels is None else labels
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    told = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    return pa.table({"image": images, "label": labels}).replace_schema_metadata(told)


def write_tables(out: Path, kind: str = "parquet") -> Path:
    """As the hub has them, data/test-00000-of-00002.parquet, or as save_to_disk does."""
    whole = table()
    if kind == "parquet":
        (out / "data").mkdir(parents=True)
        for number, part in enumerate((whole.slice(0, 5), whole.slice(5))):
            pq.write_table(part, out / "data" / f"test-0000{number}-of-00002.parquet")
        return out
    out.mkdir(parents=True)
    with pa.ipc.new_stream(out / "data-00000-of-00001.arrow", whole.schema) as writer:
        writer.write_table(whole, 5)
    (out / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return out


def write_store(out: Path) -> Path:
    """At 16 and 32 px, of the tars with names."""
    tars = write_tars(out.with_name(f"{out.name}-tars"), "txt")
    common = ["--input", str(tars / "test" / "*.tar"), "--out", str(out), "--res", "16", "32"]
    asked = build_options.parse([*common, "--encoding", "raw"], "")
    build(replace(asked, engine=replace(asked.engine, limits=replace(asked.engine.limits, supervise=False))))
    shutil.rmtree(tars)
    return out


def read_all(opened: LabelledSet, how: Preprocess, batch_size: int = 5) -> tuple[torch.Tensor, list[int], list[str]]:
    found = list(opened.read(how, batch_size))
    bad = [entry.problem for batch in found for entry in batch.unreadable]
    return torch.cat([b.images for b in found]), torch.cat([b.index for b in found]).tolist(), bad
