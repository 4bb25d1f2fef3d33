"""Curves as inline SVG: axes, a colour a series, and marks where stages end. Colours come from the page's style.

A long log is thinned to what can be seen: of each group of neighbours the first, least, greatest and last stay, so that
a spike is never lost. What is not finite interrupts a curve.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.report_page import NUM_COLOURS, Html, join, tag

WIDTH, HEIGHT = 480, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 42
_MOST_POINTS = 480
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """ys over xs. colour: a number, the same for what belongs together. kind: "thick", "thin", "dashed" or "points".

    name: for the legend, empty for none. spreads: with points, the least and greatest each might be. shift: of points,
    to the right, in units of the picture, so that intervals at the same x do not cover each other.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int = 0
    kind: str = "thick"
    spreads: Sequence[Span] = ()
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Axis:
    """label: with its unit. form: how a number on it is written. from_zero: whether it begins there (an x always does,
    unless it is log). log: for an x above 0: equal ratios are equal distances. at: the numbers written on a log x;
    where there are none, round ones.
    """

    label: str
    form: Callable[[float], str]
    from_zero: bool = False
    log: bool = False
    at: Sequence[float] = ()


_SIZES = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


def short(value: float, unit: str = "") -> str:
    """A number with the letter of its thousands, and its unit: 1.44M, 1.673 GFLOP."""
    space = " " if unit else ""
    for size, letter in _SIZES:
        if abs(value) >= size:
            return f"{value / size:.4g}{space}{letter}{unit}"
    return f"{value / 1e3:.4g}{space}k{unit}" if abs(value) >= 1e4 else f"{value:,.4g}{space}{unit}"


def lasting(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 3.2 hours, 210 hours."""
    if seconds < 7200:
        return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.{0 if seconds >= 360_000 else 1}f} hours"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most `most` of them: multiples of 1, 2 or 5 times a power of ten."""
    assert low < high
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * times for times in (1, 2, 5, 10, 20, 50) if (high - low) / (step * times) < most - 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, above 0: as many of 1, 2 and 5 times powers of ten as `most` lets in."""
    assert 0 < low < high
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for times in ((1, 2, 5), (1, 3), (1,)):
        found = [t * 10.0**power for power in powers for t in times if low <= t * 10.0**power <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def thinned(xs: Sequence[float], ys: Sequence[float], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most about `most` of the points, in order; see the module. Not finite ones stay where a group has no other."""
    points = list(zip(xs, ys, strict=True))
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / (most / 4))
    kept: list[int] = []
    for start in range(0, len(points), size):
        group = range(start, min(start + size, len(points)))
        finite = [place for place in group if math.isfinite(points[place][1])] or [start]
        least, greatest = (choose(finite, key=lambda place: points[place][1]) for choose in (min, max))
        kept += sorted({finite[0], least, greatest, finite[-1]})
    return [points[place] for place in kept]


def _span(values: Sequence[float], from_zero: bool = False) -> Span:
    low, high = min(values), max(values)
    low = min(low, 0.0) if from_zero else low
    if low == high:  # a level line in the middle
        return low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    return low - (0 if from_zero else 0.03 * (high - low)), high + 0.03 * (high - low)


@dataclass(frozen=True, slots=True)
class _Plane:
    """From values to places in the picture. log: x holds logarithms."""

    x: Span
    y: Span
    log: bool = False

    def across(self, value: float) -> float:
        value = math.log(value) if self.log else value
        return round(_LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - _LEFT - _RIGHT), 1)

    def down(self, value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - _TOP - _BOTTOM), 1)


