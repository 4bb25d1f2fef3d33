"""What `train.bench` tells: JSON values, the one table, a line for each target."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.table import Table

from train.bench_steps import Taken, Work
from train.flops import forward_flops, image_tokens, spared_flops, training_flops
from train.models import MODELS

TARGET, WAIT_TARGET = ("112:16", 0.95), 0.02
"""Of open_clip's time per step at one budget, where others are to take no longer; and of our step, to wait."""


@dataclass
class Compared:
    """One piece of work. ours, theirs: a spell for each turn. peaks: FLOP/s, too. wait: (waited, all) seconds."""

    work: Work
    ours: list[Taken] = field(default_factory=list)
    theirs: list[Taken] = field(default_factory=list)
    first_losses: list[list[float]] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    peaks: list[float | None] = field(default_factory=list)
    wait: tuple[float, float] | None = None

    def ratios(self, what: str) -> list[float]:
        """Ours over open_clip's, turn by turn. what: "seconds" or "core_seconds"."""
        return [getattr(a, what) / getattr(b, what) for a, b in zip(self.ours, self.theirs, strict=True)]


def make_report(compared: Sequence[Compared]) -> dict[str, Any]:
    """Everything as JSON values."""
    machine = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    return {"machine": machine, "rows": [_row(found, _peak(found, compared)) for found in compared]}


def _peak(found: Compared, compared: Sequence[Compared]) -> float | None:
    """The best that as many threads did in any turn: what else runs on the machine only ever lowers it."""
    alike = [peak for other in compared if other.work.threads == found.work.threads for peak in other.peaks]
    return max((peak for peak in alike if peak is not None), default=None)


def _row(found: Compared, peak: float | None) -> dict[str, Any]:
    work, model = found.work, MODELS[found.work.model]
    seconds = {"ours": [t.seconds for t in found.ours], "open_clip": [t.seconds for t in found.theirs]}
    useful = training_flops(model, work.budget) * work.batch_size
    budget = f"{work.res}:{work.text_tokens}"
    return {
        "work": asdict(work),
        "name": f"(I{image_tokens(model, work.budget)},T{work.text_tokens})",
        "seconds": seconds,
        "core_seconds": {
            "ours": [t.core_seconds for t in found.ours],
            "open_clip": [t.core_seconds for t in found.theirs],
        },
        "ratios": found.ratios("seconds"),
        "core_ratios": found.ratios("core_seconds"),
        "wanted": TARGET[1] if budget == TARGET[0] else 1.0,
        "images_per_second": {name: work.batch_size / statistics.median(values) for name, values in seconds.items()},
        "peak_flops": peak,
        "mfu": {name: useful / statistics.median(v) / peak for name, v in seconds.items()} if peak else None,
        "spared": spared_flops(model, work.budget) / forward_flops(model, work.budget),
        "memory": dict(zip(seconds, found.memory, strict=True)),
        "first_losses": dict(zip(seconds, found.first_losses, strict=True)),
        "data_wait": None if found.wait is None else found.wait[0] / found.wait[1],
    }


def report_table(report: dict[str, Any]) -> Table:
    """A row for each piece of work. Ratios are median (range)."""
    works = [row["work"] for row in report["rows"]]
    title = f"A step of {works[0]['model']}, {works[0]['precision']} on {works[0]['device']}, beside open_clip's"
    table = Table("budget", title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    headings = ("batch", "threads", "ours s", "open_clip s", "ours / open_clip", "by cores' time", "img/s")
    for heading in (*headings, "open_clip's", "MFU", "open_clip's", "left out", "wait"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, work in zip(report["rows"], works, strict=True):
        seconds, speed, mfu = row["seconds"], row["images_per_second"], row["mfu"]
        table.add_row(
            *(row["name"], str(work["batch_size"]), str(work["threads"])),
            *(f"{statistics.median(seconds[name]):.3f}" for name in seconds),
            *(_spread(row[key]) for key in ("ratios", "core_ratios")),
            *(f"{speed[name]:,.1f}" for name in seconds),
            *(f"{mfu[name]:.0%}" if mfu else "" for name in seconds),
            f"{row['spared']:.1%}",
            "" if row["data_wait"] is None else f"{row['data_wait']:.2%}",
        )
    return table


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def verdicts(report: dict[str, Any]) -> list[str]:
    """A line for each target."""
    lines = []
    for row in report["rows"]:
        what = f"{row['name']}, {row['work']['threads']} threads"
        clock, cores = statistics.median(row["ratios"]), statistics.median(row["core_ratios"])
        said = "reached" if clock <= row["wanted"] else "missed"
        lines.append(
            f"{what}: {clock:.3f} of open_clip's time, {cores:.3f} of its cores' (at most {row['wanted']:g}: {said})"
        )
        if row["data_wait"] is not None:
            said = "reached" if row["data_wait"] < WAIT_TARGET else "missed"
            lines.append(f"{what}: waits {row['data_wait']:.2%} of a step for its loader (under 2%: {said})")
    return lines
