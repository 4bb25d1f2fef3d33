"""The pictures of an evaluation: training curves, retrieved images, classified images.

Every function takes plain data and a path, and leaves a PNG there, whole or not at all. matplotlib is used through
Figure objects alone, so nothing here touches a program's own figures. Text from data sets is drawn literally: a `$` in
a caption is no formula.
"""

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from prep.files import written_aside
from train.log import Line

INK, GREY, FAINT, RIGHT, WRONG = "#1f2933", "#7b8794", "#e4e7eb", "#2a7f62", "#c2513b"
STAGES = ("#2f6690", "#d9822b", "#6b4e9b", "#4f8a5b")
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """One caption and the images it found. own, retrieved: square pixels uint8 [H, H, 3], best first.

    rank: of its own image, 0 the best, among num images; when it is among the retrieved it is retrieved[rank].
    """

    caption: str
    own: Pixels
    retrieved: tuple[Pixels, ...]
    rank: int
    num: int


@dataclass(frozen=True, slots=True)
class Tile:
    """One classified image: square pixels uint8 [H, H, 3], its class, the answer."""

    pixels: Pixels
    class_name: str
    predicted: str


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """Two classes that are taken for each other, in words, and pictures of both."""

    words: str
    tiles: tuple[Tile, ...]


def percent(share: float) -> str:
    """As people read it: 31.4%, and 0.05% where one digit would say nothing."""
    return f"{share:.1%}" if share >= 0.01 or share == 0 else f"{share:.2%}"


