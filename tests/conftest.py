"""The one store that everything else stands on: a few dozen real pairs through the real prep.build."""

import os

# One thread each: the tests run beside each other's processes, and spinning OpenMP threads would starve them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import settings

from prep.build import main as build_main
from prep.demo import main as demo_main
from prep.store import Store, open_store

# Shared machines stall: no test may fail for being slow.
settings.register_profile("shortclip", deadline=None, max_examples=60)
settings.load_profile("shortclip")

NUM_PAIRS = 96
RESOLUTIONS = (16, 32)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that prep.demo wrote: train/*.tar, zeroshot/, zeroshot_shift/, retrieval/*.tar."""
    out = tmp_path_factory.mktemp("demo") / "data"
    demo_main(["--out", str(out), "--pairs", str(NUM_PAIRS), "--seed", "1", "--workers", "1"])
    return out


@pytest.fixture(scope="session")
def store(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of the demo pairs at RESOLUTIONS."""
    out = tmp_path_factory.mktemp("store") / "store"
    res = [str(r) for r in RESOLUTIONS]
    build_main(["--input", str(demo_data / "train" / "*.tar"), "--out", str(out), "--res", *res, "--workers", "1"])
    return open_store(out)
