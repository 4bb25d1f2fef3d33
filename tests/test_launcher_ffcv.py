"""How the launcher adds ffcv to an environment: where it can, once, and never twice the same failure."""

import signal
from pathlib import Path

import pytest

from .played_launcher import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def bare(clone: Clone) -> Clone:
    """A clone on a machine without the headers, where one is root."""
    for name in ("Python.h", "opencv"):
        (clone.headers / name).unlink()
    clone.environment |= {"USER_ID": "0"}
    return clone


CALLS_OF_AN_ENVIRONMENT = 2
"""Of pip; any more are ffcv's."""


def num_builds(clone: Clone) -> int:
    return clone.num_calls("pip") - CALLS_OF_AN_ENVIRONMENT


def test_it_is_built_once_and_only_for_those_who_need_it(clone: Clone) -> None:
    for _ in range(2):
        clone.run("demo")
        clone.run("run", "-c", "pass")
        assert "not there" in clone.run("env").stdout
    assert num_builds(clone) == 0
    first = clone.run("test")
    assert "compiling ffcv==1.0.2" in first.stderr
    for again in (clone.run("test"), clone.run("ffcv")):
        assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("ffcv==1.0.2 is in ")
    assert num_builds(clone) == clone.num_calls("import") == 1
    assert "ffcv==1.0.2" in clone.run("env").stdout


def test_a_new_pin_is_built_in_its_place(clone: Clone) -> None:
    clone.run("ffcv")
    (clone.root / "requirements-ffcv.txt").write_text("ffcv==1.0.3 --hash=sha256:00\n")
    assert clone.run("ffcv").stdout.startswith("ffcv==1.0.3 is in ")
    assert num_builds(clone) == 2
    (environment,) = clone.environments()
    assert [path.name for path in environment.glob(".ffcv*")] == [".ffcv==1.0.3"]


def test_root_gets_the_packages_it_compiles_against(bare: Clone) -> None:
    ran = bare.run("test")
    assert "installing g++ pkg-config libopencv-dev libturbojpeg0-dev python3.11-dev" in ran.stderr
    assert "ran pytest" in ran.stdout
    assert bare.num_calls("apt-get") == 2
    assert num_builds(bare) == 1
    assert bare.run("test").stderr == ""


def test_another_user_is_told_which_packages_are_missing(bare: Clone) -> None:
    ran = bare.run("test", USER_ID="1000")
    missing = "g++ pkg-config libopencv-dev libturbojpeg0-dev python3.11-dev"
    assert f"apt-get install {missing}; then ./shortclip ffcv" in ran.stderr.splitlines()[-1]
    assert ran.stdout.endswith("ran pytest \n")
    assert ran.returncode == bare.num_calls("apt-get") == num_builds(bare) == 0
    assert bare.run("ffcv", USER_ID="1000").returncode == 1


@pytest.mark.parametrize(("fails", "calls"), [("APT_FAILS", "apt-get"), ("FFCV_FAILS", "import")])
def test_what_failed_is_not_tried_again_unless_asked_for(bare: Clone, fails: str, calls: str) -> None:
    bare.environment[fails] = "1"
    failed = bare.run("test")
    del bare.environment[fails]
    assert "ffcv is left out, and its tests skip" in failed.stderr
    assert (failed.returncode, bare.num_calls(calls)) == (0, 1)
    second = bare.run("test")
    assert len(second.stderr.splitlines()) == 1
    assert "failed before" in second.stderr
    assert "ran pytest" in second.stdout
    assert bare.num_calls(calls) == 1
    assert bare.run("ffcv").returncode == 0
    assert bare.run("test").stderr == ""


def test_other_headers_are_another_try(clone: Clone) -> None:
    clone.run("test", FFCV_FAILS="1")
    program = clone.root.parent / "bin" / "pkg-config"
    program.write_text(program.read_text().replace("4.6.0", "4.10.0"))
    assert "done in" in clone.run("test").stderr


def test_a_failed_build_is_shown_and_leaves_the_environment_as_it_was(clone: Clone) -> None:
    clone.run("run", "-c", "pass")
    failed = clone.run("ffcv", PIP_SAYS="opencv2/opencv.hpp: too new")
    assert failed.returncode == 1
    assert "    opencv2/opencv.hpp: too new\n" in failed.stderr
    assert clone.run("run", "-c", "print('reached')").stdout == "reached\n"
    assert clone.num_calls("venv") == 1


def test_a_build_that_is_stopped_starts_over(clone: Clone) -> None:
    clone.run("run", "-c", "pass")
    builder = clone.start("ffcv", PIP_TAKES="60")
    clone.wait_for_pip(CALLS_OF_AN_ENVIRONMENT + 1)
    builder.send_signal(signal.SIGTERM)
    _, stderr = builder.communicate(timeout=30)
    assert builder.returncode == 130
    assert "stopped while compiling ffcv==1.0.2" in stderr
    assert clone.run("ffcv").returncode == 0
    assert clone.num_calls("venv") == 1
