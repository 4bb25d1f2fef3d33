"""Killed at random instants, by SIGKILL of the build or of a worker, cut files as a power failure leaves them: the same
command ends with the bytes of a build that was never interrupted.

SHORTCLIP_KILLS=1000 makes so many kills (default 16), one in twenty of them of a worker, and prints how many were
survived:

    SHORTCLIP_KILLS=1000 ./shortclip test tests/test_kills.py -n 0 -s

A build that is killed whole is a fork of this process, in which everything is loaded: so most instants fall into its
work and not into its start.
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

NUM_KILLS = int(os.environ.get("SHORTCLIP_KILLS", "16"))
NUM_WORKER_KILLS = max(1, NUM_KILLS // 20)


def arguments(tars: str, out: Path, workers: int) -> list[str]:
    return ["--input", tars, "--out", str(out), "--res", "16", "32", "--tagger", "textblob", "--workers", str(workers)]


def forked(command: list[str]) -> int:
    """Start a build in a child of this process."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            main(command)
            code = 0
        finally:
            os._exit(code)
    return pid


def cut_newest(out: Path, chance: random.Random) -> None:
    """What a power failure may leave of the file that was written last."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "plan.json"]
    if files:  # the plan is written first, synced, long before
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(newest, chance.randrange(newest.stat().st_size + 1))


@pytest.mark.timeout(60 + 10 * NUM_KILLS)
def test_killed_whole_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 4, 40)
    main(arguments(tars, tmp_path / "warm", 0))
    began = time.monotonic()
    main(arguments(tars, tmp_path / "whole", 0))
    length, whole = time.monotonic() - began, fingerprints(tmp_path / "whole")
    chance, num_kills, num_stores, out = random.Random(0), 0, 0, tmp_path / "0"
    while num_kills < NUM_KILLS:
        pid = forked(arguments(tars, out, 0))
        time.sleep(chance.uniform(0, length))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            num_kills += 1
            if chance.random() < 0.5:
                cut_newest(out, chance)
        assert os.WIFSIGNALED(status) or status == 0, f"the build failed with {status}"
        if not os.WIFSIGNALED(status) or chance.random() < 0.2:
            main(arguments(tars, out, 0))
            assert fingerprints(out) == whole
            num_stores, out = num_stores + 1, tmp_path / str(num_stores + 1)
    main(arguments(tars, out, 0))
    assert fingerprints(out) == whole
    print(f"\nsurvived {num_kills} kills of the whole build, {num_stores + 1} stores: the same bytes each time")


def workers_of(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "prep.worker_process" in " ".join(child.cmdline())]


@pytest.mark.timeout(60 + 60 * NUM_WORKER_KILLS)
def test_with_workers_killed_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    tars = many_tars(tmp_path / "tars", 8, 400)
    main(arguments(tars, tmp_path / "whole", 0))
    whole, chance, num_kills, num_builds = fingerprints(tmp_path / "whole"), random.Random(0), 0, 0
    while num_kills < NUM_WORKER_KILLS:
        out = tmp_path / str(num_builds)
        command = [sys.executable, "-m", "prep.build", *arguments(tars, out, 2)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        num_here = 0
        while process.poll() is None:
            time.sleep(chance.uniform(0, 1.5))
            # A build may be killed for ever: after some kills it is left in peace.
            if num_here < 10 and process.poll() is None and (workers := workers_of(process.pid)):
                chance.choice(workers).kill()
                num_here += 1
        assert process.returncode == 0
        assert fingerprints(out) == whole
        num_kills, num_builds = num_kills + num_here, num_builds + 1
    print(f"\nsurvived {num_kills} kills of workers in {num_builds} builds: the same bytes each time")
