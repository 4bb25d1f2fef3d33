"""Measure the losses over the batch size: time and memory, forward and backward, of each form.

    python -m train.loss_bench
    python -m train.loss_bench --batch-sizes 4096 65536 --forms tiled --json loss.json

Three forms: `train.tiled_loss`, the plain `train.loss`, and open_clip's ClipLoss and SigLipLoss. Every point is a
process of its own, on one thread, after a small batch that loads the kernels. Seconds are those that the processor
worked, so that others on the machine count for little (on a GPU, those that passed): the median of as many turns as fit
into --seconds, at least one. Memory is the peak of the process (on a GPU, of the allocator) above what it had when the
features were there: logits, sums, gradients. A form that would need more than --limit is left out, judging by what it
took at the batch size before.
"""

import argparse
import os
import platform
import resource
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import normalize

from prep.errors import UserError, run_main
from prep.files import write_json
from prep.progress import bar
from train import loss as plain
from train.tiled_loss import tiled_contrastive, tiled_sigmoid

FORMS = ("tiled", "plain", "open_clip")
LOSSES = ("contrastive", "sigmoid")
SCALARS = {"contrastive": (14.3,), "sigmoid": (10.0, -10.0)}
"""What training begins with: CLIP's scale, SigLIP's scale and bias."""
MAX_TURNS = 20
Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Point:
    """One measurement. mib: of memory; value: the loss itself, by which to see that all forms compute the same."""

    loss: str
    form: str
    batch_size: int
    seconds: float
    mib: float
    value: float


@dataclass(frozen=True)
class Asked:
    """What is the same for all points."""

    width: int
    device: str
    seconds: float


def _loss_of(loss: str, form: str) -> Loss:
    if form == "open_clip":
        from open_clip.loss import ClipLoss, SigLipLoss  # takes seconds to import

        theirs: Loss = ClipLoss() if loss == "contrastive" else SigLipLoss()
        return theirs
    ours: dict[tuple[str, str], Loss] = {
        ("tiled", "contrastive"): tiled_contrastive,
        ("tiled", "sigmoid"): tiled_sigmoid,
        ("plain", "contrastive"): plain.contrastive,
        ("plain", "sigmoid"): plain.sigmoid,
    }
    return ours[form, loss]


def _inputs(loss: str, num: int, asked: Asked) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(num, asked.width, generator=generator) for _ in range(2))
    features = [normalize(image), normalize(text.add_(image, alpha=0.2))]
    made = [*features, *(torch.tensor(value) for value in SCALARS[loss])]
    return [tensor.to(asked.device).requires_grad_() for tensor in made]


def _turn(loss: Loss, inputs: list[torch.Tensor]) -> tuple[float, float]:
    """Seconds, and the loss."""
    clock = perf_counter if inputs[0].is_cuda else process_time
    began = clock()
    value = loss(*inputs)
    value.backward()
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    seconds = clock() - began
    for tensor in inputs:
        tensor.grad = None
    return seconds, value.item()


