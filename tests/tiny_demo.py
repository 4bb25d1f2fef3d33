"""The demo as the tests run it: the real program with a tiny recipe and few pairs."""

import sys
from pathlib import Path
from typing import NamedTuple

from .test_train_run import TINY

SMALL = [*TINY, "stages.0.samples=1920", "stages.1.samples=960"]


class FinishedDemo(NamedTuple):
    """Its folder, and what it said on the console."""

    out: Path
    screen: str


def demo_command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "eval.demo", *SMALL, "--out", str(out), "--pairs", "120", *options]
