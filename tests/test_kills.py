"""Killed at random instants, by SIGKILL of the build or of a worker, cut files as a power failure leaves them: the same
command ends with the bytes of a build that was never interrupted.

SHORTCLIP_KILLS=1000 runs so many kills (default a few) and prints how many were survived:

    SHORTCLIP_KILLS=1000 ./shortclip test tests/test_kills.py -n 0 -s
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from prep.build import main

from .test_build import fingerprints, many_tars

NUM_KILLS = int(os.environ.get("SHORTCLIP_KILLS", "4"))
KINDS = ("build", "worker", "power")


def command(tars: str, out: Path, workers: int) -> list[str]:
    options = ["--res", "16", "32", "--tagger", "textblob", "--workers", str(workers)]
    return [sys.executable, "-m", "prep.build", "--input", tars, "--out", str(out), *options]


def strike(process: "subprocess.Popen[bytes]", kind: str, out: Path, chance: random.Random) -> None:
    """Kill the build, or one of its workers, wherever it stands; a power cut also loses the end of the newest file."""
    if kind == "worker":
        children = [
            child
            for child in psutil.Process(process.pid).children()
            if "prep.worker_process" in " ".join(child.cmdline())
        ]
        if children:
            chance.choice(children).kill()
        return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    files = [path for path in out.rglob("*") if path.is_file()]
    if kind == "power" and files:
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        if newest.name != "plan.json":  # written first, synced, long before
            os.truncate(newest, chance.randrange(newest.stat().st_size + 1))


@pytest.mark.timeout(60 * NUM_KILLS)
def test_any_kill_ends_in_the_same_bytes(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 4, 40)
    began = time.monotonic()
    subprocess.run(command(tars, tmp_path / "whole", 2), check=True, stdout=subprocess.DEVNULL)
    length, whole = time.monotonic() - began, fingerprints(tmp_path / "whole")
    chance, survived = random.Random(0), 0
    while survived < NUM_KILLS:
        out = tmp_path / f"killed-{survived}"
        for kind in chance.sample(KINDS, len(KINDS)):
            process = subprocess.Popen(
                command(tars, out, 1 + survived % 2),
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(chance.uniform(0.2, 1.0) * length)
            if process.poll() is None:
                strike(process, kind, out, chance)
                survived += 1
            assert process.wait(timeout=120) in (0, -signal.SIGKILL), kind
        main(["--input", tars, "--out", str(out), "--res", "16", "32", "--tagger", "textblob", "--workers", "1"])
        assert fingerprints(out) == whole
    print(f"\nsurvived {survived} kills: the same bytes each time")
