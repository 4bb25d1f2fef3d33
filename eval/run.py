"""Evaluate a training run: zero-shot classification, retrieval, and the pictures of both.

    python -m eval.run RUN --zeroshot animals/ --retrieval heldout_store/
    python -m eval.run RUN --zeroshot animals/ --watch      follow a training, checkpoint by checkpoint (eval/watch.py)

animals/ holds one folder of images per class; your own two folders will do. heldout_store/ is a folder that prep.build
wrote from pairs that the run was not trained on. Images are seen at the res, and prompts and captions at the number of
text tokens, that the checkpoint was trained at last. In RUN/eval/ lie afterwards

    eval.json        every number, with the model, its budget and samples seen
    curves.png       loss and learning rate over samples seen and over compute
    zeroshot.png     images and what they were taken for (zeroshot-2.png for a second folder, and so on)
    retrieval.png    some captions and the images they found

and RUN/report.html tells the whole run on one page (eval.report).
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from eval import figures, retrieval, zeroshot
from eval.evaluation import Evaluation
from eval.figures import percent
from eval.report import write_report
from eval.templates import TEMPLATES
from eval.watch import watch
from eval.zeroshot import interval_text
from prep.errors import UserError, run_main
from prep.files import write_json
from train.checkpoint import load_model
from train.log import read_log

_NUM_NAMED = 5


def _draw_curves(run: Path, out: Path) -> bool:
    """False for a run that has no log, or no line in it: a model that was never trained has no curve."""
    lines = read_log(run)
    if lines:
        figures.curves(lines, out / "curves.png")
    return bool(lines)


def evaluate_run(
    run: Path,
    zeroshot_dirs: Sequence[Path] = (),
    retrieval_store: Path | None = None,
    checkpoint: str = "latest",
    out: Path | None = None,
    templates: str = "simple",
    batch_size: int = 128,
    device: str = "cpu",
    ema: bool = False,
) -> dict[str, Any]:
    """Evaluate a checkpoint, draw the pictures and return what `eval.json` in `out` (default: RUN/eval) holds.

    Keys: run, checkpoint, samples_seen, ema, recipe, model, budget, zeroshot (a list, one `ZeroShotResult.to_json()` a
    folder), retrieval (`RetrievalResult.to_json()` or None), figures (names of files beside it). `eval.json` is
    written last. Raises `UserError` when the run, a folder or the store is not what it should be, before any model
    runs where it can.
    """
    asked = Evaluation(tuple(zeroshot_dirs), retrieval_store, templates, batch_size, device, ema)
    asked.check_machine()
    loaded = load_model(run, checkpoint, device, ema=ema)
    asked.check_data()
    asked.check_run(run, [loaded.budget.res])
    out = out or run / "eval"
    names = ["curves.png"] if _draw_curves(run, out) else []
    classified, retrieved = asked.of(loaded)
    for number, result in enumerate(classified, start=1):
        names.append("zeroshot.png" if number == 1 else f"zeroshot-{number}.png")
        zeroshot.draw(result, out / names[-1])
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
    }
    write_json(out / "eval.json", report)
    return report


def _table(report: dict[str, Any]) -> Table:
    budget = report["budget"]
    seen = f"{report['samples_seen']:,} samples, {budget['res']} px, {budget['text_tokens']} text tokens"
    table = Table(title=f"{report['run']}: {seen}", title_justify="left")
    for name in ("", "right", "95% interval", "guessing"):
        table.add_column(name, justify="right" if name else "left")
    for result in report["zeroshot"]:
        table.add_row(
            f"{Path(result['folder']).name}: {result['num_images']:,} images, {result['num_classes']:,} classes"
        )
        for top in ("top1", "top5"):
            if result[top] is not None:
                interval, chance = interval_text(result[f"{top}_interval"]), percent(result[f"chance_{top}"])
                table.add_row(f"  zero-shot top-{top[-1]}", percent(result[top]), interval, chance)
        table.add_section()
    result = report["retrieval"]
    if result:
        table.add_row(f"{Path(result['store']).name}: {result['num_images']:,} images and captions")
        for way in ("text_to_image", "image_to_text"):
            for k, share in result[way].items():
                table.add_row(f"  {way.replace('_', ' ')} recall@{k}", percent(share), "", percent(result["chance"][k]))
    return table


def print_report(report: dict[str, Any], out: Path) -> None:
    """The numbers as a table, what was wrong with the data, and where everything lies."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(_table(report))
    for result in report["zeroshot"]:
        bad = result["unreadable"]
        if bad:
            named = "; ".join(f"{entry['path']} ({entry['problem']})" for entry in bad[:_NUM_NAMED])
            more = " ..." if len(bad) > _NUM_NAMED else ""
            console.print(
                f"{len(bad):,} files of {result['folder']} are no readable images: {named}{more}", soft_wrap=True
            )
        if result["num_prompts_cut"]:
            console.print(f"{result['num_prompts_cut']:,} prompts are longer than the text tokens and lost their end.")
    for name in ("eval.json", *report["figures"]):
        console.print(str(out / name), soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run folder that train.run wrote")
    add(
        "--zeroshot",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="one folder per class; may be repeated",
    )
    add("--retrieval", type=Path, metavar="STORE", help="a store of held-out pairs, built at the run's last res")
    add("--watch", action="store_true", help="evaluate each checkpoint of a run under way, until its last")
    add("--checkpoint", default=None, help="samples seen of a checkpoint (default: latest)")
    add("--ema", action="store_true", help="the averaged weights, of a run trained with --ema")
    add("--out", type=Path, metavar="DIR", help="where the results and the report go (default: RUN/eval and RUN)")
    add("--templates", default="simple", help=f"prompt templates, one of: {', '.join(TEMPLATES)} (default: simple)")
    add("--batch-size", type=int, default=128, help="images, or pairs, at a time (default: 128)")
    add("--device", help="cuda or cpu (default: cuda if there; with --watch cpu, for the trainer needs its GPU)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.batch_size < 1:
        raise UserError("--batch-size", f"wanted at least 1, found {args.batch_size}", "Leave it out for 128.")
    device = args.device or ("cuda" if torch.cuda.is_available() and not args.watch else "cpu")
    if args.watch:
        for option, value in (("--checkpoint", args.checkpoint), ("--out", args.out)):
            if value is not None:
                problem = "--watch evaluates every checkpoint, into RUN/eval"
                raise UserError(option, problem, "Leave one of the two out.")
        os.nice(10)
        folders = tuple(args.zeroshot)
        watch(args.run, Evaluation(folders, args.retrieval, args.templates, args.batch_size, device, args.ema))
        return
    out = args.out or args.run / "eval"
    how = (args.checkpoint or "latest", out, args.templates, args.batch_size, device, args.ema)
    print_report(evaluate_run(args.run, args.zeroshot, args.retrieval, *how), out)
    print(write_report(args.run, args.out / "report.html" if args.out else None, out))


if __name__ == "__main__":
    run_main(main)
