"""img2dataset's own environment, made on first use: its libraries are older than ours.

It lies beside the environments of `./shortclip` (in SHORTCLIP_VENV, or shortclip/ in the user's cache) and keeps the
same rules: its folder is named by a digest of requirements-fetch.txt, so it never changes once complete; it is built
where it stays, under a lock; `.complete` is written last, and without it the folder is half-made and begun again.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from prep.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements-fetch.txt"

_CAUSES = (
    (r"No space left", "the disk is full", "Free some space, or name a folder on another disk by SHORTCLIP_VENV."),
    (
        r"Connection|Temporary failure|timed out|ProxyError|SSLError",
        "the package registry could not be reached",
        "Check the network (behind a proxy: HTTPS_PROXY; with a mirror: PIP_INDEX_URL), then run the same again.",
    ),
    (
        r"No matching distribution",
        "the registry has no wheel of a pinned package for this machine",
        "The pins are for Python 3.11 to 3.14 on Linux; take one of those.",
    ),
)


def home() -> Path:
    """The folder of the environments, as `./shortclip` has it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(os.environ.get("SHORTCLIP_VENV") or Path(cache) / "shortclip").absolute()


def python_of(requirements: Path = REQUIREMENTS) -> Path:
    """The Python of the environment with these requirements, made now if need be. Raises `UserError` if it cannot."""
    folder = folder_of(requirements)
    if not _is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another maker may be at work: its environment is taken when it is done
            if not _is_complete(folder):
                _make(folder, requirements)
    return folder / "bin" / "python"


def folder_of(requirements: Path = REQUIREMENTS) -> Path:
    """Where the environment with these requirements is, or will be."""
    try:
        lines = requirements.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(
            str(requirements), "wanted the pins of img2dataset's environment", "Restore the file."
        ) from error
    pins = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    digest = hashlib.sha256(pins.encode()).hexdigest()[:12]
    version = f"{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
    return home() / f"fetch-{digest}-{platform.machine()}-py{version}"


def _is_complete(folder: Path) -> bool:
    return (folder / ".complete").is_file() and os.access(folder / "bin" / "python", os.X_OK)


def _make(folder: Path, requirements: Path) -> None:
    log = Path(f"{folder}.log")
    console = Console(stderr=True, highlight=False)
    console.print(
        f"making img2dataset's environment, once: 75 MB to download, 250 MB on disk; pip's log: {log}", soft_wrap=True
    )
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with log.open("wb") as file:
            _install(folder, requirements, file.fileno())
    except (subprocess.CalledProcessError, KeyboardInterrupt) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _explained(log) from error
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    (folder / ".complete").touch()


def _install(folder: Path, requirements: Path, log: int) -> None:
    (folder / "tmp").mkdir(parents=True)
    # What PYTHONPATH brings would pass for installed; a small /tmp could not hold the downloads.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"TMPDIR": str(folder / "tmp"), "PIP_USER": "0", "PIP_NO_INPUT": "1"}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def run(*command: str | Path) -> None:
        subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, check=True)

    base = str(getattr(sys, "_base_executable", sys.executable))
    has_pip = [python for python in (sys.executable, base) if _imports(python, "pip")]
    if has_pip:  # a third of the time that it takes to install a pip there first
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        pip: list[str | Path] = [has_pip[0], "-m", "pip", "--python", folder / "bin" / "python"]
    else:
        run(sys.executable, "-m", "venv", folder)
        pip = [folder / "bin" / "python", "-m", "pip"]
    run(*pip, "install", "--no-deps", "--no-compile", "--progress-bar", "off", "-r", requirements)


def _imports(python: str, module: str) -> bool:
    return subprocess.run([python, "-Ic", f"import {module}"], capture_output=True, check=False).returncode == 0


def _explained(log: Path) -> UserError:
    said = log.read_text("utf-8", "replace")
    for pattern, problem, remedy in _CAUSES:
        if re.search(pattern, said):
            return UserError(str(log), f"img2dataset's environment could not be made: {problem}", remedy)
    end = "\n    ".join(said.splitlines()[-6:])
    return UserError(
        str(log),
        f"img2dataset's environment could not be made:\n    {end}",
        "Mend that, then run the same command again.",
    )
