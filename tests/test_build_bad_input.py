"""What prep.build makes of bad pairs, cut tars, a full disk and mistaken options: named rejects and clear messages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prep.errors import UserError

from .test_build import build, jpeg, many_tars, write_tar


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
    texts = store.open_shard("text", 0).read_all().to_pylist()
    assert [(row["key"], row["caption_cut"]) for row in texts] == [("good", False), ("long", True)]
    assert manifest.num_captions_cut == 1
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


def test_a_full_disk_is_a_message_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """A real file system of 300 kB, mounted in a namespace of the test's own."""
    pattern, out = many_tars(tmp_path / "tars", 2, 120), tmp_path / "small"
    out.mkdir()
    build = f"{sys.executable} -m prep.build --input '{pattern}' --out {out}/store --res 16 32 --workers 1"
    mount = f"mount -t tmpfs -o size=300k none {out}"
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    grow = f"mount -o remount,size=20m {out}"
    script = f"{mount}; {build}; echo code $?; ls {out}/store/*/.*tmp; {grow}; {build} && ls {out}/store/manifest.json"
    done = subprocess.run([*inside, script], capture_output=True, text=True, check=False)
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "code 2" in done.stdout
    assert ".tmp" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"{out}/store/manifest.json"
