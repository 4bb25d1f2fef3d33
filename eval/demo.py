"""The whole road, once: draw data, prepare it, train in two stages, evaluate, and say what happened.

    ./shortclip demo [--compare] [--fresh]

Each step is a program of this project, started as you would start it; its command is printed. What is done is not done
again; `--fresh` begins anew. `--compare` trains the controls too (eval.compare).
"""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from eval.compare import compare
from eval.programs import run_program
from eval.report import write_report
from prep.errors import UserError, run_main
from prep.files import is_empty, read_json, write_json
from prep.store import parse_manifest
from train import checkpoint
from train.config import load_recipe
from train.recipe import Recipe

DEFAULT_PAIRS = 20_000
# The recipe was tuned on the data of seed 0, so what is reported is measured on another.
DEFAULT_SEED = 1
MARK = "demo.json"
"""What makes a folder a demo's: settings, and seconds of each finished step. Only such a folder is ever deleted."""


@dataclass(frozen=True, slots=True)
class Step:
    """One program to run: a name for the summary, a sentence for the reader, and its command line."""

    name: str
    sentence: str
    command: tuple[str, ...]


def steps(out: Path, num_pairs: int, seed: int, recipe: Recipe, overrides: list[str]) -> Iterator[Step]:
    """The road, in order."""
    res = [str(r) for r in sorted({stage.budget.res for stage in recipe.stages})]
    data, store, held_out, run = out / "data", out / "store", out / "retrieval-store", out / "run"
    sizes = ("--pairs", str(num_pairs), "--seed", str(seed))
    yield Step("data", f"draw {num_pairs:,} pairs and three held-out sets", ("prep.demo", "--out", str(data), *sizes))
    yield Step(
        "prep",
        f"decode every image once; store it at {' and '.join(res)} px with token ids and word classes beside it",
        ("prep.build", "--input", f"{escape(str(data))}/train/*.tar", "--out", str(store), "--res", *res),
    )
    yield Step(
        "prep_retrieval",
        "the same for the held-out pairs",
        ("prep.build", "--input", f"{escape(str(data))}/retrieval/*.tar", "--out", str(held_out), "--res", *res),
    )
    lengths = ", then ".join(
        f"{s.num_samples:,} samples at {s.budget.res} px and {s.budget.text_tokens} text tokens" for s in recipe.stages
    )
    yield Step(
        "train", f"train: {lengths}", ("train.run", "demo", *overrides, "--store", str(store), "--out", str(run))
    )
    folders = [str(data / name) for name in ("zeroshot", "zeroshot_shift")]
    yield Step(
        "eval",
        "zero-shot on 100 classes never labelled, the same under a shift, and retrieval of unseen combinations",
        ("eval.run", str(run), "--zeroshot", folders[0], "--zeroshot", folders[1], "--retrieval", str(held_out)),
    )


def _perform(step: Step, console: Console) -> None:
    """Run a step to its end. A failing one has spoken already: the demo only says where it stopped."""
    console.print(f"$ python -m {shlex.join(step.command)}", style="dim", soft_wrap=True, highlight=False, markup=False)
    if not run_program(step.command[0], step.command[1:]):
        raise UserError(
            f"the step {step.name}",
            "its program stopped with the message above",
            "Mend what it says and start the demo again: it goes on from here.",
        )


def _open_folder(out: Path, settings: dict[str, Any], fresh: bool) -> dict[str, Any]:
    """What the mark of this folder says, written if it is new. Raises `UserError` for a folder that is another's."""
    mark = out / MARK
    if out.exists() and not mark.exists() and not is_empty(out):
        raise UserError(str(out), "this folder is not a demo's, and it is not empty", "Choose another --out.")
    if fresh and out.exists():
        # The mark goes last: a deletion that is interrupted can be taken up again.
        for path in [*(path for path in out.iterdir() if path != mark), mark]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not mark.exists():
        write_json(mark, {"settings": settings, "seconds": {}, "interrupted": {}})
    was = read_json(mark)
    if was["settings"] != settings:
        changed = next(key for key in {**settings, **was["settings"]} if was["settings"].get(key) != settings.get(key))
        raise UserError(
            str(out),
            f"a demo with another {changed} lies here: {was['settings'].get(changed)}, now {settings.get(changed)}",
            "Add --fresh to replace it, or choose another --out.",
        )
    return was


def run_steps(
    out: Path, all_steps: list[Step], settings: dict[str, Any], fresh: bool, console: Console
) -> dict[str, float]:
    """Run what is not done; returns the seconds that each step took, interrupted attempts included."""
    known = _open_folder(out, settings, fresh)
    seconds: dict[str, float] = known["seconds"]
    for number, step in enumerate(all_steps, 1):
        head = f"[{number}/{len(all_steps)}]"
        if step.name in seconds:
            done = f"\n{head} {step.sentence}: done before, in {seconds[step.name]:,.0f} s"
            console.print(done, markup=False, soft_wrap=True)
            continue
        console.print(f"\n{head} {step.sentence}", style="bold", markup=False, highlight=False)
        start, before = perf_counter(), known["interrupted"].pop(step.name, 0.0)
        try:
            _perform(step, console)
        except (UserError, KeyboardInterrupt):
            known["interrupted"][step.name] = before + perf_counter() - start
            raise
        else:
            seconds[step.name] = before + perf_counter() - start
        finally:
            write_json(out / MARK, known)
    return {step.name: seconds[step.name] for step in all_steps}


