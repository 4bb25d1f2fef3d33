"""The one store that everything else stands on: a few dozen real pairs through the real prep.build."""

import os

# One thread each: the tests run beside each other's processes, and spinning OpenMP threads would starve them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fcntl
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from prep.build import main as build_main
from prep.demo import main as demo_main
from prep.store import Store, open_store
from train import checkpoint

from .tiny_demo import FinishedDemo, demo_command

# Shared machines stall: no test may fail for being slow.
settings.register_profile("shortclip", deadline=None, max_examples=60)
settings.load_profile("shortclip")

NUM_PAIRS = 96
RESOLUTIONS = (16, 32)


def make_demo_data(out: Path) -> Path:
    demo_main(["--out", str(out), "--pairs", str(NUM_PAIRS), "--seed", "1", "--workers", "1"])
    return out


def make_store(data: Path, out: Path) -> Store:
    res = [str(r) for r in RESOLUTIONS]
    build_main(["--input", str(data / "train" / "*.tar"), "--out", str(out), "--res", *res, "--workers", "0"])
    return open_store(out)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str]) -> tuple[Path, str]:
    """A folder that is made once for all workers of a test run, and what `make` said about it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, said = base / name, base / f"{name}.txt"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)
            said.write_text(make(folder))
    return folder, said.read_text()


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that prep.demo wrote: train/*.tar, zeroshot/, zeroshot_shift/, retrieval/*.tar."""
    return once(tmp_path_factory, "data", lambda out: str(make_demo_data(out)))[0]


@pytest.fixture(scope="session")
def store(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of the demo pairs at RESOLUTIONS."""
    return open_store(once(tmp_path_factory, "store", lambda out: str(make_store(demo_data, out).path))[0])


def make_finished_demo(out: Path) -> str:
    process = subprocess.Popen(demo_command(out), stdout=subprocess.DEVNULL, start_new_session=True)
    while not checkpoint.found(out / "run"):
        assert process.poll() is None, "the demo ended before its first checkpoint"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "summary.json").exists()
    done = subprocess.run(demo_command(out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """A demo that was killed with SIGKILL in the middle of its training and started again."""
    return FinishedDemo(*once(tmp_path_factory, "finished_demo", make_finished_demo))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, here and in programs that are started; what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
