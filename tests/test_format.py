"""prep/FORMAT.md says what is: its example is built again, its schemas and reasons printed again, its hash computed.

SHORTCLIP_REWRITE_FORMAT=1 writes what is into the page, instead of comparing.
"""

import io
import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import simplejpeg
from PIL import Image

from prep.build import main as build_main
from prep.pairs import Reason
from prep.schemas import KINDS, REJECT_SCHEMA, schema_of
from prep.store import Store, open_store

from .conftest import once
from .format_page import PAGE, blocks, rewritten
from .test_build import write_tar
from .varied_store import make_varied_store

OPTIONS = ("--res", "16")
RECORD = "records/tokens/original/clip/00000.json"


def small_picture(kind: str, colour: tuple[int, int, int]) -> bytes:
    """Smaller than the copies, so that no resizing decides the example's bytes."""
    pixels = np.full((20, 24, 3), colour, np.uint8)
    pixels[:10] //= 2
    if kind == "jpg":
        return bytes(simplejpeg.encode_jpeg(pixels, 90))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def make_example(out: Path) -> Path:
    pairs = [
        ("bird.jpg", small_picture("jpg", (90, 120, 200))),
        ("bird.txt", b"A blue bird sings"),
        ("cat.png", small_picture("png", (230, 140, 30))),
        ("cat.txt", b"ginger cat!!"),
        ("dog.jpg", b"\xff\xd8 cut off"),
        ("dog.txt", b"a dog"),
        ("fish.jpg", small_picture("jpg", (20, 160, 120))),
    ]
    tar = str(write_tar(out / "pairs.tar", pairs))
    build_main(["--input", tar, "--out", str(out / "store"), "--workers", "1", *OPTIONS])
    return out / "store"


def shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{value[:4].hex(' ')} ... ({len(value):,} bytes)"
    if isinstance(value, list) and len(value) > 10:
        return f"[{', '.join(map(str, value[:9]))}, ... ({len(value)})]"
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)


def rows_shown(store: Store) -> Iterator[str]:
    for folder in store.manifest.columns:
        yield f"{folder}/00000.arrow"
        for row in store.open_shard(folder, 0).read_all().to_pylist():
            row["hash"] = f"{row['hash']:016x}"[:4] + "..."
            yield f"  {'  '.join(f'{name} {shown(value)}' for name, value in row.items())}"
    yield "rejects/00000.parquet"
    for row in pyarrow.parquet.read_table(store.path / "rejects" / "00000.parquet").to_pylist():
        yield f"  {'  '.join(f'{name} {shown(value)}' for name, value in row.items())}"


def schemas_shown() -> Iterator[str]:
    named = [(kind, schema_of(kind, {})) for kind in KINDS]
    named += [("view, of a crop bank", schema_of("view", {"crop": 0})), ("rejects/*.parquet", REJECT_SCHEMA)]
    for name, schema in named:
        yield name
        for field in schema:
            kind = str(field.type).replace("item: ", "").replace(" not null", "")
            yield f"  {field.name:<16}  {kind}"
        assert not any(field.nullable for field in schema)


def true_texts(example: Path) -> dict[str, str]:
    """What the page's blocks have to say."""
    store = open_store(example)
    command = "python -m prep.build --input pairs.tar --out store/ "
    files = sorted(path for path in example.rglob("*") if path.is_file())
    lines = {
        "schemas": schemas_shown(),
        "reasons": textwrap.wrap("  ".join(Reason), 110),
        "example: command": [command + " ".join(OPTIONS)],
        "example: tree": [f"{path.stat().st_size:>7,}  {path.relative_to(example)}" for path in files],
        "example: rows": rows_shown(store),
    }
    names = {"manifest": "manifest.json", "plan": "plan.json", "record": RECORD}
    texts = {f"example: {name}": (example / path).read_text() for name, path in names.items()}
    return texts | {name: "".join(f"{line}\n" for line in found) for name, found in lines.items()}


def test_the_page_shows_what_is(tmp_path: Path) -> None:
    texts = true_texts(make_example(tmp_path))
    if "SHORTCLIP_REWRITE_FORMAT" in os.environ:
        PAGE.write_text(rewritten(texts))
    found = blocks()
    assert {name: found[name] for name in texts} == texts, "if this is meant: SHORTCLIP_REWRITE_FORMAT=1 rewrites it"


def test_the_page_names_every_folder_of_the_example() -> None:
    tree = blocks()["example: tree"]
    paths = [line.split()[1] for line in tree.splitlines()]
    assert RECORD in paths
    tops = {path.split("/")[0] for path in paths if "/" in path}
    assert tops == {"rows", "captions", "tokens", "priorities", "16", "rejects", "records"}


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(once(tmp_path_factory, "varied", lambda out: str(make_varied_store(out)))[0] / "store")


def test_the_hash_is_what_the_page_says(varied: Store) -> None:
    room: dict[str, Any] = {}
    exec(blocks()["row hash"], room)
    for folder in varied.manifest.columns:
        table = pa.Table.from_batches(
            [varied.open_shard(folder, 0).get_batch(1), varied.open_shard(folder, 1).get_batch(0)]
        )
        for row in table.to_pylist():
            assert room["row_hash"](row, table.schema) == row["hash"], (folder, row["key"])