def _forget_peak(device: str) -> int:
    """Start a new peak of memory; returns the bytes that are in use now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(loss: str, form: str, batch_size: int, asked: Asked) -> Point:
    """One point, in this process."""
    torch.set_num_threads(1)
    function = _loss_of(loss, form)
    _turn(function, _inputs(loss, 64, asked))
    inputs = _inputs(loss, batch_size, asked)
    before = _forget_peak(asked.device)
    turns = [_turn(function, inputs)]
    mib = (_peak(asked.device) - before) / 2**20
    while len(turns) < MAX_TURNS and sum(seconds for seconds, _ in turns) < asked.seconds:
        turns.append(_turn(function, inputs))
    return Point(loss, form, batch_size, statistics.median(seconds for seconds, _ in turns), mib, turns[0][1])


def _in_a_process(loss: str, form: str, batch_size: int, asked: Asked) -> Point | str:
    """A point, or why there is none."""
    # Forked from a server that has loaded torch and nothing else: no seconds for each import.
    context = get_context("forkserver")
    context.set_forkserver_preload(["train.tiled_loss"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, loss, form, batch_size, asked).result()
        except BrokenProcessPool:
            return "killed"


def curve(loss: str, form: str, batch_sizes: Sequence[int], limit: float, asked: Asked) -> list[Point | str]:
    """A point for each batch size, ascending; or why there is none. limit: MiB."""
    points: list[Point | str] = []
    for before, batch_size in pairwise((0, *batch_sizes)):
        last = points[-1] if points else None
        # The tiled form's memory grows with the batch, that of all others with its square.
        power = 1 if form == "tiled" else 2
        needs = last.mib * (batch_size / before) ** power if isinstance(last, Point) else 0.0
        if isinstance(last, str) or needs > limit:
            points.append(last if isinstance(last, str) else f"over {limit / 1024:g} GiB")
        else:
            points.append(_in_a_process(loss, form, batch_size, asked))
    return points


def report_table(curves: dict[tuple[str, str], list[Point | str]], batch_sizes: Sequence[int]) -> Table:
    """A row for each loss and batch size; for each form seconds and MiB, or why there are none."""
    forms = list(dict.fromkeys(form for _, form in curves))
    table = Table("loss", "batch", *(f"{form}\n{unit}" for form in forms for unit in ("s", "MiB")))
    for column in table.columns[1:]:
        column.justify = "right"
    for loss in dict.fromkeys(loss for loss, _ in curves):
        for number, batch_size in enumerate(batch_sizes):
            cells: list[str] = []
            for form in forms:
                point = curves[loss, form][number]
                cells += [point, ""] if isinstance(point, str) else [f"{point.seconds:.3f}", f"{point.mib:,.0f}"]
            table.add_row(loss, f"{batch_size:,}", *cells)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.loss_bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    sizes = [1024 * 2**power for power in range(7)]
    add("--batch-sizes", type=int, nargs="+", default=sizes, metavar="B", help="pairs (default: 1024 ... 65536)")
    add("--width", type=int, default=512, metavar="D", help="of the features (default 512)")
    add("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), help="(default: both)")
    add("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="(default: all)")
    add("--seconds", type=float, default=1.0, metavar="S", help="of each measurement, at least (default 1)")
    add("--limit", type=float, default=6.0, metavar="GIB", help="of memory (default 6)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    add("--json", type=Path, metavar="FILE", help="every measurement")
    return parser


def _check(args: argparse.Namespace) -> None:
    if min(args.batch_sizes) < 1:
        raise UserError("--batch-sizes", f"wanted at least 1, found {min(args.batch_sizes)}", "Give more.")
    for name, value in (("--width", args.width), ("--seconds", args.seconds), ("--limit", args.limit)):
        if value <= 0:
            raise UserError(name, f"wanted more than 0, found {value}", "Give more.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device", "wanted a GPU, but torch sees none", "Leave it out.")


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and write the JSON that was asked for."""
    args = _parser().parse_args(argv)
    _check(args)
    asked, batch_sizes = Asked(args.width, args.device, args.seconds), sorted(set(args.batch_sizes))
    names = [(loss, form) for loss in dict.fromkeys(args.losses) for form in dict.fromkeys(args.forms)]
    curves: dict[tuple[str, str], list[Point | str]] = {}
    with bar(len(names), "measuring", "curves") as progress:
        for loss, form in names:
            curves[loss, form] = curve(loss, form, batch_sizes, args.limit * 1024, asked)
            progress.advance(1)
    Console().print(report_table(curves, batch_sizes))
    if args.json is not None:
        points = [asdict(point) for found in curves.values() for point in found if isinstance(point, Point)]
        machine = {"cores": os.cpu_count(), "processor": platform.processor(), "torch": torch.__version__}
        write_json(args.json, {"machine": machine, "settings": asdict(asked), "points": points})


if __name__ == "__main__":
    run_main(main)
