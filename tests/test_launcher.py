"""The launcher, from a copy of the clone with requirements of its own and a Python whose pip and venv are played.

See tests/played_launcher.py. One test uses the real thing, offline, on wheels that it makes.
"""

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .played_launcher import Clone, write_program


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_an_environment_is_made_once_and_found_again_by_another_clone(clone: Clone, tmp_path: Path) -> None:
    assert clone.run("run", "-c", "print(1 + 1)").stdout == "2\n"
    second = clone.run("run", "-c", "print(3)")
    assert (second.stdout, second.stderr) == ("3\n", "")
    shutil.copytree(clone.root, clone.root.parent / "another")
    clone.root = clone.root.parent / "another"
    # Without a Python named, a complete environment will do; none is looked for.
    found = clone.run("run", "-c", "print(4)", SHORTCLIP_PYTHON="")
    assert (found.stdout, found.stderr) == ("4\n", "")
    assert clone.num_calls("venv") == 1
    assert clone.num_calls("pip") == 2


def test_bytecode_is_kept_even_where_it_is_not_wanted(clone: Clone) -> None:
    asked = clone.run("run", "-c", "import sys; print(sys.dont_write_bytecode)", PYTHONDONTWRITEBYTECODE="1")
    assert asked.stdout == "False\n"


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "requirements-model.txt"])
def test_a_changed_requirement_makes_a_new_environment(clone: Clone, name: str) -> None:
    clone.run("run", "-c", "pass")
    before = (clone.root / name).read_text()
    (clone.root / name).write_text(before.replace("1.17.0", "1.16.0"))
    clone.run("run", "-c", "pass")
    assert len(clone.environments()) == clone.num_calls("venv") == 2
    (clone.root / name).write_text(f"{before}\n# a remark is no change\n")
    clone.run("run", "-c", "pass")
    assert clone.num_calls("venv") == 2


def test_runs_from_another_folder_without_taking_its_packages_for_ours(clone: Clone, tmp_path: Path) -> None:
    for folder, text in ((clone.root, "ours"), (tmp_path / "elsewhere", "theirs")):
        (folder / "prep").mkdir(parents=True)
        (folder / "prep" / "build.py").write_text(f"import os, sys; print({text!r}, os.getcwd(), sys.argv[1:])")
    elsewhere = tmp_path / "elsewhere"
    ran = clone.run("run", "-m", "prep.build", "--input", "a b", cwd=elsewhere)
    assert ran.stdout == f"ours {elsewhere} ['--input', 'a b']\n"
    (elsewhere / "mine.py").write_text("import beside, prep.build")
    (elsewhere / "beside.py").write_text("print('found')")
    assert clone.run("run", "elsewhere/mine.py", cwd=tmp_path).stdout == f"found\ntheirs {tmp_path} []\n"
    link = tmp_path / "linked"
    link.symlink_to(clone.root / "shortclip")
    linked = subprocess.check_output([link, "run", "-m", "prep.build"], env=clone.environment, cwd="/", text=True)
    assert linked == "ours / []\n"


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        ("ERROR: No matching distribution found for six==9", "Another Python"),
        ("WARNING: Retrying after connection broken by NewConnectionError\nERROR: No matching", "HTTPS_PROXY"),
        ("OSError: [Errno 28] No space left on device", "SHORTCLIP_VENV="),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "mirror"),
        ("Segmentation fault", "run the same command again"),
    ],
)
def test_a_failed_pip_is_shown_with_what_to_do(clone: Clone, says: str, remedy: str) -> None:
    failed = clone.run("run", "-c", "print('reached')", PIP_SAYS=says)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert says.splitlines()[-1] in failed.stderr
    log = next(clone.home.glob("*.log"))
    assert str(log) in failed.stderr
    assert remedy in failed.stderr.split(says.splitlines()[-1])[1]
    assert clone.environments() == []
    assert clone.run("run", "-c", "print('reached')").stdout == "reached\n"


def test_a_half_made_environment_is_made_anew(clone: Clone) -> None:
    clone.run("run", "-c", "pass")
    (environment,) = clone.environments()
    (environment / ".complete").unlink()
    (environment / "stale").touch()
    again = clone.run("run", "-c", "print('reached')")
    assert again.stdout == "reached\n"
    assert "half-made" in again.stderr
    assert not (environment / "stale").exists()
    (environment / "bin" / "python").unlink()
    assert clone.run("run", "-c", "print('reached')").stdout == "reached\n"
    assert clone.num_calls("venv") == 3


