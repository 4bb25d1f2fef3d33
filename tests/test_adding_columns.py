"""A store grows: each column is added alone, to the bytes that a build in one go gives; the rest is not rewritten."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.contract import Draws, TokenBudget
from pipelines.store_view import ImageView, TextView
from pipelines.torch_loader import TorchLoader
from prep.build import main
from prep.draws import row_keys
from prep.errors import UserError
from prep.store import Store, open_store

from .test_build import fingerprints, jpeg, many_tars, write_tar


def build(out: Path, *options: str) -> Store:
    main(["--out", str(out), "--workers", "0", *options])
    return open_store(out)


def unchanged(before: dict[str, str], store: Path) -> bool:
    """Whether every file is as it was, but for the two that tell of the new column."""
    after = fingerprints(store)
    return all(after[name] == digest for name, digest in before.items() if name not in ("plan.json", "manifest.json"))


def test_a_resolution_is_added_to_the_bytes_of_one_go(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 2, 7)
    build(tmp_path / "grown", "--input", tars, "--res", "32")
    before = fingerprints(tmp_path / "grown")
    build(tmp_path / "grown", "--input", tars, "--res", "16")
    assert unchanged(before, tmp_path / "grown")
    build(tmp_path / "once", "--input", tars, "--res", "16", "32")
    grown, once = fingerprints(tmp_path / "grown"), fingerprints(tmp_path / "once")
    assert grown.keys() == once.keys()
    assert {name for name in once if name.endswith(".arrow") and grown[name] != once[name]} == set()


def test_rejects_stay_out_of_what_is_added(tmp_path: Path) -> None:
    members = [("a.jpg", b"no image"), ("a.txt", b"a"), ("b.jpg", jpeg()), ("b.txt", b"bee"), ("c.txt", b"no picture")]
    tars = str(write_tar(tmp_path / "x.tar", members))
    build(tmp_path / "store", "--input", tars, "--res", "16")
    store = build(tmp_path / "store", "--input", tars, "--res", "32")
    assert store.open_shard("32", 0).read_all().column("key").to_pylist() == ["b"]
    assert store.manifest.rejects == {"image_format": 1, "image_missing": 1}


def test_a_tagger_is_added_without_the_input(tmp_path: Path) -> None:
    store = build(tmp_path / "store", "--input", many_tars(tmp_path / "tars", 2, 5), "--res", "16")
    before = fingerprints(store.path)
    store = build(tmp_path / "store", "--tagger", "textblob")
    assert unchanged(before, store.path)
    assert [c.folder for c in store.manifest.of_kind("priorities")] == [
        "priorities/original/clip/spacy",
        "priorities/original/clip/textblob",
    ]
    rows = np.arange(10)
    one, other = (TextView(store, tagger=name).rows(rows) for name in ("spacy", "textblob"))
    assert np.array_equal(one.tokens, other.tokens)
    assert ((one.priorities == 255) == (other.priorities == 255)).all()


def test_a_caption_source_is_added_and_drawn_by_weight(tmp_path: Path) -> None:
    members = []
    for i in range(60):
        facts = {"synthetic": [f"a drawing of thing {i}", f"thing {i}, drawn"]} if i % 2 else {}
        members += [
            (f"{i}.jpg", jpeg()),
            (f"{i}.txt", f"original {i}".encode()),
            (f"{i}.json", json.dumps(facts).encode()),
        ]
    tars = str(write_tar(tmp_path / "x.tar", members))
    named = ["--captions", "original=txt"]
    before = fingerprints(build(tmp_path / "store", "--input", tars, "--res", "16", *named).path)
    store = build(tmp_path / "store", "--input", tars, "--captions", "synthetic=json:synthetic")
    assert unchanged(before, store.path)
    assert store.captions("synthetic", 0)[:2] == [[], ["a drawing of thing 1", "thing 1, drawn"]]

    rows = np.arange(60).repeat(50)
    keys = row_keys(0, np.tile(np.arange(50), 60), rows, "caption")
    drawn = TextView(store, {"original": 1.0, "synthetic": 3.0}).rows(rows, keys)
    original = TextView(store, {"original": 1.0}).rows(rows, keys).tokens
    is_original = (drawn.tokens == original).all(axis=1)
    assert is_original[rows % 2 == 0].all()
    assert 0.2 < is_original[rows % 2 == 1].mean() < 0.3
    synthetic = TextView(store, {"synthetic": 1.0}).rows(rows, keys).tokens
    assert (
        0.45 < (synthetic[:, 1] == synthetic[50, 1])[rows == 1].mean() < 0.55
        or len(np.unique(synthetic[rows == 1, 1])) == 2
    )
    first = TextView(store).rows(np.arange(60))
    assert np.array_equal(first.tokens, TextView(store, {"original": 1.0}).rows(np.arange(60)).tokens)
    with pytest.raises(UserError, match="among original, synthetic"):
        TextView(store, {"translated": 1.0})


def test_a_crop_bank_is_added_and_takes_turns(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 1, 12)
    before = fingerprints(build(tmp_path / "store", "--input", tars, "--res", "16").path)
    store = build(tmp_path / "store", "--input", tars, "--res", "16", "--crops", "2", "--encoding", "raw")
    assert unchanged(before, store.path)
    table = store.open_shard("16-raw-crop1", 0).read_all()
    assert {(row["width"], row["height"], len(row["image"])) for row in table.to_pylist()} == {(16, 16, 16 * 16 * 3)}
    for left, top, width, height in table.column("box").to_pylist():
        assert 0 <= left <= 90 - width
        assert 0 <= top <= 60 - height
        assert 0.35 < width * height / (90 * 60) <= 1
    loader = TorchLoader(Draws((store,), TokenBudget(16, 8), 12, seed=0, crops="bank"), threads=0)
    batches = iter(loader)
    epochs = [next(batches) for _ in range(4)]
    images = [batch.images[batch.index.argsort()] for batch in epochs]
    assert (images[0] == images[2]).all()
    assert (images[1] == images[3]).all()
    stored = ImageView(store, 16, bank=True).images(np.arange(12), np.zeros(12, np.int64))
    for image, raw in zip(images[0], stored.encoded, strict=True):
        assert (image.permute(1, 2, 0).numpy().reshape(-1) == raw).all()


def test_what_cannot_be_added_is_said(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 1, 3)
    build(tmp_path / "store", "--input", tars, "--res", "16")
    with pytest.raises(UserError, match=r"columns\.16\.settings\.margin was 1\.58.*is now 2"):
        build(tmp_path / "store", "--input", tars, "--res", "16", "--margin", "2")
    with pytest.raises(UserError, match=r"shard 0 of 32 is still to be built from the input, which is not given"):
        build(tmp_path / "store", "--res", "32")
    with pytest.raises(UserError, match="wanted a store to add to"):
        build(tmp_path / "nothing", "--tagger", "textblob")


def test_an_input_that_changed_is_seen(tmp_path: Path) -> None:
    members = [("a.jpg", jpeg()), ("a.txt", b"a"), ("b.jpg", jpeg()), ("b.txt", b"b")]
    path = write_tar(tmp_path / "x.tar", members)
    build(tmp_path / "store", "--input", str(path), "--res", "16")
    write_tar(path, [*members[2:], *members[:2]])
    with pytest.raises(UserError, match="not what the store was built from: pair b"):
        build(tmp_path / "store", "--input", str(path), "--res", "32")


def test_captions_are_added_from_a_table_by_key(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 2, 5)
    before = fingerprints(build(tmp_path / "store", "--input", tars, "--res", "16").path)
    rows = [("1-2", "late"), ("0-0", "first"), ("0-0", " "), ("0-0", "second"), ("nobody", "x"), ("0-3", "a\ttab")]
    table = pa.table({"key": [key for key, _ in rows], "said": [text for _, text in rows]})
    pq.write_table(table, tmp_path / "made.parquet")
    field = f"made=table:{tmp_path / 'made.parquet'}#said"
    store = build(tmp_path / "store", "--captions", field)
    assert unchanged(before, store.path)
    assert store.captions("made", 0) == [["first", "second"], [], [], ["a tab"], []]
    assert store.captions("made", 1) == [[], [], ["late"], [], []]
    assert store.manifest.columns["captions/made"].counts == {"num_captions": 4, "num_cut": 0, "num_dropped": 1}
    once = build(tmp_path / "once", "--input", tars, "--res", "16", "--captions", field)
    assert fingerprints(once.path).keys() == fingerprints(store.path).keys()
    for folder in ("captions/made", "tokens/made/clip", "priorities/made/clip/spacy", "rows"):
        name = f"{folder}/00000.arrow"
        assert (store.path / name).read_bytes() == (once.path / name).read_bytes()
    with pytest.raises(UserError, match="wanted a column text; there are key, said"):
        build(tmp_path / "store", "--captions", f"other=table:{tmp_path / 'made.parquet'}#text")


def test_a_usual_place_and_a_named_one_go_together(tmp_path: Path) -> None:
    members = [("a.jpg", jpeg()), ("a.txt", b"plain"), ("a.json", b'{"blip": "made"}')]
    tars = str(write_tar(tmp_path / "x.tar", members))
    build(tmp_path / "store", "--input", tars, "--res", "16")
    store = build(
        tmp_path / "store", "--input", tars, "--captions", "blip=json:blip", "--res", "32", "--tagger", "textblob"
    )
    assert (store.captions("original", 0), store.captions("blip", 0)) == ([["plain"]], [["made"]])
    assert len(store.manifest.of_kind("priorities")) == 3
