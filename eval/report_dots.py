"""Numbers beneath each other, each a dot with its interval, as inline SVG: for what has names alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.report_charts import WIDTH, Axis, Span, ticks
from eval.report_page import NUM_COLOURS, Html, tag

_ROW, _TOP, _BOTTOM, _RIGHT = 22, 6, 40, 22
_A_LETTER, _WIDEST = 7.2, 250


@dataclass(frozen=True, slots=True)
class Dot:
    """A line of the figure. value: None for a name alone (what is not there yet). span: None for no interval."""

    name: str
    value: float | None
    span: Span | None = None
    colour: int = 0


def dots(title: str, rows: Sequence[Dot], x: Axis, levels: Sequence[tuple[str, float]] = ()) -> Html:
    """A figure, a line a row. levels: names and places on x of dashed lines."""
    known = [end for row in rows if row.value is not None for end in (row.value, *(row.span or ()))]
    known = [value for value in known if math.isfinite(value)]
    if not known:
        return tag("figure", tag("h3", title), tag("p", "Nothing of it has a result yet.", class_="note"))
    known += [level for _, level in levels] + ([0.0] if x.from_zero else [])
    least, most = min(known), max(known)
    room = 0.04 * (most - least) or abs(most) / 2 or 1.0
    span = (least - (0 if x.from_zero and least == 0 else room), most + room)
    left = min(float(_WIDEST), 14 + _A_LETTER * max(len(row.name) for row in rows))
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def across(value: float) -> float:
        place: float = left + (value - span[0]) / (span[1] - span[0]) * (WIDTH - left - _RIGHT)
        return round(place, 1)

    floor = height - _BOTTOM
    marks = []
    for value in ticks(*span, most=5):
        marks.append(tag("line", x1=across(value), x2=across(value), y1=_TOP, y2=floor, class_="grid"))
        marks.append(tag("text", x.form(value), x=across(value), y=floor + 16, text_anchor="middle"))
    for name, level in levels:
        told = tag("title", name)
        marks.append(tag("line", told, x1=across(level), x2=across(level), y1=_TOP, y2=floor, class_="boundary"))
    for place, row in enumerate(rows):
        marks += _line(row, left, _TOP + _ROW * (place + 0.5), across, x)
    marks.append(tag("text", x.label, x=(left + WIDTH - _RIGHT) / 2, y=height - 6, text_anchor="middle"))
    label = f"{title}: " + ", ".join(f"{row.name} {x.form(row.value)}" for row in rows if row.value is not None)
    svg = tag("svg", *marks, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)
    legend = [tag("span", f"┊ {name}") for name, _ in levels if name]
    return tag("figure", tag("h3", title), svg, tag("figcaption", *legend))


def _line(row: Dot, left: float, at: float, across: Callable[[float], float], x: Axis) -> list[Html]:
    most = int((left - 8) / _A_LETTER)
    name = row.name if len(row.name) <= most else row.name[: most - 1] + "…"
    marks = [tag("text", name, tag("title", row.name), x=left - 8, y=at + 4, text_anchor="end")]
    if row.value is None or not math.isfinite(row.value):
        return [*marks, tag("text", "not yet" if row.value is None else "no number", x=left + 6, y=at + 4)]
    colour = row.colour % NUM_COLOURS
    told = x.form(row.value)
    if row.span is not None:
        ends = [across(end) for end in row.span]
        marks.append(tag("line", x1=ends[0], x2=ends[1], y1=at, y2=at, class_=f"curve s{colour}"))
        told += f" ({x.form(row.span[0])} to {x.form(row.span[1])})"
    circle = tag("circle", tag("title", f"{row.name}: {told}"), cx=across(row.value), cy=at, r=4.5, class_=f"f{colour}")
    return [*marks, circle]
