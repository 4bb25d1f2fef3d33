"""A full disk, for real: a small file system in a namespace of the test's own. The same command goes on after."""

import subprocess
import sys
from pathlib import Path

import pytest

from prep.store import Store

from .test_build import many_tars
from .test_train_run import TINY

NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")


def on_a_small_disk(folder: Path, kilobytes: int, program: str, product: str) -> "subprocess.CompletedProcess[str]":
    """Run `program` on a disk of that size, list what is half-written, grow the disk, run it again, list `product`."""
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={kilobytes}k none {folder}"
    if subprocess.run([*NAMESPACE, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    script = (
        f"{mount}; {program}; echo code $?; find {folder} -name '.*.tmp';"
        f"mount -o remount,size=200m {folder}; {program} && ls -d {product}"
    )
    return subprocess.run([*NAMESPACE, script], capture_output=True, text=True, check=False)


def check(done: "subprocess.CompletedProcess[str]", product: str) -> None:
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert "code 2" in lines
    assert not any(line.endswith(".tmp") for line in lines)
    assert product in lines[-1]


def test_while_building(tmp_path: Path) -> None:
    pattern, disk = many_tars(tmp_path / "tars", 2, 120), tmp_path / "disk"
    program = f"{sys.executable} -m prep.build --input '{pattern}' --out {disk}/store --res 16 32 --workers 1"
    done = on_a_small_disk(disk, 300, program, f"{disk}/store/manifest.json")
    check(done, "manifest.json")


def test_while_saving_a_checkpoint(store: Store, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    overrides = " ".join(f"'{override}'" for override in TINY)
    program = f"{sys.executable} -m train.run demo {overrides} --store {store.path} --out {disk}/run"
    done = on_a_small_disk(disk, 2000, program, f"{disk}/run/checkpoints/[0-9]*")
    check(done, "checkpoints/0")
