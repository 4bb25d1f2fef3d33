"""The run's log: one console line a log step, and the same as one JSON object in metrics.jsonl."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from prep.files import written_aside


@dataclass(frozen=True, slots=True)
class Line:
    """One log step.

    loss is the mean since the line before. samples_per_second and data_wait (share of the time spent waiting for the
    loader) leave out the first steps after a start or a new stage, and are None where there were only such. seconds: of
    training, since the run began. flops: so far.
    """

    samples_seen: int
    stage: int
    stage_name: str
    loss: float
    lr: float
    logit_scale: float
    samples_per_second: float | None
    data_wait: float | None
    seconds: float
    flops: float

    def __str__(self) -> str:
        rate = "" if self.samples_per_second is None else f"{self.samples_per_second:7,.0f}/s"
        wait = "" if self.data_wait is None else f"wait {self.data_wait:4.1%}"
        return (
            f"{self.stage_name:>8} {self.samples_seen:>11,} samples  loss {self.loss:6.4f}  lr {self.lr:.2e}  "
            f"scale {self.logit_scale:5.1f}  {rate:>9}  {wait:>10}  "
            f"{self.seconds:6,.0f} s"
        )


class Log:
    """Appends lines; on a resume, lines after the checkpoint are dropped, so none is ever there twice."""

    def __init__(self, run: Path, samples_seen: int) -> None:
        self._path = run / "metrics.jsonl"
        kept = [line for line in self._whole_lines() if json.loads(line)["samples_seen"] <= samples_seen]
        with written_aside(self._path) as file:
            file.writelines(kept)

    def _whole_lines(self) -> list[bytes]:
        """Lines that end as lines do: a kill can leave half of one at the end."""
        if not self._path.exists():
            return []
        return [line for line in self._path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def write(self, line: Line) -> None:
        """Append and print one line."""
        with self._path.open("ab") as file:
            file.write(json.dumps(asdict(line)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)


def read_log(run: Path) -> list[Line]:
    """All lines of a run so far, oldest first."""
    path = run / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [Line(**json.loads(line)) for line in lines]
