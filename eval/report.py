"""Tell a run on one page: recipe, curves, troubles, data, scores, pictures, environment.

    python -m eval.report RUN [--out report.html]

The page is one file that asks for nothing else: no script, no font, no request; pictures are inlined, curves are SVG.
It may be mailed, printed, read on a phone, in the dark. A run that is not finished, or not evaluated, has a page too,
which says what is missing and how to come by it. `eval.run` and the demo write it at their end.
"""

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.figures import percent
from eval.report_charts import lasting, short
from eval.report_data import data_part
from eval.report_evaluation import pictures_part, retrieval_part, zeroshot_part
from eval.report_page import Html, facts, missing, page, table
from eval.report_training import curves_part, events_part, recipe_part
from eval.watch_log import WatchLine, read_watch
from prep.errors import UserError, run_main
from prep.files import read_json, written_aside
from prep.manifest import Manifest, parse_manifest
from train import checkpoint
from train.config import load_recipe
from train.health import Event, read_events
from train.log import Line, read_log
from train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class _Story:
    """All that a run folder tells; what it does not is empty or None. folder: of the evaluation."""

    run: Path
    recipe: Recipe
    samples_seen: int
    lines: list[Line]
    events: list[Event]
    manifests: list[Manifest]
    environment: dict[str, Any]
    loaders: dict[str, Any]
    folder: Path
    evaluation: dict[str, Any] | None
    watched: list[WatchLine]


def _read(run: Path, folder: Path) -> _Story:
    if not (run / "recipe.toml").is_file():
        remedy = "Give the folder that train.run --out named."
        raise UserError(str(run), "wanted a run folder, but there is no recipe.toml in it", remedy)
    lines, checkpoints = read_log(run), checkpoint.found(run)
    try:
        events = read_events(run)
    except (ValueError, TypeError) as error:
        raise UserError(str(run / "events.jsonl"), f"a line is damaged: {error}", "Remove the line.") from error
    copies = sorted(run.glob("manifest*.json"), key=lambda path: (len(path.name), path.name))

    def kept(path: Path) -> dict[str, Any]:
        return read_json(path) if path.exists() else {}

    return _Story(
        run=run,
        recipe=load_recipe(str(run / "recipe.toml")),
        samples_seen=max(
            [line.samples_seen for line in lines[-1:]] + [int(path.name) for path in checkpoints[-1:]] + [0]
        ),
        lines=lines,
        events=events,
        manifests=[parse_manifest(path) for path in copies],
        environment=kept(run / "environment.json"),
        loaders=kept(run / "loaders.json"),
        folder=folder,
        evaluation=kept(folder / "eval.json") or None,
        watched=read_watch(folder),
    )


def _overview(story: _Story) -> Html:
    total, seen = story.recipe.num_samples, story.samples_seen
    share = "finished" if seen >= total else f"not finished, {percent(seen / total)}"
    told = [("training", share), ("samples seen", f"{seen:,} of {total:,}")]
    if story.lines:
        last = story.lines[-1]
        told += [("training compute", short(last.flops, "FLOP")), ("time", lasting(last.seconds))]
        told.append(("last loss", f"{last.loss:.4f}"))
    for result in (story.evaluation or {}).get("zeroshot", []):
        told.append((f"top-1, {Path(result['folder']).name}", percent(result["top1"])))
    if retrieved := (story.evaluation or {}).get("retrieval"):
        told.append(("recall@1, caption to picture", percent(retrieved["text_to_image"]["1"])))
    told.append(("troubles told", f"{len(story.events):,}"))
    return facts(told)


def _environment(story: _Story) -> list[Html]:
    if not story.environment:
        return [missing("There is no environment.json: nothing was trained here yet.")]
    loaders = {f"loader of stage {int(number) + 1}": name for number, name in sorted(story.loaders.items())}
    known = {**story.environment, **loaders}
    rows = [
        (key.replace("_", " "), value if isinstance(value, str) else json.dumps(value)) for key, value in known.items()
    ]
    return [table(("", ""), rows)]


def _html(story: _Story) -> str:
    run, recipe, evaluation, watched = shlex.quote(str(story.run)), story.recipe, story.evaluation, story.watched
    stores = " ".join(f"--store STORE{f'-{n + 1}' if n else ''}" for n in range(max(1, len(story.manifests))))
    train = f"python -m train.run {shlex.quote(str(story.run / 'recipe.toml'))} {stores} --out {run}"
    sections: dict[str, tuple[str, Sequence[str]]] = {
        "overview": ("Overview", [_overview(story)]),
        "training": ("Training", curves_part(story.lines, recipe.num_samples, train)),
        "troubles": ("Troubles", events_part(story.events)),
        "zeroshot": ("Zero-shot classification", zeroshot_part(evaluation, watched, run)),
        "retrieval": ("Retrieval", retrieval_part(evaluation, watched, run)),
        "pictures": ("Pictures", pictures_part(evaluation, story.folder, run)),
        "recipe": ("Recipe", recipe_part(recipe)),
        "data": ("Data", data_part(story.manifests)),
        "environment": ("Environment", _environment(story)),
    }
    return page(f"{recipe.name}: {story.run.resolve().name}", "A training run of Shortclip", sections)


def write_report(run: Path, out: Path | None = None, evaluation: Path | None = None) -> Path:
    """Write the page, whole or not at all, and return its path (default: RUN/report.html).

    evaluation: the folder of eval.json, watch.jsonl and their pictures (default: RUN/eval), which need not be there.
    Raises `UserError` when `run` is no run folder, or a file in it is damaged.
    """
    out, folder = out or run / "report.html", evaluation or run / "eval"
    story = _read(run, folder)
    try:
        text = _html(story)
    except (KeyError, TypeError) as error:
        if story.evaluation is None and not story.watched:
            raise
        problem = f"what is in it was not written by this version ({type(error).__name__}: {error})"
        raise UserError(str(folder), problem, "Run the evaluation again; remove watch.jsonl.") from error
    with written_aside(out) as file:
        file.write(text.encode("utf-8", "replace"))
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder that train.run wrote, finished or not")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the page goes (default: RUN/report.html)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    print(write_report(args.run, args.out))


if __name__ == "__main__":
    run_main(main)
