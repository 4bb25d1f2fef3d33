"""Files are whole or not there, folders are worked in by one program, and programs speak to the user."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from prep.errors import UserError, run_main
from prep.files import is_empty, read_json, working_in, write_json, written_aside


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with written_aside(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(TypeError), written_aside(path) as file:
        file.writelines([b"second", "no bytes"])  # type: ignore[list-item]
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"first"


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [2]})
    write_json(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [2]}
    (tmp_path / "a").write_text("[1]")
    with pytest.raises(UserError, match="found a list"):
        read_json(tmp_path / "a")


def test_what_a_kill_leaves_behind_does_not_fill_a_folder(tmp_path: Path) -> None:
    assert is_empty(tmp_path)
    (tmp_path / ".plan.json.123.tmp").write_text("half")
    assert is_empty(tmp_path)
    (tmp_path / "thesis.tex").write_text("x")
    assert not is_empty(tmp_path)


def test_a_second_program_in_the_folder_is_told(tmp_path: Path) -> None:
    code = "import pathlib, sys, prep.files\nwith prep.files.working_in(pathlib.Path(sys.argv[1])): print('in')"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with working_in(tmp_path):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another program is at work in this folder" in second.stderr
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (UserError("place", "problem", "remedy"), 2, "error: place: problem\n  remedy\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (OSError(errno.ENOSPC, "No space left on device", "big"), 2, "error: big: no space left\n  Free some"),
        (PermissionError(errno.EACCES, "Permission denied", "mine"), 2, "error: mine: permission denied\n  Give"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), 2, "a/b: not a directory"),
    ],
)
def test_mistakes_are_messages(raised: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise raised

    with pytest.raises(SystemExit) as stopped:
        run_main(main)
    assert stopped.value.code == code
    assert says in capsys.readouterr().err


def test_our_own_bugs_keep_their_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_main(main)


def test_a_reader_that_leaves_does_not_look_like_success() -> None:
    code = "from prep.errors import run_main\ndef main():\n    while True: print('line ' * 99)\nrun_main(main)"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.read(10)
    program.stdout.close()
    assert program.wait() == 141
    assert program.stderr.read() == b""
