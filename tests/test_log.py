"""The run's log: what is written reads back, whatever a kill left at its end, and damage elsewhere is named."""

from pathlib import Path

import pytest

from prep.errors import UserError
from train.log import Line, Log, read_log


def line(samples_seen: int, rate: float | None = 512.5) -> Line:
    wait = None if rate is None else 0.125
    return Line(samples_seen, 0, "short", 4.25, 1e-3, 14.3, rate, wait, seconds=0.1 + 0.2, flops=1e18)


def written(run: Path, *lines: Line) -> Path:
    run.mkdir(exist_ok=True)
    log = Log(run, 0)
    for one in lines:
        log.write(one)
    return run / "metrics.jsonl"


def test_what_is_written_reads_back_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line(128, rate=None), line(256), line(384)]
    written(tmp_path, *lines)
    assert read_log(tmp_path) == lines
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_run_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    (tmp_path / "metrics.jsonl").touch()
    assert read_log(tmp_path) == []


def test_a_last_line_cut_by_a_kill_is_left_out_wherever_it_is_cut(tmp_path: Path) -> None:
    path = written(tmp_path, line(128), line(256))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read_log(tmp_path) == [line(128)]


@pytest.mark.parametrize("damage", [b"not json", b"", b"null", b"\xff\x00", b'{"samples_seen": 256}', b'{"seen": 1}'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = written(tmp_path, line(128), line(256))
    first, _, last = path.read_bytes().partition(b"\n")
    path.write_bytes(first + b"\n" + damage + b"\n" + last)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: wanted a log step"):
        read_log(tmp_path)


def test_a_resume_drops_what_lies_after_its_checkpoint(tmp_path: Path) -> None:
    path = written(tmp_path, line(128), line(256), line(384))
    path.write_bytes(path.read_bytes() + b'{"samples_seen": 512, "st')
    log = Log(tmp_path, 256)
    assert read_log(tmp_path) == [line(128), line(256)]
    log.write(line(384, rate=None))
    assert read_log(tmp_path) == [line(128), line(256), line(384, rate=None)]