def chart(
    title: str,
    curves: Sequence[Curve],
    x: Axis,
    y: Axis,
    boundaries: Sequence[float] = (),
    levels: Sequence[tuple[str, float]] = (),
) -> Html:
    """A figure with its title and legend. boundaries: places on x where a stage ends. levels: names and places on y of
    dashed lines across.
    """
    points = [(a, b) for curve in curves for a, b in zip(curve.xs, curve.ys, strict=True) if math.isfinite(a + b)]
    if not points:
        return tag("figure", tag("h3", title), tag("p", "Not one number of it is finite.", class_="note"))
    ends = [end for curve in curves for spread in curve.spreads for end in spread] + [level for _, level in levels]
    xs = [math.log(a) if x.log else a for a, _ in points]
    plane = _Plane(
        _span(xs, from_zero=not x.log), _span([*(b for _, b in points), *ends], from_zero=y.from_zero), x.log
    )
    low, high = min(b for _, b in points), max(b for _, b in points)
    svg = tag(
        "svg",
        *_frame(plane, x, y),
        *(_upright(plane, boundary, plane.y, "boundary") for boundary in boundaries),
        *(mark for name, level in levels for mark in _level(plane, name, level)),
        *(mark for curve in curves for mark in _drawn(plane, curve, x, y)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {y.form(low)} to {y.form(high)}, over {x.label}",
    )
    legend = [
        tag("span", tag("span", "■ ", class_=f"k{curve.colour % NUM_COLOURS}"), curve.name)
        for curve in curves
        if curve.name
    ]
    return tag("figure", tag("h3", title), svg, tag("figcaption", *legend))


def _frame(plane: _Plane, x: Axis, y: Axis) -> list[Html]:
    right, floor = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    marks = []
    for value in ticks(*plane.y):
        at = plane.down(value)
        marks.append(tag("line", x1=_LEFT, x2=right, y1=at, y2=at, class_="grid"))
        marks.append(tag("text", y.form(value), x=_LEFT - 6, y=at + 4, text_anchor="end"))
    for value in _across_ticks(plane, x):
        marks.append(tag("text", x.form(value), x=plane.across(value), y=floor + 16, text_anchor="middle"))
    middle = (_LEFT + right) / 2
    return [*marks, tag("text", x.label, x=middle, y=HEIGHT - 6, text_anchor="middle")]


def _across_ticks(plane: _Plane, x: Axis) -> Sequence[float]:
    if not x.log:
        return ticks(*plane.x)
    low, high = (math.exp(end) for end in plane.x)
    return [value for value in x.at if low <= value <= high] if x.at else log_ticks(low, high)


def _level(plane: _Plane, name: str, level: float) -> list[Html]:
    right, at = WIDTH - _RIGHT, plane.down(level)
    line = tag("line", x1=_LEFT, x2=right, y1=at, y2=at, class_="boundary")
    return [line, tag("text", name, x=right, y=at - 4, text_anchor="end")]


def _upright(plane: _Plane, at: float, span: Span, kind: str, shift: float = 0.0) -> Html:
    x = round(plane.across(at) + shift, 1)
    return tag("line", x1=x, x2=x, y1=plane.down(span[0]), y2=plane.down(span[1]), class_=kind)


def _drawn(plane: _Plane, curve: Curve, x: Axis, y: Axis) -> list[Html]:
    colour = curve.colour % NUM_COLOURS
    points = thinned(curve.xs, curve.ys)
    finite = [(a, b) for a, b in points if math.isfinite(a + b)]
    marks = []
    if curve.kind != "points" or len(finite) > 1:
        kind = {"thin": " thin", "dashed": " dashed"}.get(curve.kind, "")
        marks.append(tag("path", d=_path(plane, points, curve.shift), class_=f"curve s{colour}{kind}"))
    if curve.kind == "points":
        spans = zip(curve.xs, curve.spreads, strict=False)
        marks += [_upright(plane, at, span, f"curve spread s{colour}", curve.shift) for at, span in spans]
    if curve.kind == "points" or len(finite) < 3:
        for a, b in finite:
            told = tag("title", join([curve.name, ": " if curve.name else "", f"{y.form(b)} at {x.form(a)}"]))
            x_at = round(plane.across(a) + curve.shift, 1)
            marks.append(tag("circle", told, cx=x_at, cy=plane.down(b), r=3.5, class_=f"f{colour}"))
    return marks


def _path(plane: _Plane, points: Sequence[tuple[float, float]], shift: float = 0.0) -> str:
    moves, draws = [], False
    for a, b in points:
        if math.isfinite(a + b):
            moves.append(f"{'L' if draws else 'M'}{round(plane.across(a) + shift, 1)} {plane.down(b)}")
        draws = math.isfinite(a + b)
    return "".join(moves)