def test_the_second_of_two_launchers_waits_for_the_first(clone: Clone) -> None:
    first = clone.start("run", "-c", "print('first')", PIP_TAKES="1")
    clone.wait_for_pip()
    second = clone.run("run", "-c", "print('second')")
    assert second.stdout == "second\n"
    assert "waiting for it" in second.stderr
    assert first.communicate()[0] == "first\n"
    assert clone.num_calls("venv") == 1


def test_a_launcher_that_is_stopped_leaves_nothing_half_made(clone: Clone) -> None:
    launcher = clone.start("run", "-c", "print('reached')", PIP_TAKES="60")
    clone.wait_for_pip()
    launcher.send_signal(signal.SIGTERM)
    stdout, stderr = launcher.communicate(timeout=30)
    assert (launcher.returncode, stdout) == (130, "")
    assert "starts over" in stderr
    assert clone.environments() == []


def test_test_runs_all_four_and_pytest_has_the_last_word(clone: Clone) -> None:
    for fails, before_it in (("", ""), ("ruff", " ruff check, ruff format,"), ("mypy", " mypy,"), ("pytest", "")):
        ran = clone.run("test", "-k", FAILS=fails)
        assert ran.returncode == bool(fails), fails
        said = [line for line in ran.stdout.splitlines() if line.startswith(("ran", "== pytest"))]
        heading = f"== pytest (before it failed:{before_it})" if before_it else "== pytest"
        assert said == ["ran ruff check", "ran ruff format", "ran mypy ", heading, "ran pytest -k"]
        assert ran.stdout.endswith("ran pytest -k\n")


def test_too_little_disk_is_said_before_anything_is_made(clone: Clone) -> None:
    full = clone.run("env", FREE=str(3 * 2**20))
    assert full.returncode == 1
    assert "12 GB" in full.stderr
    assert "there are 3 " in full.stderr
    assert clone.environments() == []


def test_no_fitting_python_is_said(clone: Clone, tmp_path: Path) -> None:
    old = write_program(tmp_path / "old", "#!/bin/sh\necho 3.10\n")
    for python, found in ((str(old), f"{old} is 3.10"), (str(tmp_path / "nowhere"), "none of")):
        missing = clone.run("env", SHORTCLIP_PYTHON=python)
        assert missing.returncode == 1
        assert found in missing.stderr
        assert "SHORTCLIP_PYTHON=" in missing.stderr


def test_mistakes_and_help_make_no_environment(clone: Clone) -> None:
    assert clone.run("trian").returncode == 2
    assert "'trian'" in clone.run("trian").stderr
    for arguments in ((), ("help",), ("--help",)):
        assert "usage:" in clone.run(*arguments).stdout
    (clone.root / "constraints.txt").unlink()
    missing = clone.run("env")
    assert missing.returncode == 1
    assert "constraints.txt" in missing.stderr
    assert not clone.home.exists()


def write_wheel(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "answer = 42\n")
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def test_a_real_environment_from_real_wheels(clone: Clone, tmp_path: Path) -> None:
    write_wheel(tmp_path, "tinyclip")
    digest = hashlib.sha256(write_wheel(tmp_path, "tinymodel").read_bytes()).hexdigest()
    (clone.root / "requirements.txt").write_text("tinyclip==1.0\n")
    (clone.root / "requirements-model.txt").write_text(f"tinymodel==1.0 --hash=sha256:{digest}\n")
    clone.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "SHORTCLIP_PYTHON": sys.executable}
    ran = clone.run("run", "-c", "import tinyclip, tinymodel; print(tinyclip.answer)")
    assert ran.stdout == "42\n", ran.stderr
    (environment,) = clone.environments()
    activate = re.search("^activate +(.+)$", clone.run("env").stdout, re.MULTILINE)
    assert activate
    activated = f"{activate[1]}; python -c 'import tinymodel, sys; print(sys.prefix)'"
    assert subprocess.check_output(["sh", "-c", activated], text=True) == f"{environment}\n"
