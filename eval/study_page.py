"""A study on one page: its claims, figures and tables, as far as it has come, and how to read them.

The page is one file that asks for nothing else, as `eval.report`'s: pictures are SVG in it, data are text.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import tomli_w

from eval.figures import percent
from eval.report_charts import lasting, short
from eval.report_page import Html, facts, folded, missing, page, table, tag
from eval.study_claims import CONTRADICTED, MISSING, NO_LOSS, OPEN, SHOWS
from eval.study_figures import Told, claim_dots, control_level, figure_of, signed, span_of
from eval.study_plan import Figure
from eval.study_tables import all_cells, cells_part, last_stage_part, rates_part
from prep.files import written_aside

_MEANS = {
    SHOWS: "every one of its intervals lies on the claim's side",
    CONTRADICTED: "one of its intervals lies wholly on the other side (of a drop: in points and as a share)",
    OPEN: "this study cannot tell; the claim may still be right",
    NO_LOSS: "there is no drop, of which one could ask whether it shrinks",
    MISSING: "a cell of it has no result",
}


def write_page(out: Path, told: Told) -> Path:
    """Write OUT/study.html, whole or not at all, and return its path. told: what study.json holds."""
    name = told["plan"]["name"]
    sections: dict[str, tuple[str, Sequence[str]]] = {
        "overview": ("Overview", _overview(told)),
        "claims": ("Claims", _claims(told)),
        "figures": ("Figures", _figures(told)),
        "rates": ("Learning rates", rates_part(told)),
        "last": ("Before and after the last stage", last_stage_part(told)),
        "cells": ("Every cell", cells_part(told)),
        "intervals": ("How intervals are made", _intervals(told)),
        "plan": ("Plan", _plan(told)),
        "environment": ("Environment", _environment(told)),
    }
    text = page(f"{name}: a study", "What fewer image and text tokens cost, by size of model", sections)
    with written_aside(out / "study.html") as file:
        file.write(text.encode("utf-8", "replace"))
    return out / "study.html"


def _overview(told: Told) -> list[Html]:
    cells, plan = all_cells(told), told["plan"]
    results = [result for result in told["results"] if not result["searching"]]
    planned = told["num_trainings"]
    trained = [result for result in told["results"] if not result["untrained"]]
    judged = told["judged"]
    images = "none yet" if judged["num_images"] is None else f"{judged['num_images']:,} of {judged['zeroshot']}"
    shown = [
        facts(
            [
                ("results", f"{len(results):,} of {planned:,}"),
                ("cells", f"{len(told['cells']):,} of {len(cells):,}"),
                ("seeds", ", ".join(map(str, plan["seeds"]))),
                ("images that judge", images),
                ("prompts", judged["templates"]),
                ("guessing, by untrained models", percent(control_level(told)[0][1]) if told["untrained"] else "-"),
                ("training compute, search included", short(sum(result["flops"] for result in trained), "FLOP")),
                ("time of trainings", lasting(sum(result["seconds"] for result in trained))),
            ]
        )
    ]
    if plan["more_seeds"]:
        by_table = (f"{', '.join(map(str, seeds))} in {name}" for name, seeds in plan["more_seeds"].items())
        shown.append(tag("p", f"Further seeds: {'; '.join(by_table)}.", class_="note"))
    if len(results) < planned:
        shown.append(missing("This is a part of the study: the same command goes on, --page writes this page anew."))
    if _images_only(told):
        shown.append(missing(_ONE_SEED))
    return shown


_ONE_SEED = (
    "Some cells stand on one seed, and so do all others of their size: their intervals hold another draw of images "
    "only, and are too narrow. What is said by them is provisional."
)


def _images_only(told: Told) -> bool:
    return any(cell["accuracy"]["images_only"] for cell in told["cells"].values())


def _claims(told: Told) -> list[Html]:
    if not told["claims"]:
        return [missing("The plan makes no claim.")]
    said = [claim for claim in told["claims"] if claim["verdict"]]
    rows = [(". ".join(filter(None, (f"{c['name']}: {c['statement']}", c["note"]))), _verdict(c)) for c in said]
    shown = [table(("", "does it show?"), rows)]
    words = [f"{verdict}: {meaning}" for verdict, meaning in _MEANS.items()]
    shown.append(tag("p", f"{'; '.join(words)}. Intervals are 95%, one by one.", class_="note"))
    shown.append(tag("p", "Orange: what the claim is judged by.", class_="note"))
    drawn = [found for claim in told["claims"] if (found := claim_dots(claim)) is not None]
    shown.append(tag("div", *drawn, class_="charts large"))
    return [*shown, *(_claim(claim) for claim in told["claims"])]


def _verdict(claim: Told) -> str:
    return f"{claim['verdict']}, by one seed" if claim["provisional"] and claim["verdict"] else claim["verdict"]


def _claim(claim: Told) -> Html:
    rows = [(line["text"], *_number(line), _wanted(line)) for line in claim["lines"]]
    heads = ("", "", "95% interval", "the claim wants")
    verdict = f" ({_verdict(claim)})" if claim["verdict"] else ""
    note = [tag("p", claim["note"])] if claim["note"] else []
    return folded(f"{claim['name']}: {claim['statement']}{verdict}", *note, table(heads, rows))


def _number(line: Told) -> tuple[str, str]:
    estimate = line["estimate"]
    if estimate is None:
        return "no result yet", "-"
    unit = "%" if line["share"] else ""
    span = span_of(estimate)
    interval = f"{signed(span[0])} to {signed(span[1])}{unit}" if span else "none: it divides by what may be zero"
    value = "no number" if estimate["value"] is None else f"{signed(estimate['value'])}{unit}"
    return value, interval


def _wanted(line: Told) -> str:
    if line["border"] is None:
        return ""
    return f"more than {line['border']:.0%}" if line["share"] else f"more than {line['border'] * 100:g}"


def _figures(told: Told) -> list[Html]:
    figures = [Figure(**figure) for figure in told["plan"]["figures"]]
    if not figures:
        return [missing("The plan draws no figure.")]
    shown = tag("div", *(figure_of(told, figure) for figure in figures), class_="charts large")
    return [shown, tag("p", "Lines through dots: 95% intervals over seeds and images.", class_="note")]


def _intervals(told: Told) -> list[Html]:
    rows = [
        (group, f"{spread * 100:.2f}" if spread else "one seed, or none differs")
        for group, spread in sorted(told["spread"].items())
    ]
    return [
        tag("p", _HOW),
        table(("spread of seeds within", "points, one standard deviation"), rows),
    ]


_HOW = (
    "Two things vary. Another draw of images: they are resampled with replacement, the same ones for all cells. "
    "Another seed: a mean over n seeds gets Student's error of s / √n, where s is pooled over all cells of a size, "
    "with the degrees of freedom that these have together; a resample draws s anew, the same for all that share it. "
    "s is one of angles, arcsin √accuracy, for accuracies near guessing spread less. "
    "An interval is the central 95% of 2,000 such resamples of the difference or the ratio itself. It takes for "
    "granted that angles of one size spread alike, and says nothing about other data, other learning rates or longer "
    "trainings."
)


def _plan(told: Told) -> list[Html]:
    return [
        tag("p", "What the labels in cells' names stand for, as changes to the sweep's base recipe:"),
        table(("", "label", "means"), _labels(told)),
        folded("The plan, with every default", tag("pre", tomli_w.dumps(_plain(told["plan"])))),
        folded("The sweep: recipes' base, axes and tables", tag("pre", tomli_w.dumps(_plain(told["sweep"])))),
    ]


def _labels(told: Told) -> list[tuple[str, str, str]]:
    stores = told["plan"]["stores"]
    return [
        (axis, label, " ".join([*overrides, *stores.get(label, ())]) or "as it is")
        for axis, labels in told["sweep"]["axes"].items()
        for label, overrides in labels.items()
    ]


def _plain(told: Told) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(told))
    return plain


def _environment(told: Told) -> list[Html]:
    known = {
        **told["environment"],
        "trainings at a time": told["jobs"],
        "images judged as": told["judged"]["preprocess"],
    }
    rows = [
        (key.replace("_", " "), value if isinstance(value, str) else json.dumps(value)) for key, value in known.items()
    ]
    return [table(("", ""), rows)]
