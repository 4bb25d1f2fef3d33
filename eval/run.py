"""Evaluate a training run: zero-shot classification, retrieval, and the pictures of both.

    python -m eval.run RUN --zeroshot animals/ --retrieval heldout_store/
    python -m eval.run RUN --zeroshot imagenet/val/ --classes imagenet --templates imagenet
    python -m eval.run RUN --zeroshot animals/ --watch      follow a training, checkpoint by checkpoint (eval/watch.py)

animals/ holds one folder of images per class, and your own two folders will do; or webdataset tars, a Hugging Face
folder, or a store (eval/labelled.py). heldout_store/ is a folder that prep.build wrote from pairs that the run was not
trained on, or other captioned images (eval/captioned.py). Images are seen at the res, and prompts and captions at the
number of text tokens, that the checkpoint was trained at last. In RUN/eval/ lie afterwards

    eval.json        every number, with the model, its budget and samples seen
    per_class.csv    each class's accuracy
    curves.png       loss and learning rate over samples seen and over compute
    zeroshot.png     images and what they were taken for (zeroshot-2.png for a second set, and so on)
    confusions.png   the pairs of classes that are most often taken for each other (confusions-2.png ...)
    retrieval.png    some captions and the images they found
    features/        of images and captions, so that the same are not read again; delete it as you like

and RUN/report.html tells the whole run on one page (eval.report).
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from eval import figures, retrieval
from eval.captioned import CaptionedSource
from eval.captioned_set import CAPTIONS
from eval.class_names import CLASS_LISTS
from eval.evaluation import Evaluation
from eval.labelled import LabelledSet
from eval.preprocess import KINDS
from eval.report import write_report
from eval.run_summary import print_report
from eval.scores import write_per_class
from eval.templates import TEMPLATES
from eval.watch import watch
from eval.zeroshot import ZeroShotResult
from eval.zeroshot_pictures import draw, draw_confusions
from prep.errors import UserError, run_main
from prep.files import write_json
from train.checkpoint import load_model
from train.log import read_log


def _draw_curves(run: Path, out: Path) -> bool:
    """False for a run that has no log, or no line in it: a model that was never trained has no curve."""
    lines = read_log(run)
    if lines:
        figures.curves(lines, out / "curves.png")
    return bool(lines)


def _draw_zeroshot(
    results: Sequence[ZeroShotResult], labelled: Sequence[LabelledSet], out: Path
) -> tuple[list[str], list[str]]:
    """The names of the pictures and of the table that it leaves in `out`."""
    names = []
    for number, (result, opened) in enumerate(zip(results, labelled, strict=True), start=1):
        ending = ".png" if number == 1 else f"-{number}.png"
        draw(result, opened, out / f"zeroshot{ending}")
        names.append(f"zeroshot{ending}")
        if draw_confusions(result, opened, out / f"confusions{ending}"):
            names.append(f"confusions{ending}")
    if results:
        write_per_class(out / "per_class.csv", [(result.folder, result.per_class) for result in results])
    return names, ["per_class.csv"] if results else []


def evaluate_run(
    run: Path,
    zeroshot_dirs: Sequence[Path] = (),
    retrieval_store: Path | CaptionedSource | None = None,
    checkpoint: str = "latest",
    out: Path | None = None,
    templates: str = "simple",
    batch_size: int = 128,
    device: str = "cpu",
    ema: bool = False,
    classes: str | None = None,
    preprocess: str | None = None,
    keep_features: bool = True,
) -> dict[str, Any]:
    """Evaluate a checkpoint, draw the pictures and return what `eval.json` in `out` (default: RUN/eval) holds.

    templates to preprocess: see `Evaluation`. keep_features: in `out`/features.

    Keys: run, checkpoint, samples_seen, ema, recipe, model, budget, zeroshot (a list, one `ZeroShotResult.to_json()` a
    set), retrieval (`RetrievalResult.to_json()` or None), figures, tables (names of files beside it). `eval.json` is
    written last. Raises `UserError` when the run or a set is not what it should be, before any model runs where it can.
    """
    out = out or run / "eval"
    asked = Evaluation(
        *(tuple(zeroshot_dirs), retrieval_store, templates, batch_size, device, ema, classes, preprocess),
        cache=out / "features" if keep_features else None,
        each_budget=True,
    )
    asked.check_machine()
    loaded = load_model(run, checkpoint, device, ema=ema)
    data = asked.open_data()
    asked.check_run(run, [loaded.budget.res])
    names = ["curves.png"] if _draw_curves(run, out) else []
    classified, retrieved = asked.of(loaded, data)
    pictures, tables = _draw_zeroshot(classified, data.labelled, out)
    names += pictures
    if retrieved is not None:
        names.append("retrieval.png")
        retrieval.draw(retrieved, out / names[-1])
    report: dict[str, Any] = {
        "run": str(run),
        "checkpoint": str(loaded.path),
        "samples_seen": loaded.samples_seen,
        "ema": ema,
        "recipe": loaded.recipe.name,
        "model": asdict(loaded.recipe.model),
        "budget": asdict(loaded.budget),
        "zeroshot": [result.to_json() for result in classified],
        "retrieval": retrieved.to_json() if retrieved else None,
        "figures": names,
        "tables": tables,
    }
    write_json(out / "eval.json", report)
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run folder that train.run wrote")
    sets = "folder per class, tars, Hugging Face folder or store; may be repeated"
    add("--zeroshot", type=Path, action="append", default=[], metavar="PATH", help=sets)
    lists = f"the classes of the --zeroshot sets: {', '.join(CLASS_LISTS)}, or a file (default: the sets' own)"
    add("--classes", metavar="NAME_OR_FILE", help=lists)
    add("--templates", default="simple", help=f"prompt templates, one of: {', '.join(TEMPLATES)} (default: simple)")
    how = "centre crops, square squashes; not for --retrieval STORE (default: as published, square for CLIPA's v2)"
    add("--preprocess", choices=KINDS, help=how)
    add("--no-cache", action="store_true", help="neither read nor keep features in RUN/eval/features")
    held_out = "a store of held-out pairs, built at the run's last res; a Karpathy JSON file; or tars"
    add("--retrieval", type=Path, metavar="PATH", help=held_out)
    add("--images", type=Path, metavar="DIR", help="the images of a JSON file (default: beside it)")
    add("--split", help="the split of a JSON file (default: test)")
    add("--captions", choices=CAPTIONS, default="all", help="which captions of an image take part (default: all)")
    add("--watch", action="store_true", help="evaluate each checkpoint of a run under way, until its last")
    add("--checkpoint", default=None, help="samples seen of a checkpoint (default: latest)")
    add("--ema", action="store_true", help="the averaged weights, of a run trained with --ema")
    add("--out", type=Path, metavar="DIR", help="where the results and the report go (default: RUN/eval and RUN)")
    add("--batch-size", type=int, default=128, help="images, or pairs, at a time (default: 128)")
    add("--device", help="cuda or cpu (default: cuda if there; with --watch cpu, for the trainer needs its GPU)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.batch_size < 1:
        raise UserError("--batch-size", f"wanted at least 1, found {args.batch_size}", "Leave it out for 128.")
    device = args.device or ("cuda" if torch.cuda.is_available() and not args.watch else "cpu")
    source = CaptionedSource(args.retrieval, args.images, args.split, args.captions) if args.retrieval else None
    if source is None and (args.images or args.split):
        raise UserError("--images, --split", "wanted --retrieval with them, found none", "Give --retrieval a file.")
    how = (args.templates, args.batch_size, device, args.ema, args.classes, args.preprocess)
    if args.watch:
        for option, value in (("--checkpoint", args.checkpoint), ("--out", args.out)):
            if value is not None:
                problem = "--watch evaluates every checkpoint, into RUN/eval"
                raise UserError(option, problem, "Leave one of the two out.")
        os.nice(10)
        watch(args.run, Evaluation(tuple(args.zeroshot), source, *how))
        return
    out = args.out or args.run / "eval"
    report = evaluate_run(
        args.run, args.zeroshot, source, args.checkpoint or "latest", out, *how, keep_features=not args.no_cache
    )
    print_report(report, out)
    print(write_report(args.run, args.out / "report.html" if args.out else None, out))


if __name__ == "__main__":
    run_main(main)
