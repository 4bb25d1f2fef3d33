"""Evaluate a training run: zero-shot classification, retrieval, and the pictures of both.

    python -m eval.run RUN --zeroshot animals/ --retrieval heldout_store/

animals/ holds one folder of images per class; your own two folders will do. heldout_store/ is a folder that prep.build
wrote from pairs that the run was not trained on. Images are seen at the res, and prompts and captions at the number of
text tokens, that the checkpoint was trained at last. In RUN/eval/ lie afterwards

    eval.json        every number, with the model, its budget and samples seen
    curves.png       loss and learning rate over samples seen and over compute
    zeroshot.png     images and what they were taken for (zeroshot-2.png for a second folder, and so on)
    retrieval.png    some captions and the images they found
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from eval import figures, retrieval, zeroshot
from eval.class_folder import open_class_folder
from eval.figures import percent
from eval.templates import TEMPLATES, find_templates
from eval.zeroshot import interval_text
from pipelines.contract import TokenBudget
from pipelines.store_view import ImageView
from prep.errors import UserError, run_main
from prep.files import write_json
from prep.store import open_store, parse_manifest
from train.checkpoint import load_model
from train.log import read_log

_NUM_NAMED = 5


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"--device {device}", f"torch cannot use it: {problem}", "Choose cpu or cuda.") from error


def _draw_curves(run: Path, out: Path) -> bool:
    """False for a run that has no log, or no line in it: a model that was never trained has no curve."""
    lines = read_log(run)
    if lines:
        figures.curves(lines, out / "curves.png")
    return bool(lines)


def _check_data(run: Path, budget: TokenBudget, zeroshot_dirs: Sequence[Path], retrieval_store: Path | None) -> None:
    if not zeroshot_dirs and retrieval_store is None:
        raise UserError("eval.run", "wanted something to evaluate on, found nothing", "Give --zeroshot or --retrieval.")
    for folder in zeroshot_dirs:
        open_class_folder(folder)
    if retrieval_store is not None:
        store = open_store(retrieval_store)
        ImageView(store, budget.res)
        kept, found = run / "manifest.json", store.manifest.tokenizer
        # Imported weights that were not trained on have none.
        trained = parse_manifest(kept).tokenizer if kept.exists() else found
        if trained != found:
            problem = f"wanted the token ids that the run was trained on ({trained}), found those of {found}"
            raise UserError(
                str(retrieval_store), problem, "Build the store again with the run's version of this project."
            )


def evaluate_run(
    run: Path,
    zeroshot_dirs: Sequence[Path] = (),
    retrieval_store: Path | None = None,
    checkpoint: str = "latest",
    out: Path | None = None,
    templates: str = "simple",
    batch_size: int = 128,
    device: str = "cpu",
) -> dict[str, Any]:
    """Evaluate a checkpoint, draw the pictures and return what `eval.json` in `out` (default: RUN/eval) holds.

    Keys: run, checkpoint, samples_seen, recipe, model, budget, zeroshot (a list, one `ZeroShotResult.to_json()` a
    folder), retrieval (`RetrievalResult.to_json()` or None), figures (names of files beside it). `eval.json` is
    written last. Raises `UserError` when the run, a folder or the store is not what it should be, before any model
    runs where it can.
    """
    _check_device(device)
    find_templates(templates)
    loaded = load_model(run, checkpoint, device)
    _check_data(run, loaded.budget, zeroshot_dirs, retrieval_store)
    out = out or run / "eval"
    names = ["curves.png"] if _draw_curves(run, out) else []
    classified, retrieved = [], None
    text = loaded.recipe.model.text
    of_text: dict[str, Any] = {"tokenizer": text.tokenizer, "end_token": text.end_token}
    for number, folder in enumerate(zeroshot_dirs, start=1):
        classified.append(
            zeroshot.evaluate(loaded.model, loaded.budget, folder, templates, batch_size, device, **of_text)
        )
        names.append("zeroshot.png" if number == 1 else f"zeroshot-{number}.png")
        zeroshot.draw(classified[-1], out / names[-1])
    if retrieval_store is not None:
        retrieved = retrieval.evaluate(loaded.model, loaded.budget, retrieval_store, batch_size, device, **of_text)
        names.append("retrieval.png")
        retrieval.draw(retrieved, out / names[-1])
    report: dict[str, Any] = {
        "run": str(run),
        "checkpoint": str(loaded.path),
        "samples_seen": loaded.samples_seen,
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
    add("--checkpoint", default="latest", help="samples seen of a checkpoint (default: latest)")
    add("--out", type=Path, metavar="DIR", help="where the results go (default: RUN/eval)")
    add("--templates", default="simple", help=f"prompt templates, one of: {', '.join(TEMPLATES)} (default: simple)")
    add("--batch-size", type=int, default=128, help="images, or pairs, at a time (default: 128)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu (default: cuda if there)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.batch_size < 1:
        raise UserError("--batch-size", f"wanted at least 1, found {args.batch_size}", "Leave it out for 128.")
    out = args.out or args.run / "eval"
    report = evaluate_run(
        args.run, args.zeroshot, args.retrieval, args.checkpoint, out, args.templates, args.batch_size, args.device
    )
    print_report(report, out)


if __name__ == "__main__":
    run_main(main)
