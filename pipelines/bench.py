"""Measure how fast a store can be fed to a trainer on this machine, and say who waits for whom, and what would help.

    python -m pipelines.bench store/ --res 112
    python -m pipelines.bench store/ --res 112 --peers --tars 'pairs/*.tar' --json bench.json --chart bench.png
    python -m pipelines.bench --synthetic 2048 --res 112

Every loader and view is measured alone, then feeding a trainer; the trainer is also measured alone, on a batch that is
there already. All are pinned to the same cores, each in a process of its own, and take turns, so that a machine that is
slow for a while is slow for all; told are the median and the range. A loader is held against its limit in the same
turn: what simplejpeg decodes, or what memcpy copies, of the same bytes. --peers adds other projects' loaders on the
same pairs. A store that is measured is in the page cache: a disk may be slower.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from pipelines.bench_chart import draw_chart
from pipelines.bench_loaders import VIEWS
from pipelines.bench_pairs import Pairs, make_synthetic
from pipelines.bench_report import make_report, not_run, report_table
from pipelines.bench_run import run
from pipelines.bench_subjects import Asked
from pipelines.bench_trainer import SIZES
from pipelines.choose import LOADERS
from prep.errors import UserError, run_main
from prep.files import write_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("store", nargs="?", help="a finished store on the local disk")
    add("--synthetic", type=int, metavar="N", help="instead, build a store of N made-up pairs, and run the peers, too")
    add("--res", type=int, required=True, metavar="PX", help="side of the square images")
    add("--text-tokens", type=int, default=8, help="a caption (default 8)")
    add("--batch-size", type=int, default=1024, help="samples (default 1024)")
    add("--loaders", nargs="+", choices=LOADERS, default=list(LOADERS), help="(default: all)")
    add("--views", nargs="+", choices=tuple(VIEWS), help="(default: those that the store has)")
    add("--cores", type=int, metavar="N", help="the first N that this process may use (default: all of them)")
    add("--seconds", type=float, default=0.5, metavar="S", help="of each measurement, at least (default 0.5)")
    add("--repeats", type=int, default=3, metavar="K", help="turns (default 3)")
    trainer = parser.add_argument_group("the trainer").add_argument
    trainer("--needs", type=float, metavar="RATE", help="img/s that yours eats, from its log; it takes no core")
    trainer("--trainer", choices=tuple(SIZES), help="size of the stand-in (default: tiny; base on a GPU)")
    trainer("--device", choices=("cpu", "cuda"), help="(default: cuda where there is one)")
    peers = parser.add_argument_group("the peers").add_argument
    peers("--peers", action=argparse.BooleanOptionalAction, help="run them (default: with --synthetic)")
    peers("--tars", metavar="PATTERN", help="the pairs the store was made from (default: made-up ones)")
    peers("--peer-batch-size", type=int, default=128, help="samples a batch that a worker makes (default 128)")
    peers("--nltk-data", metavar="FOLDER", help="NLTK's data, for open_clip's syntax mask (default: $NLTK_DATA)")
    out = parser.add_argument_group("what comes out").add_argument
    out("--json", type=Path, metavar="FILE", help="every measurement")
    out("--chart", type=Path, metavar="FILE.png", help="a bar chart")
    return parser


def _check(args: argparse.Namespace) -> None:
    if (args.store is None) == (args.synthetic is None):
        raise UserError("store", "wanted a store, or --synthetic N, and not both", "See --help.")
    least = {"text_tokens": 3, "batch_size": 2, "repeats": 1, "peer_batch_size": 1, "res": 8, "cores": 1}
    for name, value in [("synthetic", args.synthetic), *((name, getattr(args, name)) for name in least)]:
        if value is not None and value < least.get(name, 1):
            option = "--" + name.replace("_", "-")
            raise UserError(option, f"wanted at least {least.get(name, 1)}, found {value}", "Give more.")
    if args.seconds <= 0 or (args.needs is not None and args.needs <= 0):
        raise UserError("--seconds, --needs", "wanted more than 0", "Give more.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device", "wanted a GPU, but torch sees none", "Leave it out.")


def _cores(num: int | None) -> tuple[int, ...]:
    """The cores to run on. Raises `UserError` for more than there are."""
    free = sorted(os.sched_getaffinity(0))
    if num is not None and num > len(free):
        raise UserError("--cores", f"wanted {num}, but this process may use {len(free)}", "Ask for fewer.")
    return tuple(free[:num])


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    _check(args)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    peers = args.synthetic is not None if args.peers is None else args.peers
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pairs = Pairs(args.store, args.tars)
        if args.synthetic is not None:
            pairs = make_synthetic(work / "pairs", args.synthetic, args.res)
        elif peers and args.tars is None:
            pairs = pairs._replace(tars=make_synthetic(work / "pairs", 512, 16).tars)
        asked = Asked(
            store=pairs.store,
            res=args.res,
            text_tokens=args.text_tokens,
            batch_size=args.batch_size,
            loaders=tuple(args.loaders),
            views=None if args.views is None else tuple(args.views),
            cores=_cores(args.cores),
            seconds=args.seconds,
            repeats=args.repeats,
            device=device,
            needs=args.needs,
            trainer=args.trainer or ("base" if device == "cuda" else "tiny"),
            tars=pairs.tars if peers else None,
            peer_batch_size=args.peer_batch_size,
            nltk_data=args.nltk_data or os.environ.get("NLTK_DATA"),
        )
        report = make_report(run(asked, work))
    if args.json:
        write_json(args.json, report)
    if args.chart:
        draw_chart(report, args.chart)
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(highlight=False, width=180)
    wide.print(report_table(report))
    for number, reason in enumerate(not_run(report), start=1):
        console.print(f"[{number}] {reason}", markup=False)
    for line in report["ratios"]:
        verdict = "reached" if line["value"] >= line["wanted"] else "missed"
        told = f"{line['value']:.2f} times by the clock, {line['by_core']:.2f} by the cores' time"
        console.print(f"{line['what']}: {told} (wanted {line['wanted']:g}: {verdict})", soft_wrap=True)
    console.print(report["verdict"], soft_wrap=True)


if __name__ == "__main__":
    run_main(main)
