"""What a search found, as a picture: a grid of images with their captions, best first."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.figures import GREY, RIGHT, Pixels, canvas, heading, picture, shorten

_LINES = 3


@dataclass(frozen=True, slots=True)
class SheetTile:
    """One image: square pixels uint8 [H, H, 3], a line of facts, a caption; is_query frames what was searched with."""

    pixels: Pixels
    facts: str
    caption: str
    is_query: bool = False


def draw_sheet(tiles: Sequence[SheetTile], title: str, subtitle: str, path: Path, columns: int = 6) -> None:
    """Draw the tiles, in reading order, and write a PNG, whole or not at all."""
    assert tiles, "nothing to draw"
    side, gap, label, top, line_height = 1.7, 0.2, 0.75, 0.8, 0.14
    num_rows, columns = math.ceil(len(tiles) / columns), max(3, min(columns, len(tiles)))
    width, height = 0.4 - gap + columns * (side + gap), top + num_rows * (side + label) + 0.1
    with canvas(path, width, height) as figure:
        # Ten characters of the title's size to the inch.
        heading(figure, shorten(title, int(10 * width)), subtitle)
        for place, tile in enumerate(tiles):
            left = 0.2 + place % columns * (side + gap)
            bottom = height - top - place // columns * (side + label) - side
            picture(figure, (left, bottom, side, side), tile.pixels, RIGHT if tile.is_query else None)
            x, y = left / width, bottom - 0.05
            figure.text(x, y / height, tile.facts, va="top", size=7.5, color=RIGHT if tile.is_query else GREY)
            lines = textwrap.wrap(tile.caption, 32, max_lines=_LINES, placeholder=" …")
            figure.text(x, (y - line_height) / height, "\n".join(lines), va="top", size=7.5, linespacing=1.25)
