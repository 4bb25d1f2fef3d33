"""A study on one page: its figures, its claims with their intervals, and every number behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.report_charts import Axis, Curve, chart, short
from eval.report_page import Html, facts, folded, page, table, tag
from prep.files import written_aside

_HOW = (
    "An interval is the central 95% of resamples of images (the same for all cells) and of seeds (Student noise, with "
    "the spread pooled over the cells of one size). A claim shows when all its intervals lie on its side, "
    "is contradicted when one lies wholly on the other, and is open otherwise: then this study could not tell."
)


def _percent(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.1%} ({_end(estimate['low'])} to {_end(estimate['high'])})"


def _end(value: float | None, sign: str = "") -> str:
    """An end of an interval, times a hundred; a ratio whose divisor may be zero has none."""
    return "?" if value is None else format(value * 100, f"{sign}.1f")


def _x(cell: dict[str, Any], x: str) -> float:
    return float(cell[{"image tokens": "image_tokens", "text tokens": "text_tokens", "training FLOPs": "flops"}[x]])


def _figure(figure: dict[str, Any], told: dict[str, Any]) -> Html:
    """Curves over x, one a label of the figure's axis; without x the cells' accuracies as a table."""
    names = [name for name in told["sweep"]["tables"][figure["table"]] if name in told["cells"]]
    if not names:
        return tag("figure", tag("h3", figure["title"]), tag("p", "No cell of it is trained yet.", class_="note"))
    if not figure["x"]:
        rows = [(name, _percent(told["cells"][name]["accuracy"])) for name in names]
        return tag("figure", tag("h3", figure["title"]), table(("cell", "top-1"), rows))
    curves = []
    for colour, label in enumerate(told["sweep"]["axes"][figure["series"]]):
        cells = [told["cells"][name] for name in names if told["cells"][name]["labels"][figure["series"]] == label]
        cells.sort(key=lambda cell: _x(cell, figure["x"]))
        if cells:
            xs = [_x(cell, figure["x"]) for cell in cells]
            ys = [cell["accuracy"]["value"] for cell in cells]
            spreads = [(cell["accuracy"]["low"], cell["accuracy"]["high"]) for cell in cells]
            curves.append(Curve("", xs, ys, colour))
            curves.append(Curve(label, xs, ys, colour, "points", spreads))
    axes = Axis(figure["x"], short), Axis("top-1", lambda share: f"{share:.0%}", from_zero=True)
    return chart(figure["title"], curves, *axes)


def _claim(claim: dict[str, Any]) -> list[Html]:
    rows = []
    for line in claim["lines"]:
        estimate, unit = line["estimate"], "%" if line["share"] else ""
        told = "-"
        if estimate is not None:
            told = (
                f"{estimate['value'] * 100:+.1f}{unit} ({estimate['low'] * 100:+.1f} to {estimate['high'] * 100:+.1f})"
            )
        rows.append((line["text"], told))
    heading = f"{claim['name']}: {claim['statement']}" + (f": {claim['verdict']}" if claim["verdict"] else "")
    return [tag("h3", heading), table(("", "points of top-1, or percent"), rows)]


def _rates(told: dict[str, Any]) -> Html:
    axis = told["plan"]["rates"]["axis"]
    searched = [result for result in told["results"] if result["searching"]]
    rows = [
        (
            f"{result['labels'][axis]} x {result['factor']:g}",
            "-" if result["loss"] is None else f"{result['loss']:.3f}",
            f"{result['at'][-1]['top1']:.1%}",
            "chosen" if told["rates"].get(result["labels"][axis]) == result["factor"] else "",
        )
        for result in searched
    ]
    return table(("size and factor", "loss in the last stage", "top-1", ""), rows)


def _notes(told: dict[str, Any]) -> Sequence[Html]:
    fewest = min((cell["accuracy"]["num_seeds"] for cell in told["cells"].values()), default=0)
    notes = [tag("p", _HOW, class_="note")]
    if fewest < 2:
        notes.append(tag("p", "Some cells have a single seed: their intervals tell of images only.", class_="missing"))
    return notes


def write_page(out: Path, told: dict[str, Any]) -> Path:
    """Write OUT/study.html from what study.json holds; the page asks for nothing from anywhere."""
    cells = [
        (
            name,
            f"{cell['image_tokens']}",
            f"{cell['text_tokens']}",
            f"{cell['samples']:,}",
            short(cell["flops"], "FLOP"),
            _percent(cell["before"]),
            _percent(cell["accuracy"]),
            f"{cell['accuracy']['num_seeds']}",
        )
        for name, cell in told["cells"].items()
    ]
    headings = ("cell", "image tokens", "text tokens", "samples", "compute", "before last stage", "top-1", "seeds")
    untrained = [(name, _percent(estimate)) for name, estimate in told["untrained"].items()]
    plan = told["plan"]
    sections: dict[str, tuple[str, Sequence[str]]] = {
        "claims": ("Claims", [*_notes(told), *(part for claim in told["claims"] for part in _claim(claim))]),
        "figures": ("Figures", [tag("div", *(_figure(one, told) for one in plan["figures"]), class_="charts")]),
        "cells": ("Every cell", [table(headings, cells), table(("control", "top-1"), untrained)]),
        "rates": ("Learning rates", [_rates(told)]),
        "plan": (
            "Plan",
            [folded("The resolved plan and sweep", tag("pre", _shown(plan)), tag("pre", _shown(told["sweep"])))],
        ),
        "machine": ("Machine", [facts((key, str(value)) for key, value in told["environment"].items())]),
    }
    path = out / "study.html"
    with written_aside(path) as file:
        file.write(page(f"Study {plan['name']}", f"{len(told['cells']):,} cells", sections).encode())
    return path


def _shown(value: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {part}" for key, part in value.items())
