"""A store with something of everything: two shards, two record batches in the first, margin copies in JPEG, a crop bank
of raw pixels, images with no, one or several captions from a second source, and keys that are no names.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import simplejpeg

from prep.build import main as build_main

HOSTILE_KEYS = ("a-b", "ключ", "x" * 120, "con", "sp ace", "-", "0")
NUM_ROWS = (1030, 25)
"""Of the two shards."""


def num_synthetic(row: int) -> int:
    """How many captions a row has from the source "synthetic"."""
    return row % 4


def _pairs(shard: int) -> list[tuple[str, bytes]]:
    members = []
    for i in range(NUM_ROWS[shard]):
        row = sum(NUM_ROWS[:shard]) + i
        key = HOSTILE_KEYS[i] if shard == 0 and i < len(HOSTILE_KEYS) else f"k{row}"
        y, x = np.mgrid[0 : 27 + row % 3, 0 : 28 + row % 5]
        pixels = np.stack([x * 9, y * 9, (x + y + row) * 5 % 256], axis=-1).astype(np.uint8)
        facts = {"synthetic": [f"drawn thing {row % 7}, take {n}!" for n in range(num_synthetic(row))]}
        members += [
            (f"{key}.jpg", simplejpeg.encode_jpeg(pixels, 90)),
            (f"{key}.txt", f"A small red picture of {row % 8} things".encode()),
            (f"{key}.json", json.dumps(facts).encode()),
        ]
    return members


def make_varied_store(out: Path) -> Path:
    """Build it into `out`/store, from tars that stay beside it."""
    for shard in range(len(NUM_ROWS)):
        path = out / "tars" / f"{shard}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, data in _pairs(shard):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    for options in (
        ["--res", "16", "20", "--captions", "original=txt", "synthetic=json:synthetic"],
        ["--res", "16", "--crops", "2", "--encoding", "raw"],
    ):
        inputs = ["--input", str(out / "tars" / "*.tar")]
        build_main([*inputs, "--out", str(out / "store"), "--workers", "1", "--tagger", "textblob", *options])
    return out / "store"