def shorten(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis: at most `length` characters."""
    """At most so many characters; the last of a longer text is an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A white figure of width x height inches in our style, saved to `path` when the block ends well."""
    with style.context(STYLE), warnings.catch_warnings():
        # A caption in a script that the font lacks is drawn as boxes; the warning would name our font to a stranger.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(width, height), facecolor="white")
        yield figure
        with written_aside(path) as file:
            figure.savefig(file, format="png")


def heading(figure: Figure, title: str, subtitle: str) -> None:
    """A title line and a grey line under it, at the left; both lie within the top 0.6 inch."""
    width, height = figure.get_size_inches()
    figure.text(0.2 / width, 1 - 0.16 / height, title, size=13, weight="bold", va="top")
    # Thirteen characters of this size to the inch.
    figure.text(0.2 / width, 1 - 0.42 / height, shorten(subtitle, int(13 * width)), color=GREY, va="top")


def smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean of each value and up to `width` neighbours on either side; only the ends lean inwards."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    place = np.arange(len(values))
    first, end = np.maximum(place - width, 0), np.minimum(place + width + 1, len(values))
    means: NDArray[np.float64] = (total[end] - total[first]) / (end - first)
    return means


def _scale(largest: float, letters: str) -> tuple[float, str]:
    """The size to count in, and its letter (letters: of 10^3, 10^6, ...), such as (1e6, "M")."""
    sizes = [(1.0, ""), *((1000.0**power, letter) for power, letter in enumerate(letters, start=1))]
    return max((size for size in sizes if largest >= 2 * size[0]), default=sizes[0])


def _draw_stages(loss: Axes, rate: Axes, lines: Sequence[Line], xs: Sequence[float]) -> None:
    """Loss and learning rate of each line over its x, a colour a stage, a dashed line where a stage ends."""
    stages = sorted({line.stage for line in lines})
    for order, stage in enumerate(stages):
        inside = [line for line in lines if line.stage == stage]
        x = np.array([x for x, line in zip(xs, lines, strict=True) if line.stage == stage], float)
        y = np.array([line.loss for line in inside], float)
        finite = np.isfinite(y)
        colour = STAGES[order % len(STAGES)]
        marker = "o" if len(inside) < 3 else ""
        loss.plot(x[finite], y[finite], color=colour, alpha=0.3, linewidth=0.9, marker=marker, markersize=3)
        smoothed = smooth(y[finite], max(1, len(inside) // 25))
        loss.plot(x[finite], smoothed, color=colour, linewidth=2, label=f"stage {order + 1}: {inside[0].stage_name}")
        rate.plot(x, [line.lr for line in inside], color=colour, linewidth=1.5, marker=marker, markersize=3)
        if stage != stages[-1]:
            for axes in (loss, rate):
                axes.axvline(x[-1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)


def curves(lines: Sequence[Line], path: Path) -> None:
    """Loss and learning rate over samples seen and over training compute, from a run's log: at least one line."""
    assert lines, "nothing to draw"
    last = lines[-1]
    (size, letter), (thousands, suffix) = _scale(last.flops, "kMGTPEZY"), _scale(last.samples_seen, "kMBT")
    with canvas(path, 11, 5) as figure:
        grid = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(3.4, 1))
        figure.subplots_adjust(left=0.075, right=0.975, top=0.84, bottom=0.11, hspace=0.12, wspace=0.07)
        _draw_stages(grid[0, 0], grid[1, 0], lines, [line.samples_seen for line in lines])
        _draw_stages(grid[0, 1], grid[1, 1], lines, [line.flops for line in lines])
        for axes in grid.flat:
            axes.margins(x=0.01)
            axes.tick_params(length=0)
        grid[0, 0].set_ylabel("contrastive loss")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="upper right", bbox_to_anchor=(0.98, 0.99), ncols=3)
        grid[1, 0].set(ylabel="learning rate", xlabel="samples seen", ylim=(0, None))
        grid[1, 0].xaxis.set_major_formatter(lambda value, _: f"{value / thousands:g}{suffix if value else ''}")
        grid[1, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        grid[1, 1].set_xlabel(f"training compute ({letter}FLOP)")
        grid[1, 1].xaxis.set_major_formatter(lambda value, _: f"{value / size:g}")
        figure.align_ylabels(grid[:, 0])
        reached = f"{last.samples_seen:,} samples, {last.flops / size:,.1f} {letter}FLOP"
        heading(figure, "Training", f"{reached}; thin: each log step, thick: smoothed; a dashed line ends a stage")


def picture(figure: Figure, box: tuple[float, float, float, float], pixels: Pixels, frame: str | None) -> None:
    """Pixels at (left, bottom, width, height) in inches, framed in a colour or not."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.imshow(pixels, interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame or GREY, linewidth=3.5)


def retrieval(rows: Sequence[RetrievalRow], subtitle: str, path: Path) -> None:
    """A line of pictures for each caption: its own image, then what it found, the right one framed."""
    assert rows, "nothing to draw"
    side, gap, text, top, line_height = 1.2, 0.13, 3.1, 0.95, 0.17
    num = max(len(row.retrieved) for row in rows)
    lefts = [text + 0.1, *(text + 0.55 + side + place * (side + gap) for place in range(num))]
    width, height = lefts[-1] + side + 0.2, top + len(rows) * (side + gap) + 0.1
    with canvas(path, width, height) as figure:
        heading(figure, "From a caption to its picture", subtitle)
        for left, name in zip(lefts, ["its own picture", *map(str, range(1, num + 1))], strict=True):
            x, y = (left + side / 2) / width, 1 - (top - 0.08) / height
            figure.text(x, y, name, ha="center", va="bottom", color=GREY)
        for line, row in enumerate(rows):
            bottom = height - top - (line + 1) * (side + gap) + gap
            for place, (left, pixels) in enumerate(zip(lefts, (row.own, *row.retrieved), strict=False)):
                picture(figure, (left, bottom, side, side), pixels, RIGHT if place == row.rank + 1 else None)
            lines = textwrap.wrap(row.caption, 40, max_lines=6, placeholder=" …")
            y = bottom + side / 2 + (len(lines) + 1) * line_height / 2
            figure.text(0.2 / width, y / height, "\n".join(lines), va="top", linespacing=1.35)
            found = row.rank < len(row.retrieved)
            note = f"found at place {row.rank + 1:,}" + ("" if found else f" of {row.num:,}")
            y -= len(lines) * line_height + 0.03
            figure.text(0.2 / width, y / height, note, va="top", size=8, color=RIGHT if found else WRONG)


def zeroshot(tiles: Sequence[Tile], title: str, subtitle: str, path: Path, columns: int = 8) -> None:
    """A grid of images, the answer under each: right in green, wrong in red with the class under it."""
    assert tiles, "nothing to draw"
    side, gap, label, top = 1.2, 0.16, 0.42, 0.8
    num_rows = math.ceil(len(tiles) / columns)
    width, height = 0.4 - gap + columns * (side + gap), top + num_rows * (side + label) + 0.1
    with canvas(path, width, height) as figure:
        heading(figure, title, subtitle)
        for place, tile in enumerate(tiles):
            left = 0.2 + place % columns * (side + gap)
            bottom = height - top - (place // columns) * (side + label) - side
            picture(figure, (left, bottom, side, side), tile.pixels, None)
            right = tile.predicted == tile.class_name
            x, y = left / width, (bottom - 0.05) / height
            answer, colour = ("✓ ", RIGHT) if right else ("✗ ", WRONG)
            figure.text(x, y, answer + shorten(tile.predicted, 18), va="top", size=7.5, color=colour)
            if not right:
                truth = shorten(f"is {tile.class_name}", 20)
                figure.text(x, y - 0.15 / height, truth, va="top", size=7.5, color=GREY)


def confusions(rows: Sequence[ConfusionRow], subtitle: str, path: Path, columns: int = 8) -> None:
    """A line of pictures for each pair of classes: under each its class, and the class that it was taken for."""
    assert rows, "nothing to draw"
    side, gap, words, label, top = 1.2, 0.16, 0.28, 0.5, 0.8
    height = top + len(rows) * (words + side + label) + 0.1
    width = 0.4 - gap + columns * (side + gap)
    with canvas(path, width, height) as figure:
        heading(figure, "Classes taken for each other", subtitle)
        for line, row in enumerate(rows):
            y = height - top - line * (words + side + label)
            figure.text(0.2 / width, y / height, shorten(row.words, int(13 * width)), va="top", weight="bold")
            bottom = y - words - side
            for place, tile in enumerate(row.tiles[:columns]):
                left = 0.2 + place * (side + gap)
                picture(figure, (left, bottom, side, side), tile.pixels, None)
                x, below = left / width, (bottom - 0.05) / height
                figure.text(x, below, shorten(f"is {tile.class_name}", 20), va="top", size=7.5, color=GREY)
                answer = "✗ " + shorten(tile.predicted, 18)
                figure.text(x, below - 0.15 / height, answer, va="top", size=7.5, color=WRONG)
