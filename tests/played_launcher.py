"""A clone of its own for each test of the launcher, with a Python whose pip and venv are played.

The played Python writes one line a call to `calls`; everything else it hands to a real one. The machine's own compiler,
headers, package manager and user are played, too.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLAYED_PYTHON = f"""#!/bin/sh
case "$1 $2" in
    "-m venv") echo venv >>"$CALLS" && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip")
        echo pip >>"$CALLS"
        echo "$PIP_SAYS"
        [ -z "$PIP_TAKES" ] || exec sleep "$PIP_TAKES"
        [ -z "$PIP_SAYS" ] ;;
    "-Ic import sysconfig; "*) echo "$HEADERS" ;;
    "-Ic import ffcv.loader") echo import >>"$CALLS"; [ -z "$FFCV_FAILS" ] ;;
    "-m ruff" | "-m mypy" | "-m pytest") echo "ran $2 $3"; [ "$FAILS" != "$2" ] ;;
    *) exec '{sys.executable}' "$@" ;;
esac
"""
PLAYED_APT = """#!/bin/sh
echo apt-get "$@" >>"$CALLS"
[ -z "$APT_FAILS" ] || exit 100
case "$*" in *install*) touch "$HEADERS/Python.h" "$HEADERS/opencv" ;; esac
"""
PLAYED_MACHINE = {
    "apt-get": PLAYED_APT,
    "pkg-config": '#!/bin/sh\n[ -e "$HEADERS/opencv" ] || exit 1\n[ $1 = --exists ] || echo 4.6.0\n',
    "c++": "#!/bin/sh\n",
    "id": '#!/bin/sh\necho "$USER_ID"\n',
}
PLAYED_DF = """#!/bin/sh
echo Filesystem 1024-blocks Used Available Capacity Mounted on
echo /dev/disk 99999999 1 "${FREE:-99999998}" 1% /
"""


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Clone:
    """A copy of the launcher with its own requirements, environments, and played Python."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home, self.calls = folder / "a clone", folder / "environments", folder / "calls"
        self.root.mkdir(parents=True)
        shutil.copy(ROOT / "shortclip", self.root)
        for name in ("requirements.txt", "constraints.txt", "requirements-model.txt"):
            (self.root / name).write_text("# nothing\nsix==1.17.0\n")
        (self.root / "requirements-ffcv.txt").write_text("# nothing\nffcv==1.0.2 --hash=sha256:00\n")
        python = write_program(folder / "bin" / "python3", PLAYED_PYTHON)
        write_program(folder / "bin" / "df", PLAYED_DF)
        for name, text in PLAYED_MACHINE.items():
            write_program(folder / "bin" / name, text)
        self.headers = folder / "headers" / "python3.11"
        self.headers.mkdir(parents=True)
        for name in ("Python.h", "opencv"):
            (self.headers / name).touch()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SHORTCLIP_", "PYTHON"))}
        places = {"SHORTCLIP_VENV": self.home, "SHORTCLIP_PYTHON": python, "CALLS": self.calls}
        places["HEADERS"] = self.headers
        path = f"{python.parent}:{os.environ['PATH']}"
        self.environment = inherited | {k: str(v) for k, v in places.items()} | {"PATH": path, "USER_ID": "1000"}

    def start(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        command, pipe = [str(self.root / "shortclip"), *arguments], subprocess.PIPE
        surroundings = self.environment | environment
        return subprocess.Popen(command, cwd=cwd or self.root, env=surroundings, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, cwd=cwd, **environment) as process:
            stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def environments(self) -> list[Path]:
        return sorted(path for path in self.home.iterdir() if path.is_dir())

    def num_calls(self, program: str) -> int:
        calls = self.calls.read_text() if self.calls.exists() else ""
        return sum(line.startswith(program) for line in calls.splitlines())

    def wait_for_pip(self, num_calls: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.num_calls("pip") < num_calls:
            assert time.monotonic() < deadline, "pip was not called"
            time.sleep(0.05)
