"""What prep.build makes of bad pairs, cut tars, a full disk and mistaken options: named rejects and clear messages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prep.errors import UserError

from .test_build import build, fingerprints, jpeg, many_tars, write_tar


def test_every_pair_is_accounted_for(tmp_path: Path) -> None:
    noise = jpeg()
    members = [
        ("good.jpg", noise), ("good.txt", b"A good pair"),
        ("cut.jpg", noise[: len(noise) // 2]), ("cut.txt", b"half a picture"),
        ("words.jpg", b"no picture at all"), ("words.txt", b"words"),
        ("thin.jpg", jpeg(size=(1, 5000))), ("thin.txt", b"a thin one"),
        ("silent.jpg", noise),
        ("empty.jpg", noise), ("empty.txt", b"  \n "),
        ("latin.jpg", noise), ("latin.txt", "café".encode("latin-1")),
        ("long.jpg", noise), ("long.txt", b"word " * 10_000),
        ("good.jpg", noise), ("good.txt", b"A second pair of this name"),
        ("../../x.jpg", noise), ("../../x.txt", b"climbs"),
    ]  # fmt: skip
    path = write_tar(tmp_path / "in" / "a.tar", members)
    store = build(path, tmp_path / "out" / "store")
    table = pq.read_table(store.path / "rejects" / "00000.parquet").to_pylist()
    assert {(row["key"], row["reason"]) for row in table} == {
        ("cut", "image_damaged"),
        ("words", "image_format"),
        ("thin", "image_aspect"),
        ("silent", "caption_missing"),
        ("empty", "caption_empty"),
        ("latin", "caption_not_utf8"),
        ("good", "duplicate_key"),
        ("../../x", "unsafe_name"),
    }
    assert all(row["detail"] for row in table)
    manifest = store.manifest
    assert (manifest.num_read, manifest.num_samples, sum(manifest.rejects.values())) == (10, 2, 8)
    texts = store.open_shard("captions/original", 0).read_all().to_pylist()
    assert [(row["key"], row["cut"]) for row in texts] == [("good", [False]), ("long", [True])]
    assert manifest.columns["captions/original"].counts == {"num_captions": 2, "num_cut": 1, "num_dropped": 0}
    assert manifest.columns["tokens/original/clip"].counts == {"num_truncated": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_tar_cut_in_the_middle_keeps_what_is_whole(tmp_path: Path) -> None:
    pattern = many_tars(tmp_path / "tars", 1, 10)
    path = tmp_path / "tars" / "00000.tar"
    os.truncate(path, path.stat().st_size // 2)
    store = build(pattern, tmp_path / "store")
    assert 0 < store.manifest.num_samples < 10
    assert store.manifest.rejects == {"source_cut": 1}


def test_nothing_kept_is_an_error_that_gives_the_reasons(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("x.jpg", b"text"), ("x.txt", b"a caption")])
    with pytest.raises(UserError, match=r"none of the 1 pairs could be kept \(image_format 1\)"):
        build(path, tmp_path / "store")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "prep.build", *arguments], capture_output=True, text=True, check=False)


def test_mistakes_end_in_a_message_and_exit_code_2(tmp_path: Path) -> None:
    missing = run("--input", str(tmp_path / "*.tar"), "--out", str(tmp_path / "s"), "--res", "16")
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr
    assert "*.tar" in missing.stderr
    wrong = run("--input", "x.tar", "--out", str(tmp_path / "s"), "--res", "4")
    assert wrong.returncode == 2
    assert re.search(r"--res: wanted 8 to 4096 pixels, found 4", wrong.stderr)


def test_an_empty_tar_is_an_empty_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wanted pairs, but there are none in it"):
        build(write_tar(tmp_path / "a.tar", []), tmp_path / "store")


def test_a_damaged_record_is_mended_by_the_same_command(tmp_path: Path) -> None:
    pattern = many_tars(tmp_path / "tars", 2, 4)
    store = build(pattern, tmp_path / "store")
    whole = fingerprints(store.path)
    (store.path / "records" / "rows" / "00000.json").write_text('{"shard": 0')
    (store.path / "records" / "16" / "00001.json").write_text('{"shard": 1}')
    build(pattern, store.path)
    assert fingerprints(store.path) == whole


def test_what_a_kill_left_in_a_new_folder_is_no_obstacle(tmp_path: Path) -> None:
    pattern, out = many_tars(tmp_path / "tars", 1, 4), tmp_path / "store"
    out.mkdir()
    (out / ".plan.json.99.tmp").write_text("{")
    assert build(pattern, out).manifest.num_samples == 4


def test_a_path_with_brackets_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "set [1]" / "a [b].tar", [("x.jpg", jpeg()), ("x.txt", b"a red square")])
    assert build(path, tmp_path / "store [/b]").manifest.num_samples == 1
