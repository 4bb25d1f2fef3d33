"""A store of millions of rows that takes the room of one shard: every shard is the same files, under other names."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import simplejpeg

from prep.build import main as build_main
from prep.files import write_json

from .tar_files import tar_of

ROWS_PER_SHARD = 5_120


def make_huge_store(out: Path, num_rows: int) -> Path:
    """A crop bank of raw pixels at 16 px, of at least so many rows; `out`/store."""
    path = out / "a.tar"
    members = []
    for i in range(ROWS_PER_SHARD):
        picture = np.full((16, 16, 3), (i % 251, i // 251, 90), np.uint8)
        caption = f"a picture of {i % 97} things"
        members += [(f"{i}.jpg", simplejpeg.encode_jpeg(picture, 90)), (f"{i}.txt", caption.encode())]
    path.write_bytes(tar_of(members))
    store, one = out / "store", out / "one"
    options = ["--res", "16", "--crops", "1", "--encoding", "raw", "--tagger", "textblob", "--workers", "0"]
    build_main(["--input", str(path), "--out", str(one), *options])
    shutil.copytree(one, store)
    manifest = json.loads((store / "manifest.json").read_text())
    num_shards = -(-num_rows // ROWS_PER_SHARD)
    manifest["shards"] = [{**manifest["shards"][0], "shard": shard} for shard in range(num_shards)]
    manifest["num_samples"] = manifest["num_read"] = num_shards * ROWS_PER_SHARD
    for column in manifest["columns"].values():
        (first,) = column["files"]
        column["files"] = [{**first, "path": first["path"].replace("00000", f"{s:05d}")} for s in range(num_shards)]
        for file in column["files"][1:]:
            os.link(store / first["path"], store / file["path"])
    write_json(store / "manifest.json", manifest)
    return store
