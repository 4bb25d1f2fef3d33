"""Workers that die, hang or fail, played by shell scripts in place of a Python."""

from pathlib import Path

import pytest

from prep import fetch_workers
from prep.errors import UserError
from prep.fetch_guard import Limits
from prep.fetch_worker import Settings
from prep.fetch_workers import Job, run_jobs

GOOD = """while read -r line; do
    shard=${line#*: } && shard=${shard%%,*}
    echo '{"urls": 1}'
    echo "{\\"urls\\": 2, \\"ended\\": $shard, \\"well\\": true}"
done"""


def played(folder: Path, script: str) -> tuple[Path, Settings]:
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python, Settings(str(folder), ("row", "caption", "url"), 3, 1, None, Limits(retries=0, max_seconds=0.1))


def run(folder: Path, script: str, num_jobs: int, num_workers: int = 2) -> tuple[list[int], int]:
    """The shards in the order in which they ended, and the number of URLs that were told of."""
    python, settings = played(folder, script)
    jobs = (Job(shard, 3, folder / f"{shard}.arrow") for shard in range(num_jobs))
    urls: list[int] = []
    ended = [job.shard for job in run_jobs(jobs, num_workers, python, settings, urls.append)]
    return ended, sum(urls)


@pytest.mark.parametrize(("num_jobs", "num_workers"), [(0, 2), (1, 2), (7, 1), (7, 3)])
def test_every_job_ends_once(tmp_path: Path, num_jobs: int, num_workers: int) -> None:
    ended, num_urls = run(tmp_path, GOOD, num_jobs, num_workers)
    assert sorted(ended) == list(range(num_jobs))
    assert num_urls == 3 * num_jobs


def test_the_job_of_a_worker_that_dies_is_begun_again(tmp_path: Path) -> None:
    dies_twice = (
        f'[ "$(ls "{tmp_path}" | grep -c dead)" -ge 2 ] || {{ read -r x; touch "{tmp_path}/dead.$$"; exit 1; }}'
    )
    ended, _ = run(tmp_path, f"{dies_twice}\n{GOOD}", 4)
    assert sorted(ended) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "script",
    [
        "echo out of memory >&2; exit 1",
        "read -r x; echo out of memory >&2; kill -9 $$",
        "echo out of memory >&2; exec sleep 1000",
        """echo out of memory >&2; while read -r x; do echo '{"urls": 3, "ended": 0, "well": false}'; done""",
    ],
    ids=["dies at once", "is killed", "hangs", "fails"],
)
def test_a_job_that_cannot_be_done_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(fetch_workers, "_SLACK_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"shard 00000: .* 3 times[^$]*out of memory"):
        run(tmp_path, script, 1)
