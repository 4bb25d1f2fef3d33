"""Linear probe and few-shot: what a classifier learns from a run's frozen image features.

    python -m eval.probe RUN --train SET --test SET [--shots 1 2 4 8 16]

SET is a folder per class, webdataset tars, a folder of Hugging Face `datasets` or a store, as for eval.run. Classes are
matched by name. The probe learns from all of the training set; with K shots from K images of each class, as each of
several draws has them (`eval.linear_probe` says how). A table is printed and RUN/eval/probe.json written; features are
kept in RUN/eval/features, so that a second probe reads no image.

Intervals are 95%: bootstraps over the test's images, and with few shots over the draws too. They say nothing of another
training run. Fits run on the CPU: with 1,000 classes and a million images, better give a part of these.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eval.class_names import CLASS_LISTS, find_classes
from eval.features import image_features, model_key
from eval.figures import percent
from eval.labelled import LabelledSet, open_labelled
from eval.linear_probe import HELD_OUT, Points
from eval.preprocess import KINDS, Preprocess, check_kind, kind_of
from eval.probe_accuracy import SHOTS, probe
from eval.scores import interval_text
from prep.errors import UserError, run_main
from prep.files import write_json
from train.checkpoint import load_model
from train.machine import check_device

MAX_DRAWS = 10
_NUM_WORST = 5


def _same_classes(train: LabelledSet, test: LabelledSet) -> NDArray[np.int64]:
    """The test's labels int64 [N] as places in the training set's class names. Raises `UserError` where they differ."""
    if train.fingerprint == test.fingerprint:
        raise UserError("--test", f"{test.path} is the training set itself", "Give images that were not learned from.")
    if train.class_names == test.class_names:
        return test.labels
    for ours, theirs, flag in ((train, test, "--train"), (test, train, "--test")):
        lacking = sorted(set(theirs.class_names) - set(ours.class_names))
        if lacking:
            problem = f"{ours.path} has no class {lacking[0]!r} ({len(lacking):,} such), which {theirs.path} has"
            raise UserError(flag, problem, "Name their folders alike, or give --classes with what both have.")
    places = {name: place for place, name in enumerate(train.class_names)}
    return np.array([*(places[name] for name in test.class_names), -1], np.int64)[test.labels]


def probe_run(
    run: Path,
    train: Path,
    test: Path,
    shots: Sequence[int] = SHOTS,
    num_draws: int = 5,
    seed: int = 0,
    classes: str | None = None,
    preprocess: str | None = None,
    checkpoint: str = "latest",
    ema: bool = False,
    batch_size: int = 128,
    device: str = "cpu",
    out: Path | None = None,
) -> dict[str, Any]:
    """Probe a run's checkpoint and write `probe.json` into `out` (default: RUN/eval); returns what it holds.

    preprocess: one of `eval.preprocess.KINDS`; None for what such models were published with. Raises `UserError` when
    the run or a set is not what it should be.
    """
    loaded = load_model(run, checkpoint, device, ema=ema)
    known = find_classes(classes) if classes else None
    opened = {"train": open_labelled(train, known), "test": open_labelled(test, known)}
    all_labels = {"train": opened["train"].labels, "test": _same_classes(opened["train"], opened["test"])}
    out = out or run / "eval"
    how = Preprocess(loaded.budget.res, preprocess or kind_of(loaded.recipe.model))
    key = model_key(loaded, ema=ema)
    points, told = {}, {}
    for role, labelled in opened.items():
        features = image_features(loaded.model, labelled, how, batch_size, device, out / "features", key)
        labels = all_labels[role][features.index.numpy()]
        points[role] = Points(features.values.double().numpy(), labels)
        told[role] = {
            "path": str(labelled.path),
            "num_images": len(labels),
            "num_unreadable": len(features.unreadable) + len(labelled.faults),
            "num_without_class": sum(labelled.unmatched.values()),
        }
    names = opened["train"].class_names
    report: dict[str, Any] = {
        "run": str(run),
        "checkpoint": str(loaded.path),
        "samples_seen": loaded.samples_seen,
        "ema": ema,
        "recipe": loaded.recipe.name,
        "preprocess": asdict(how),
        "num_classes": len(names),
        "chance": 1 / len(names),
        "num_features": points["train"].values.shape[1],
        "held_out": HELD_OUT,
        "seed": seed,
        **told,
        **probe(names, points["train"], points["test"], shots, num_draws, seed),
    }
    write_json(out / "probe.json", report)
    return report


def _table(report: dict[str, Any]) -> Table:
    train, test, whole = report["train"], report["test"], report["linear"]
    seen = f"{report['num_classes']:,} classes, {report['num_features']:,} features at {report['preprocess']['res']} px"
    table = Table(title=f"{report['run']}: {report['samples_seen']:,} samples; {seen}", title_justify="left")
    for name in ("learned from", "right", "95% interval", "draws", "penalty"):
        table.add_column(name, justify="left" if name == "learned from" else "right")
    for result in report["few_shot"]:
        low, high = min(result["draws"]), max(result["draws"])
        spread = f"{low * 100:.1f}–{high:.1%}" if len(result["draws"]) > 1 else "1"
        share, interval = percent(result["top1"]), interval_text(result["top1_interval"])
        table.add_row(f"{result['shots']:,} images a class", share, interval, spread, f"{result['strength']:.2g}")
    share, interval = percent(whole["top1"]), interval_text(whole["top1_interval"])
    table.add_row(f"all {train['num_images']:,} images", share, interval, "", f"{whole['strength']:.2g}")
    if whole["top5"] is not None:
        table.add_row("  among its first five", percent(whole["top5"]))
    table.add_row("  mean of classes", percent(whole["mean_class_top1"]))
    table.caption = (
        f"of {test['num_images']:,} images of {Path(test['path']).name}; guessing {percent(report['chance'])}"
    )
    return table


def print_report(report: dict[str, Any], out: Path) -> None:
    """The accuracies as a table, the classes that did worst, what was left out, and where everything lies."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(_table(report))
    judged = [entry for entry in report["linear"]["per_class"] if entry["top1"] is not None]
    worst = sorted(judged, key=lambda entry: (entry["top1"], entry["name"]))[:_NUM_WORST]
    told = ", ".join(f"{entry['name']} {percent(entry['top1'])} of {entry['num_images']:,}" for entry in worst)
    console.print(f"Worst classes: {told}", soft_wrap=True)
    for role in ("train", "test"):
        for what, why in (("num_unreadable", "no readable images"), ("num_without_class", "of no class: not judged")):
            if num := report[role][what]:
                console.print(f"{num:,} files of {report[role]['path']} are {why}", soft_wrap=True)
    for entry in report["left_out"]:
        console.print(f"No {entry['shots']:,} shots: {entry['why']}", soft_wrap=True)
    unconverged = sum(result["num_unconverged"] for result in (report["linear"], *report["few_shot"]))
    if unconverged:
        console.print(f"{unconverged:,} fits had not converged when they were stopped.")
    console.print(str(out / "probe.json"), soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run folder that train.run wrote")
    add("--train", type=Path, required=True, metavar="SET", help="labelled images to learn from")
    add("--test", type=Path, required=True, metavar="SET", help="labelled images to be judged on, of the same classes")
    shots = ", ".join(map(str, SHOTS))
    add("--shots", type=int, nargs="*", default=SHOTS, metavar="K", help=f"images a class (default: {shots})")
    add("--draws", type=int, default=5, help=f"draws of so many images, 1 to {MAX_DRAWS} (default: 5)")
    add("--seed", type=int, default=0, help="of draws, held-out images and intervals (default: 0)")
    add("--classes", help=f"{', '.join(CLASS_LISTS)}, or a file (default: what the sets say)")
    add("--preprocess", help=f"{' or '.join(KINDS)} (default: what such models were published with)")
    add("--checkpoint", default="latest", help="samples seen of a checkpoint (default: latest)")
    add("--ema", action="store_true", help="the averaged weights, of a run trained with --ema")
    add("--out", type=Path, metavar="DIR", help="where probe.json and the features go (default: RUN/eval)")
    add("--batch-size", type=int, default=128, help="images at a time (default: 128)")
    add("--device", help="cuda or cpu, for the features (default: cuda if there)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    for option, value, most in (
        ("--batch-size", args.batch_size, None),
        ("--draws", args.draws, MAX_DRAWS),
        *(("--shots", shots, None) for shots in args.shots),
    ):
        if value < 1 or (most and value > most):
            wanted = f"1 to {most}" if most else "at least 1"
            raise UserError(option, f"wanted {wanted}, found {value}", "Leave it out for the default.")
    if args.seed < 0:
        raise UserError("--seed", f"wanted 0 or more, found {args.seed}", "Leave it out for 0.")
    check_kind(args.preprocess)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    report = probe_run(
        *(args.run, args.train, args.test, sorted(set(args.shots)), args.draws, args.seed, args.classes),
        *(args.preprocess, args.checkpoint, args.ema, args.batch_size, device, args.out),
    )
    print_report(report, args.out or args.run / "eval")


if __name__ == "__main__":
    run_main(main)
