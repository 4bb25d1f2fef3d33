"""img2dataset's environment: made once, whole or not there. Offline, with a package that is made here."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from prep.errors import UserError
from prep.fetch_environment import REQUIREMENTS, folder_of, home, python_of

ROOT = Path(__file__).parents[1]


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pins of a package of one module, which lies in a folder that stands for the registry."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    files = {
        "pinned_thing.py": "VALUE = 7\n",
        "pinned_thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: pinned-thing\nVersion: 1.0\n",
        "pinned_thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "pinned_thing-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(wheels / "pinned_thing-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("SHORTCLIP_VENV", str(tmp_path / "environments"))
    path = tmp_path / "requirements.txt"
    path.write_text("# a comment\npinned-thing==1.0\n")
    return path


def folders() -> list[Path]:
    return sorted(path for path in home().iterdir() if path.is_dir())


def test_two_makers_make_one_environment_of_what_was_half_made(requirements: Path) -> None:
    folder = folder_of(requirements)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)  # as if its maker had been killed
    (folder / "left-over").touch()
    program = (
        f"from pathlib import Path; from prep.fetch_environment import *; print(python_of(Path({str(requirements)!r})))"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [maker.communicate() for maker in makers]
    assert folders() == [folder]
    assert not (folder / "left-over").exists()
    assert [out.decode().strip() for out, _ in said] == [str(folder / "bin" / "python")] * 2
    assert sum(b"making img2dataset's environment" in err for _, err in said) == 1
    ran = subprocess.check_output([folder / "bin" / "python", "-c", "import pinned_thing; print(pinned_thing.VALUE)"])
    assert ran == b"7\n"

    made = (folder / ".complete").stat().st_mtime_ns
    requirements.write_text("# another comment\n\npinned-thing==1.0\n")
    assert python_of(requirements) == folder / "bin" / "python"
    assert (folder / ".complete").stat().st_mtime_ns == made


def test_what_cannot_be_made_leaves_nothing_and_says_why(requirements: Path) -> None:
    requirements.write_text("no-such-thing==1.0\n")
    with pytest.raises(UserError, match="no wheel of a pinned package"):
        python_of(requirements)
    assert folders() == []
    with pytest.raises(UserError, match="wanted the pins"):
        python_of(requirements.with_name("absent.txt"))


def test_the_environments_lie_where_the_launcher_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHORTCLIP_VENV", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    said = subprocess.check_output([ROOT / "shortclip", "help"], env=os.environ, text=True)
    assert f"now {home()}\n" in said


def test_the_shared_pins_are_the_projects_own() -> None:
    """One download serves both, and an environment of other versions would be tested by nobody."""

    def pins(path: Path) -> dict[str, str]:
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        return dict(line.split("==") for line in lines)

    ours = pins(ROOT / "requirements.txt") | pins(ROOT / "constraints.txt")
    theirs = pins(REQUIREMENTS)
    older = {"webdataset"}  # img2dataset wants one below 0.3
    assert {name for name, version in theirs.items() if ours.get(name, version) != version} == older
