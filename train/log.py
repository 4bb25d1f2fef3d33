"""The run's log: one console line a log step, and the same as one JSON object in metrics.jsonl."""

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prep.errors import UserError
from prep.files import written_aside


@dataclass(frozen=True, slots=True)
class Line:
    """One log step.

    loss is the mean since the line before, NaN (null in the file) where no step was taken. samples_per_second and
    data_wait (share of the time spent waiting for the loader) leave out the first steps after a start or a new stage,
    and are None where there were only such. seconds: of training, since the run began. flops: so far. num_replaced:
    samples shown in place of damaged ones, since the stage was begun or gone on with. num_skipped: steps not taken so
    far, for what was not finite. similarity: mean cosine of the last batch's image features with one another. mfu:
    useful FLOPs over what the device could do, where that is known. memory: bytes, the most so far, of the device on a
    GPU and else of the process.
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
    num_replaced: int = 0
    num_skipped: int = 0
    similarity: float | None = None
    mfu: float | None = None
    memory: int | None = None

    def __str__(self) -> str:
        rate = "" if self.samples_per_second is None else f"{self.samples_per_second:7,.0f}/s"
        replaced = f"  {self.num_replaced:,} damaged samples replaced" if self.num_replaced else ""
        skipped = f"  {self.num_skipped:,} steps skipped" if self.num_skipped else ""
        wait = "" if self.data_wait is None else f"wait {self.data_wait:4.1%}"
        mfu = "" if self.mfu is None else f"MFU {self.mfu:5.1%}"
        memory = "" if self.memory is None else f"{self.memory / 2**30:5.1f} GiB"
        return (
            f"{self.stage_name:>8} {self.samples_seen:>11,} samples  loss {self.loss:6.4f}  lr {self.lr:.2e}  "
            f"scale {self.logit_scale:5.1f}  {rate:>9}  {wait:>10}  {mfu:>9}  {memory:>9}  "
            f"{self.seconds:6,.0f} s{replaced}{skipped}"
        )


def read_log(run: Path) -> list[Line]:
    """The log steps of a run so far, oldest first; none where there is no log. A last line cut by a kill is left out.

    Raises `UserError` naming the file and the line when another line is damaged.
    """
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    *whole, _cut = path.read_bytes().split(b"\n")
    lines = []
    for number, line in enumerate(whole, start=1):
        try:
            found = Line(**json.loads(line))
            lines.append(replace(found, loss=math.nan) if found.loss is None else found)
        except (ValueError, TypeError) as error:
            place, problem = f"{path}, line {number}", f"wanted a log step, but {error}"
            raise UserError(place, problem, "Remove the line.") from error
    return lines


class Log:
    """Appends lines; on a resume, lines after the checkpoint are dropped, so none is ever there twice."""

    def __init__(self, run: Path, samples_seen: int) -> None:
        self._path = run / "metrics.jsonl"
        kept = [_encoded(line) for line in read_log(run) if line.samples_seen <= samples_seen]
        with written_aside(self._path) as file:
            file.writelines(kept)

    def write(self, line: Line) -> None:
        """Append and print one line."""
        with self._path.open("ab") as file:
            file.write(_encoded(line))
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)


def _encoded(line: Line) -> bytes:
    values = {name: value if _is_json(value) else None for name, value in asdict(line).items()}
    return json.dumps(values).encode() + b"\n"


def _is_json(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
