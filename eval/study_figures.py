"""A study's figures, out of study.json: curves over tokens and compute, and lines of dots for what has only names."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.figures import percent
from eval.report_charts import Axis, Curve, Span, chart, short
from eval.report_dots import Dot, dots
from eval.report_page import Html, tag
from eval.study_plan import Figure

Told = Mapping[str, Any]
"""What `eval.study_report.write_study` says is in study.json, or a part of it."""
_KEYS = {"image tokens": "image_tokens", "text tokens": "text_tokens", "training FLOPs": "flops"}
ACCURACY = Axis("top-1", percent, from_zero=True)
_APART = 4.0
"""Between curves, so that intervals at one x do not cover each other; the picture is 480 wide."""


def span_of(estimate: Told) -> Span | None:
    """The interval of an estimate; None where it has none."""
    low, high = estimate["low"], estimate["high"]
    return None if low is None or high is None else (low, high)


def control_level(told: Told) -> list[tuple[str, float]]:
    """The mean of the controls at random weights, as a dashed line."""
    values = [estimate["value"] for estimate in told["untrained"].values()]
    return [(f"untrained {percent(sum(values) / len(values))}", sum(values) / len(values))] if values else []


def figure_of(told: Told, figure: Figure) -> Html:
    """A figure of the plan, of the cells that have results; those that have none are named."""
    labels = {cell["name"]: cell["labels"] for cell in told["sweep"]["tables"][figure.table]}
    names = [name for name, of in labels.items() if figure.at.items() <= of.items()]
    there = [name for name in names if name in told["cells"]]
    if not there:
        return tag("figure", tag("h3", figure.title), tag("p", "Not one of its cells has a result yet.", class_="note"))
    drawn = _curves(told, figure, there) if figure.series else _dots(told, figure.title, labels, names)
    gone = len(names) - len(there)
    if not gone:
        return drawn
    return tag("div", drawn, tag("p", f"{gone} of its {len(names)} cells have no result yet.", class_="note"))


def _curves(told: Told, figure: Figure, names: Sequence[str]) -> Html:
    cells, key = told["cells"], _KEYS[figure.x]
    labels = told["sweep"]["labels"][figure.series]
    series: dict[str, list[str]] = {curve: [] for curve in figure.curves or labels}
    for name in names:
        curve = figure.curve_of(cells[name]["labels"][figure.series])
        if curve in series:
            series[curve].append(name)
    series = {curve: sorted(found, key=lambda name: cells[name][key]) for curve, found in series.items() if found}
    curves = []
    for place, (curve, found) in enumerate(series.items()):
        accuracies = [cells[name]["accuracy"] for name in found]
        spans = [span_of(estimate) or (estimate["value"],) * 2 for estimate in accuracies]
        shift = (place - (len(series) - 1) / 2) * _APART
        xs, ys = [cells[name][key] for name in found], [estimate["value"] for estimate in accuracies]
        curves.append(Curve(curve, xs, ys, place, "points", spans, shift))
    at = sorted({x for curve in curves for x in curve.xs}) if key != "flops" else []
    apart = [x for place, x in enumerate(at) if not place or x >= at[place - 1] * 1.15]
    label = figure.x if key == "flops" else f"{figure.x} in the first stage"
    x_axis = Axis(label, short, log=True, at=apart)
    return chart(figure.title, curves, x_axis, ACCURACY, levels=control_level(told))


def varying(labels: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Cells by what tells them apart: {name: the labels of those axes on which they differ}."""
    axes = [axis for axis in next(iter(labels.values()), {}) if len({of[axis] for of in labels.values()}) > 1]
    return {name: " ".join(of[axis] for axis in axes) or name for name, of in labels.items()}


def _dots(told: Told, title: str, labels: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> Html:
    axis = told["plan"]["rates"]["axis"]
    order = told["sweep"]["labels"][axis]
    shown = varying({name: labels[name] for name in names})
    several = len({labels[name][axis] for name in names}) > 1
    rows = []
    for name in names:
        colour = order.index(labels[name][axis]) if several else 0
        accuracy = told["cells"][name]["accuracy"] if name in told["cells"] else None
        value, span = (None, None) if accuracy is None else (accuracy["value"], span_of(accuracy))
        rows.append(Dot(shown[name], value, span, colour))
    return dots(title, rows, ACCURACY, control_level(told))


def claim_dots(claim: Told) -> Html | None:
    """A claim's differences, those that it is judged by in another colour, against none; its shares, where it is judged
    by these alone. None while there is no number.
    """
    shares = all(line["share"] for line in claim["lines"] if line["border"] is not None)
    shares = shares and any(line["border"] is not None for line in claim["lines"])
    rows = []
    for line in claim["lines"]:
        estimate, colour = line["estimate"], 0 if line["border"] is None else 1
        if line["share"] == shares:
            value, span = (estimate["value"], span_of(estimate)) if estimate else (None, None)
            rows.append(Dot(line["text"], value, span, colour))
    if not any(row.value is not None for row in rows):
        return None
    x = Axis("percent" if shares else "points of top-1", signed)
    levels = [("half", 0.5)] if shares else [("no difference", 0.0)]
    return dots(f"{claim['name']}: {claim['statement']}", rows, x, levels)


def signed(share: float) -> str:
    """A difference of accuracies in points, with its sign."""
    return f"{share * 100:+.1f}"


def rate_curves(told: Told) -> Html:
    """The last loss over the factors that were tried, for each label of the search."""
    axis = told["plan"]["rates"]["axis"]
    curves = []
    for place, label in enumerate(told["sweep"]["labels"][axis]):
        tried = {
            result["factor"]: result["loss"]
            for result in told["results"]
            if result["searching"] and result["labels"][axis] == label and result["loss"] is not None
        }
        if tried:
            xs = sorted(tried)
            curves.append(Curve(label, xs, [tried[x] for x in xs], place, "points"))
    x = Axis(
        "times the recipe's learning rates", lambda value: f"{value:g}", log=True, at=told["plan"]["rates"]["factors"]
    )
    return chart("Loss in the last stage", curves, x, Axis("loss", short))
