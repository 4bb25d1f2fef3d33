"""The bar chart of `pipelines.bench`, from its report."""

import statistics
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from prep.files import written_aside

_INK, _GREY, _FAINT = "#1f2933", "#7b8794", "#e4e7eb"
_COLOURS = {"this project": "#2f6690", "limit": "#7b8794", "other projects": "#d9822b"}
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": _FAINT,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


def chart_rows(report: dict[str, Any]) -> list[tuple[str, str, list[float]]]:
    """(label, kind, samples a second a turn) of each bar, the slowest first. Those that were not run are left out."""
    rows = [(f"{row['name']}, {row['view']}", "this project", row.get("alone")) for row in report["loaders"]]
    rows += [(f"{row['name']}, {row['view']}", "other projects", row.get("alone")) for row in report["peers"]]
    for view, facts in report["stages"].items():
        rows += [(f"{name} alone, {view}", "limit", rates) for name, rates in facts["limits"].items()]
    found = [(label, kind, rates) for label, kind, rates in rows if rates]
    return sorted(found, key=lambda row: statistics.median(row[2]))


def draw_chart(report: dict[str, Any], path: Path) -> None:
    """Images a second of everything that was measured alone, on a logarithmic axis, with their ranges; a PNG."""
    rows, settings = chart_rows(report), report["settings"]
    with style.context(_STYLE):
        height = 1.2 + 0.27 * len(rows)
        figure = Figure(figsize=(9, height), facecolor="white")
        axes = figure.subplots()
        figure.subplots_adjust(left=0.3, right=0.93, top=1 - 0.7 / height, bottom=0.45 / height)
        for place, (_, kind, rates) in enumerate(rows):
            middle = statistics.median(rates)
            axes.barh(place, middle, color=_COLOURS[kind], height=0.72)
            axes.plot([min(rates), max(rates)], [place, place], color=_INK, linewidth=1.2)
            axes.annotate(
                f"{middle:,.0f}", (max(rates), place), (4, 0), textcoords="offset points", va="center", size=8
            )
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        slowest = statistics.median(rows[0][2]) if rows else 1.0
        axes.set(xscale="log", xlabel="images a second", xlim=(slowest / 3, None))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.tick_params(length=0, which="both")
        axes.margins(x=0.15, y=0.01)
        if needs := report["trainer"]["alone"]:
            axes.axvline(
                statistics.median(needs), color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="trainer alone"
            )
        for kind, colour in _COLOURS.items():
            axes.bar(0, 0, color=colour, label=kind)
        figure.legend(*axes.get_legend_handles_labels(), loc="upper right", bbox_to_anchor=(0.99, 1), ncols=4)
        title = f"{settings['res']} px on {report['machine']['cores']} cores"
        figure.text(0.02, 1 - 0.16 / height, title, size=12, weight="bold", va="top")
        with written_aside(path) as file:
            figure.savefig(file, format="png")
