"""The processes that download: each is handed a shard at a time, and watched.

A worker that dies (the system was out of memory), or in which not one URL was done for longer than any URL may take,
is replaced, and its shard begun again; a shard to which that happens three times ends the work with a message. So no
shard can keep the work from ending.
"""

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prep.errors import UserError
from prep.fetch_environment import ROOT
from prep.fetch_worker import Settings

_MAX_TRIES = 3
# For one URL, beyond its own limits: a resolver's patience (glibc's is 5 s, twice, for each of up to 3 servers), the
# pauses between tries, an image to be decoded; and for a shard, its start and its end.
_SLACK_SECONDS = 120.0


@dataclass(slots=True)
class Job:
    """A shard to be downloaded: its number, its rows, and the Arrow file that lists them."""

    shard: int
    num_rows: int
    list: Path
    num_tries: int = 0


class _Worker:
    """One process, its job, and when it was last heard of. Its stderr, and all that it prints, goes to `log`."""

    def __init__(self, python: Path, settings: Settings, log: Path) -> None:
        self.log, self.said, self.heard = log, b"", time.monotonic()
        self.job: Job | None = None
        # -P: a folder named as a library, where the user stands, must not pass for it. A session of its own: Ctrl-C is
        # for us to answer. OpenMP threads would only be idle.
        command = [str(python), "-P", "-m", "prep.fetch_worker", settings.to_json()]
        surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        surroundings.pop("PYTHONHOME", None)
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                command,
                env=surroundings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def take(self, job: Job) -> None:
        job.num_tries += 1
        self.job, self.heard = job, time.monotonic()
        with suppress(BrokenPipeError):  # it died just now, which its stdout will tell
            self.stdin.write(json.dumps({"shard": job.shard, "list": str(job.list)}).encode() + b"\n")
            self.stdin.flush()

    def hear(self) -> list[dict[str, object]] | None:
        """What it said since, or None when it is gone."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        self.heard = time.monotonic()
        *lines, self.said = (self.said + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    def end(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        self.process.wait()


def run_jobs(
    jobs: Iterator[Job],
    num_workers: int,
    python: Path,
    settings: Settings,
    advance: Callable[[int], None],
) -> Generator[Job]:
    """Download jobs and yield each as it ends. jobs is drawn from as workers are free; advance: told of URLs done.

    Raises `UserError` when a job killed its worker, or failed, three times.
    """
    limits = settings.limits
    silence = _SLACK_SECONDS + (limits.retries + 1) * limits.max_seconds + 2**limits.retries - 1
    selector = selectors.DefaultSelector()
    again: list[Job] = []

    def next_job() -> Job | None:
        return again.pop() if again else next(jobs, None)

    def hand_on(worker: _Worker | None) -> None:
        """Give a worker, or a new one, the next job; without one, it goes."""
        job = next_job()
        if job is None and worker:
            selector.unregister(worker.stdout)
            worker.end()
        if job is None:
            return
        if worker is None:
            worker = _Worker(python, settings, Path(settings.out) / f"worker-{len(selector.get_map())}.log")
            selector.register(worker.stdout, selectors.EVENT_READ, worker)
        worker.take(job)

    try:
        for _ in range(num_workers):
            hand_on(None)
        while selector.get_map():
            for key, _ in selector.select(timeout=1.0):
                worker: _Worker = key.data
                job, said = worker.job, worker.hear()
                assert job is not None
                for message in said or ():
                    advance(int(str(message["urls"])))
                    if message.get("well"):
                        yield job
                    if "ended" in message:
                        again += [] if message["well"] else [_worth_another_try(job, worker.log)]
                        hand_on(worker)
                if said is None:
                    selector.unregister(worker.stdout)
                    worker.end()
                    again.append(_worth_another_try(job, worker.log))
                    hand_on(None)
            for key in list(selector.get_map().values()):
                if time.monotonic() - key.data.heard > silence:
                    key.data.process.kill()
    finally:
        for key in list(selector.get_map().values()):
            key.data.end()
        selector.close()


def _worth_another_try(job: Job, log: Path) -> Job:
    if job.num_tries < _MAX_TRIES:
        return job
    end = "\n    ".join(log.read_text("utf-8", "replace").splitlines()[-6:])
    raise UserError(
        f"shard {job.shard:05d}",
        f"its worker died, hung or failed {_MAX_TRIES} times"
        + (f"; the last that was heard:\n    {end}" if end else ""),
        "Is there memory (else fewer --processes or --threads) and disk? Then run the same command again.",
    )
