"""What a study tells: study.json, and the lines on the console."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from eval.study_claims import Judged
from eval.study_run import Result, Study
from eval.study_statistics import FIRST, LAST, UNTRAINED, Estimate, Means
from prep.files import write_json
from train.flops import image_tokens
from train.run_folder import environment


def points(estimate: Estimate | None, *, share: bool) -> str:
    """A difference of accuracies in points, or a share in percent, with its interval."""
    if estimate is None:
        return "-"
    unit = "%" if share else ""
    ends = estimate.low, estimate.high
    span = f"{ends[0] * 100:+.1f} to {ends[1] * 100:+.1f}" if all(map(math.isfinite, ends)) else "no interval"
    return f"{estimate.value * 100:+.1f}{unit} ({span})"


def estimate_told(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate as JSON has it: what is not finite is null."""
    if estimate is None:
        return None
    finite = {key: value for key, value in asdict(estimate).items() if math.isfinite(value)}
    return dict.fromkeys(asdict(estimate)) | finite


def write_study(
    study: Study,
    factors: dict[str, float],
    searched: Sequence[Result],
    results: Sequence[Result],
    known: Means | None,
    claims: Sequence[Judged],
) -> dict[str, Any]:
    """Write study.json and return what it holds: everything that the page shows.

    Keys: plan, sweep (name; axes; labels: {axis: its labels in order}; tables: {name: [a cell's name and labels]};
    base), rates ({label: factor}), spread ({group: standard deviation of top-1 over seeds}), judged (by what),
    environment, jobs, num_trainings (that the plan has, the search aside), cells (see `_cells`), untrained ({cell:
    estimate}), claims, results (of the search too). An estimate is value, low, high (null where there is no interval),
    num_seeds, images_only.
    """
    sweep = study.plan.sweep
    untrained = [name for name, moment in (known.value if known else ()) if name.endswith(UNTRAINED) and moment == LAST]
    told = {
        "plan": {"name": study.plan.name, **asdict(study.plan.file)},
        "sweep": {
            "name": sweep.name,
            "axes": sweep.axes,
            "labels": {axis: list(labels) for axis, labels in sweep.axes.items()},
            "tables": {
                name: [{"name": cell.name, "labels": cell.labels} for cell in cells]
                for name, cells in sweep.tables.items()
            },
            "base": sweep.base,
        },
        "rates": factors,
        "spread": known.spread if known else {},
        "judged": {
            "zeroshot": study.judge.zeroshot.name,
            "num_images": next((at["num_images"] for result in results for at in result["at"]), None),
            "templates": study.judge.templates,
            "classes": study.judge.classes,
            "preprocess": study.judge.preprocess,
        },
        "environment": environment(),
        "jobs": study.jobs,
        "num_trainings": study.num_trainings(),
        "cells": _cells(study, results, known),
        "untrained": {
            name: estimate_told(known.estimate(lambda a: a, (name, LAST))) for name in untrained if known is not None
        },
        "claims": [_claim(judged) for judged in claims],
        "results": [*searched, *results],
    }
    write_json(study.out / "study.json", told)
    return told


def _cells(study: Study, results: Sequence[Result], known: Means | None) -> dict[str, Any]:
    """{name: labels, image_tokens and text_tokens of its first stage, samples, flops, seconds and seeds of its runs,
    accuracy and what it was before the last stage, mean recall@1 of captions' images where the plan asks for
    retrieval}, of the cells that have results.
    """
    cells: dict[str, Any] = {}
    for cell in study.plan.sweep.cells:
        if known is None or (cell.name, LAST) not in known:
            continue
        recipe = study.plan.sweep.recipe(cell.name)
        first = recipe.stages[0]
        runs = [result for result in results if result["cell"] == cell.name and not result["untrained"]]
        before = known.estimate(lambda a: a, (cell.name, FIRST)) if (cell.name, FIRST) in known else None
        recalls = [run["at"][-1]["recall_at_1"] for run in runs if "recall_at_1" in run["at"][-1]]
        cells[cell.name] = {
            "labels": cell.labels,
            "image_tokens": image_tokens(recipe.model, first.budget),
            "text_tokens": first.budget.text_tokens,
            "samples": recipe.num_samples,
            "flops": runs[0]["flops"],
            "seconds": [run["seconds"] for run in runs],
            "seeds": [run["seed"] for run in runs],
            "accuracy": estimate_told(known.estimate(lambda a: a, (cell.name, LAST))),
            "before": estimate_told(before),
            "recall_at_1": sum(recalls) / len(recalls) if recalls else None,
        }
    return cells


def _claim(judged: Judged) -> dict[str, Any]:
    lines = [
        {"text": line.text, "border": line.border, "share": line.share, "estimate": estimate_told(line.estimate)}
        for line in judged.lines
    ]
    claim = judged.claim
    return {
        "name": claim.name,
        "kind": claim.kind,
        "statement": claim.statement,
        "note": claim.note,
        "verdict": judged.verdict,
        "provisional": judged.provisional,
        "lines": lines,
    }


def summary(told: dict[str, Any]) -> str:
    """How much of the study there is."""
    num = sum(not result["searching"] for result in told["results"])
    return f"{num:,} of {told['num_trainings']:,} trainings are done, {len(told['cells']):,} cells have results."


def claims_table(claims: Sequence[Judged]) -> Table:
    """The claims with their numbers."""
    shown = Table(title="Claims, in points of top-1 (95% intervals over seeds and images)", title_justify="left")
    for name in ("", "", "verdict"):
        shown.add_column(name)
    for judged in claims:
        verdict = f"{judged.verdict}, by one seed" if judged.provisional and judged.verdict else judged.verdict
        shown.add_row(f"{judged.claim.name}: {judged.claim.statement}", "", verdict)
        if judged.claim.note:
            shown.add_row(f"  {judged.claim.note}", "", "")
        for line in judged.lines:
            shown.add_row(f"  {line.text}", points(line.estimate, share=line.share), "")
        shown.add_section()
    return shown
