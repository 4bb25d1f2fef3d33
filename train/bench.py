"""Measure a training step beside open_clip's trainer, on the same model, batch and precision, in one run.

    python -m train.bench
    python -m train.bench --budgets 112:16 --threads 1 --turns 9 --json step.json

open_clip builds the model from its package, with our weights, and trains it with its own trainer's code; that the first
losses of both are one number is checked. Either step is in a process of its own, on the same cores, and they take
turns, so that a machine that is slow for a while is slow for both. A ratio is the median of the turns' own: by the
clock, and by the time that either has had of the cores, which other programs disturb less (trust that of one thread
most: threads that wait spin). open_clip gets its pixels as normalised float32; ours normalises uint8 within the step.
First steps do not count. MFU is of the published FLOPs (`train.flops`) and the best peak of any turn; our last blocks
leave out what no feature needs, so we execute a few per cent less, and the table says how much. The last column is what
our step waits for the torch loader, of a raw crop bank of made-up pairs.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console

from pipelines.bench_pairs import make_synthetic
from pipelines.bench_process import NotRunError, Subject
from prep.errors import UserError, run_main
from prep.files import write_json
from prep.progress import bar
from train.bench_steps import OurStep, TheirStep, Work
from train.bench_table import Compared, make_report, report_table, verdicts
from train.bench_wait import FedStep
from train.models import MODELS
from train.open_clip_config import to_open_clip_config

BUDGETS = ("64:16", "96:8", "112:16", "224:32")
"""Of CLIPA, as res and text tokens: (I17,T16), (I37,T8), (I50,T16), (I197,T32) for a patch of 16."""
NUM_FIRST, NUM_WAITED = 2, 4
"""Steps that do not count; steps over which waiting is counted."""
LOSS_TOLERANCE = 2e-3
"""Between the losses of the first steps, which start alike and drift by rounding."""


def compare(work: Work, cores: Sequence[int], num_turns: int, num_steps: int, store: str | None) -> Compared:
    """Measure one piece of work. store: to be fed from; None: no waiting is measured. Raises `UserError`."""
    found = Compared(work)
    try:
        with ExitStack() as stack:
            ours, theirs = (stack.enter_context(Subject(make, (work,), cores)) for make in (OurStep, TheirStep))
            first = [subject.call("take", NUM_FIRST) for subject in (ours, theirs)]
            found.first_losses = [taken.losses for taken in first]
            _check_same(found)
            for number in range(num_turns):
                # Who goes first changes, so that neither is always the one to find the caches cold.
                order = [(ours, found.ours), (theirs, found.theirs)][:: 1 if number % 2 == 0 else -1]
                for subject, spells in order:
                    spells.append(subject.call("take", num_steps))
                found.peaks.append(ours.call("peak"))
            found.memory = [subject.call("memory") for subject in (ours, theirs)]
        if store is not None:
            with Subject(FedStep, (work, store), cores) as fed:
                fed.call("wait", NUM_FIRST)
                found.wait = fed.call("wait", NUM_WAITED)
    except NotRunError as error:
        raise UserError("train.bench", f"a step cannot be measured: {error}", "See what it printed above.") from error
    return found


def _check_same(found: Compared) -> None:
    ours, theirs = found.first_losses
    differ = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    tolerance = LOSS_TOLERANCE if found.work.precision == "float32" else 50 * LOSS_TOLERANCE
    if not differ <= tolerance:
        problem = f"the two do not train the same: losses {ours} and {theirs}"
        raise UserError("train.bench", problem, "Use the versions of requirements.txt.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [name for name, model in MODELS.items() if model.vision.pool != "mean_with_class"]
    cores = len(os.sched_getaffinity(0))
    add("--model", choices=names, default="b16_v1", help="one that open_clip can build (default b16_v1)")
    add("--budgets", nargs="+", default=list(BUDGETS), metavar="PX:T", help=f"(default {' '.join(BUDGETS)})")
    add("--batch-size", type=int, default=16, metavar="B", help="pairs (default 16)")
    add("--threads", type=int, nargs="+", default=sorted({1, cores}), metavar="N", help="(default: 1, and all cores)")
    add("--turns", type=int, default=5, metavar="K", help="(default 5)")
    add("--steps", type=int, default=1, metavar="N", help="in a turn; more on a GPU (default 1)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="(default float32)")
    add("--wait", action=argparse.BooleanOptionalAction, default=True, help="measure waiting for a loader")
    add("--json", type=Path, metavar="FILE", help="every measurement")
    return parser


def _budget(text: str, patch_size: int) -> tuple[int, int]:
    try:
        res, text_tokens = (int(part) for part in text.split(":"))
    except ValueError:
        res = text_tokens = 0
    if res < patch_size or res % patch_size or not 4 <= text_tokens <= 77:
        problem = f"wanted PX:T with a side that {patch_size} divides and 4 to 77 text tokens, found {text!r}"
        raise UserError("--budgets", problem, "Such as 112:16.")
    return res, text_tokens


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    free = sorted(os.sched_getaffinity(0))
    least = {"batch_size": 2, "turns": 1, "steps": 1}
    for name, value in [*((name, getattr(args, name)) for name in least), *(("threads", n) for n in args.threads)]:
        if value < least.get(name, 1):
            raise UserError("--" + name.replace("_", "-"), f"too few: {value}", "Give more.")
    if max(args.threads) > len(free):
        raise UserError("--threads", f"wanted at most the {len(free)} cores of this process", "Ask for fewer.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device", "wanted a GPU, but torch sees none", "Leave it out.")
    model = MODELS[args.model]
    budgets = [_budget(text, model.vision.patch_size) for text in args.budgets]
    to_open_clip_config(model, *budgets[0])
    compared = []
    works = [
        Work(args.model, *budget, args.batch_size, args.device, args.precision, threads)
        for threads in args.threads
        for budget in budgets
    ]
    with tempfile.TemporaryDirectory() as folder, bar(len(works), "comparing", "budgets") as shown:
        stores = {}
        for res in {work.res for work in works} if args.wait else ():
            stores[res] = make_synthetic(Path(folder) / str(res), 4 * args.batch_size, res).store
        for work in works:
            cores = free[: work.threads] if work.device == "cpu" else free
            compared.append(compare(work, cores, args.turns, args.steps, stores.get(work.res)))
            shown.advance()
    report = make_report(compared)
    if args.json:
        write_json(args.json, report)
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=180)).print(report_table(report))
    for line in verdicts(report):
        console.print(line, soft_wrap=True)


if __name__ == "__main__":
    run_main(main)