def summarise(out: Path, recipe: Recipe, seconds: dict[str, float]) -> dict[str, Any]:
    """Gather what the steps wrote into `summary.json`."""
    report = read_json(out / "run" / "eval" / "eval.json")
    manifest = parse_manifest(out / "store" / "manifest.json")
    zeroshot, shift = report["zeroshot"]
    summary = {
        "top1": zeroshot["top1"],
        "top1_interval": zeroshot["top1_interval"],
        "top5": zeroshot["top5"],
        "num_classes": zeroshot["num_classes"],
        "shift_top1": shift["top1"],
        "shift_top5": shift["top5"],
        "recalls": {way: report["retrieval"][way] for way in ("text_to_image", "image_to_text")},
        "num_retrieval_pairs": report["retrieval"]["num_images"],
        "samples_seen": {stage.name: stage.num_samples for stage in recipe.stages},
        "training_flops": checkpoint.read_state(checkpoint.found(out / "run")[-1]).flops,
        "pairs": {
            "read": manifest.num_read,
            "kept": manifest.num_samples,
            "rejected": sum(manifest.rejects.values()),
        },
        "seconds": seconds,
        "disk_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }
    write_json(out / "summary.json", summary)
    return summary


def _screen(out: Path, summary: dict[str, Any], recipe: Recipe) -> str:
    """What a stranger reads at the end: what happened, where the pictures lie, what to do next."""
    stages = "\n".join(
        f"    {stage.name:<6} {stage.num_samples:>9,} samples at {stage.budget.res} px and "
        f"{stage.budget.text_tokens} text tokens"
        for stage in recipe.stages
    )
    pairs, (low, high) = summary["pairs"], summary["top1_interval"]
    found = ", ".join(f"{summary['recalls']['text_to_image'][k]:.0%}" for k in ("1", "5", "10"))
    res = " ".join(str(res) for res in sorted({stage.budget.res for stage in recipe.stages}))
    times = ", ".join(f"{name} {value:,.0f} s" for name, value in summary["seconds"].items())
    return f"""
What happened
  A CLIP was trained from nothing on {pairs["kept"]:,} drawn pictures and their captions
  ({pairs["rejected"]:,} of {pairs["read"]:,} rejected), in stages of more and more tokens, as CLIPA does:
{stages}
  It was never told the classes. Asked which of {summary["num_classes"]} names fits a picture on a background of a kind
  it never saw, it is right {summary["top1"]:.1%} of the time (95% interval {low:.1%} to {high:.1%}; guessing: \
{1 / summary["num_classes"]:.1%}), and right
  within its first five {summary["top5"]:.1%}; {summary["shift_top1"]:.1%} when pictures are turned, grey or cluttered.
  Of {summary["num_retrieval_pairs"]:,} captions of combinations it never saw, it finds the picture
  first, among 5, among 10: {found}.
  Time: {times}. Disk: {summary["disk_bytes"] / 1e6:,.0f} MB.

Look at
  {out}/run/report.html           all of it on one page
  {out}/run/eval/zeroshot.png     what it takes pictures for
  {out}/run/eval/retrieval.png    what it finds for a caption
  {out}/run/eval/curves.png       the loss over samples seen and over compute
  {out}/summary.json              every number above

Your own pairs (webdataset tars of key.jpg and key.txt, as img2dataset writes them)
  ./shortclip run -m prep.build --input 'pairs/*.tar' --out store/ --res {res}
  ./shortclip run -m train.run demo --store store/ --out run/
  ./shortclip run -m eval.run run/ --zeroshot FOLDER_PER_CLASS/

Next
  ./shortclip demo --compare   trains the full-length model for the same time, and controls
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./shortclip demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="changes to the recipe `demo`, as in train.run")
    add("--out", type=Path, default=Path("demo"), help="folder for everything (default demo/)")
    add("--pairs", type=int, default=DEFAULT_PAIRS, help="pairs to draw (default %(default)s)")
    add("--seed", type=int, default=DEFAULT_SEED, help="seed of the drawings (default %(default)s)")
    add("--fresh", action="store_true", help="delete an earlier demo in --out first")
    add("--compare", action="store_true", help="then train full length for the same time, and controls (an hour)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of --compare (default 0 1 2)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_intermixed_args(argv)
    recipe = load_recipe("demo", args.overrides)
    settings = {"pairs": args.pairs, "seed": args.seed, "recipe": json.loads(json.dumps(asdict(recipe)))}
    # Into a file or a pipe rich would fold tables at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 120)
    all_steps = list(steps(args.out, args.pairs, args.seed, recipe, args.overrides))
    seconds = run_steps(args.out, all_steps, settings, args.fresh, console)
    write_report(args.out / "run")
    print(_screen(args.out, summarise(args.out, recipe, seconds), recipe), flush=True)
    if args.compare:
        compare(args.out, recipe, list(dict.fromkeys(args.seeds)), console)


if __name__ == "__main__":
    run_main(main)
