"""Starting the project's own programs from another, whatever folder the user stands in."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def run_program(module: str, arguments: Sequence[str]) -> bool:
    """Run `python -m module arguments`; True when it succeeded. It speaks for itself on the console.

    -P keeps a folder of the user's that is called `train` or `eval` from passing for ours.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-P", "-m", module, *arguments], env=environment, check=False)
    return done.returncode == 0
