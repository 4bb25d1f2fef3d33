"""prep.build from real tars to a real store: the format, the accounts, resuming, and what it says to mistakes."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from prep.build import main
from prep.errors import UserError
from prep.files import hash_file
from prep.row_hash import hash_rows
from prep.schemas import VIEW_SCHEMA
from prep.store import CONTEXT_LENGTH, ROWS_PER_BATCH, Store, open_store
from prep.tokenizer import load_tokenizer

from .conftest import NUM_PAIRS, RESOLUTIONS


def jpeg(colour: tuple[int, int, int] = (200, 30, 40), size: tuple[int, int] = (90, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def build(tars: Path | str, out: Path, *options: str) -> Store:
    main(["--input", str(tars), "--out", str(out), "--res", "16", "32", "--workers", "0", *options])
    return open_store(out)


def fingerprints(store: Path) -> dict[str, str]:
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_plain_pyarrow_reads_a_resolution(store: Store) -> None:
    for res in RESOLUTIONS:
        table = pa.ipc.open_file(pa.memory_map(str(store.path / str(res) / "00000.arrow"))).read_all()
        assert table.schema == VIEW_SCHEMA
        assert table.num_rows == NUM_PAIRS <= ROWS_PER_BATCH
        for image, width, height in zip(
            *[table.column(n).to_pylist() for n in ("image", "width", "height")], strict=True
        ):
            with Image.open(io.BytesIO(image)) as picture:
                assert picture.size == (width, height)
                assert picture.format == "JPEG"
            assert min(width, height) == -(-res * 10**0.5 // 2)


def test_text_columns_say_what_the_captions_say(store: Store) -> None:
    folders = ("captions/original", "tokens/original/clip", "priorities/original/clip/spacy", "32")
    texts, ids, classes, images = (store.open_shard(folder, 0).read_all() for folder in folders)
    captions = [caption for (caption,) in texts.column("captions").to_pylist()]
    tokens = np.array(ids.column("tokens").to_pylist())[:, 0]
    assert tokens.tolist() == load_tokenizer().tokenize(captions).tolist()
    priorities = np.array(classes.column("priorities").to_pylist())[:, 0]
    num_tokens = np.array(ids.column("num_tokens").to_pylist())[:, 0]
    assert priorities.shape == (NUM_PAIRS, CONTEXT_LENGTH)
    assert ((priorities == 255).sum(axis=1) == CONTEXT_LENGTH - num_tokens).all()
    assert ((priorities >= 1) & (priorities <= 4)).sum() == (num_tokens.astype(int) - 2).sum()
    for table in (ids, classes, images):
        assert table.column("key") == texts.column("key")


def test_the_manifest_is_the_fold_of_the_records(store: Store) -> None:
    manifest = store.manifest
    assert manifest.num_read == manifest.num_samples == NUM_PAIRS
    assert manifest.rejects == {}
    assert {path.name for path in store.path.iterdir() if path.is_dir()} == {
        *("16", "32", "captions", "priorities", "records", "rejects", "rows", "tokens")
    }
    for column in manifest.columns.values():
        records = [json.loads(path.read_text()) for path in sorted((store.path / "records" / column.folder).iterdir())]
        assert [record["shard"] for record in records] == [shard.shard for shard in manifest.shards]
        assert [record["files"][0]["xxh3"] for record in records] == [file.xxh3 for file in column.files]
        for file in column.files:
            assert hash_file(store.path / file.path) == file.xxh3
        for shard in manifest.shards:
            batch = store.open_shard(column.folder, shard.shard).get_batch(0)
            assert batch.column("hash").to_numpy().tolist() == hash_rows(batch).tolist()


def test_pixels_keep_their_colour(tmp_path: Path) -> None:
    store = build(write_tar(tmp_path / "a.tar", [("x.jpg", jpeg()), ("x.txt", b"a red square")]), tmp_path / "store")
    table = pa.ipc.open_file(str(store.path / "16" / "00000.arrow")).read_all()
    pixels = np.asarray(Image.open(io.BytesIO(table.column("image")[0].as_py())))
    assert pixels.shape == (26, 39, 3)
    assert np.abs(pixels.mean(axis=(0, 1)) - (200, 30, 40)).max() < 2


def many_tars(folder: Path, num_tars: int, num_pairs: int) -> str:
    for i in range(num_tars):
        members = []
        for j in range(num_pairs):
            colour = (i * 20 % 256, j * 7 % 256, 90)
            members += [(f"{i}-{j}.jpg", jpeg(colour)), (f"{i}-{j}.txt", f"picture number {j} of tar {i}".encode())]
        write_tar(folder / f"{i:05d}.tar", members)
    return str(folder / "*.tar")


def test_workers_do_not_change_a_byte_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    pattern = many_tars(tmp_path / "tars", 3, 20)
    build(pattern, tmp_path / "one")
    build(pattern, tmp_path / "two", "--workers", "2")
    assert fingerprints(tmp_path / "one") == fingerprints(tmp_path / "two")
    before = (tmp_path / "one" / "16" / "00000.arrow").stat().st_mtime_ns
    build(pattern, tmp_path / "one")
    assert (tmp_path / "one" / "16" / "00000.arrow").stat().st_mtime_ns == before


def test_batches_are_full_but_for_the_last(tmp_path: Path) -> None:
    store = build(many_tars(tmp_path / "tars", 1, ROWS_PER_BATCH + 5), tmp_path / "store")
    reader = store.open_shard("16", 0)
    assert [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)] == [ROWS_PER_BATCH, 5]


def test_a_lost_or_cut_file_is_refused_by_name_and_the_same_command_mends_it(tmp_path: Path) -> None:
    pattern = many_tars(tmp_path / "tars", 2, 5)
    store = build(pattern, tmp_path / "store")
    whole = fingerprints(store.path)
    os.truncate(store.path / "32" / "00001.arrow", 100)
    with pytest.raises(UserError, match=r"00001.arrow: wanted a file of [\d,]+ bytes, but it has 100"):
        open_store(store.path)
    build(pattern, store.path)
    assert fingerprints(store.path) == whole
    record = store.path / "records" / "32" / "00000.json"
    os.truncate(record, record.stat().st_size - 1)  # its last newline: as JSON it is whole
    build(pattern, store.path)
    assert fingerprints(store.path) == whole


def test_a_killed_build_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    pattern = many_tars(tmp_path / "tars", 6, 150)
    build(pattern, tmp_path / "whole")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "prep.build", "--input", pattern, "--out", str(out), "--res", "16", "32"]
    process = subprocess.Popen([*command, "--workers", "2"], start_new_session=True, stdout=subprocess.DEVNULL)
    while not list(out.glob("records/rows/*.json")):
        assert process.poll() is None, "the build ended before its first shard did"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    with pytest.raises(UserError, match="no manifest"):
        open_store(out)
    build(pattern, out)
    assert fingerprints(out) == fingerprints(tmp_path / "whole")


def test_another_plan_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    pattern = many_tars(tmp_path / "tars", 1, 3)
    build(pattern, tmp_path / "store")
    with pytest.raises(UserError, match=r"columns\.16\.settings\.quality was 95, is now 80"):
        build(pattern, tmp_path / "store", "--quality", "80")
    many_tars(tmp_path / "tars", 2, 3)
    with pytest.raises(UserError, match=r"inputs was \[.*is now \["):
        build(pattern, tmp_path / "store")


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="wanted a new or empty folder"):
        build(many_tars(tmp_path / "tars", 1, 1), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
