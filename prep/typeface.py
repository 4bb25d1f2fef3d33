"""Text in pictures: DejaVu Sans as matplotlib brings it, and any other font of the machine for characters it lacks."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import matplotlib
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

_FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_REGULAR, _BOLD = (str(_FOLDER / name) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"))
# Has a picture of a script's name for every character there is.
_LAST_RESORT = "LastResort"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text in one style, which a line is only broken before. is_spaced: a space goes before it."""

    text: str
    colour: str
    bold: bool = False
    is_spaced: bool = True


Line = list[tuple[float, Span]]
"""Spans and where they begin, in pixels from the line's left end."""


class Typeface:
    """One size of type, in pixels. missing: characters that no font of this machine has, drawn as boxes."""

    def __init__(self, size: int) -> None:
        self.size, self.missing = size, set[str]()
        self._fonts: dict[str, ImageFont.FreeTypeFont] = {}

    @cached_property
    def line_height(self) -> int:
        """Pixels from one line to the next."""
        return round(self.size * 1.45)

    def width(self, text: str, bold: bool = False) -> float:
        """Pixels from left to right."""
        return sum(font.getlength(run) for font, run in self._runs(text, bold))

    def draw(self, canvas: ImageDraw.ImageDraw, place: tuple[float, float], span: Span) -> float:
        """Draw at (left, top of the line); returns the right end."""
        x, y = place
        for font, run in self._runs(span.text, span.bold):
            canvas.text((x, y + self.size), run, font=font, fill=span.colour, anchor="ls")
            x += font.getlength(run)
        return x

    def wrap(self, spans: Iterable[Span], width: float, max_lines: int, as_bold: bool = False) -> list[Line]:
        """Break spans into lines of at most `width` pixels; what is longer than `max_lines` ends in an ellipsis.

        as_bold: give each the room that it needs in bold, so that its place does not depend on its style.
        """
        space = self.width(" ")
        lines: list[Line] = [[]]
        x = 0.0
        for span in spans:
            for place, part in enumerate(self._parts(span.text, as_bold or span.bold, width)):
                needed = self.width(part, as_bold or span.bold)
                gap = space if span.is_spaced and place == 0 and lines[-1] else 0.0
                if lines[-1] and x + gap + needed > width:
                    if len(lines) == max_lines:
                        lines[-1].append((min(x, width - self.width("…")), Span("…", span.colour)))
                        return lines
                    lines.append([])
                    x = gap = 0.0
                lines[-1].append((x + gap, Span(part, span.colour, span.bold, span.is_spaced)))
                x += gap + needed
        return lines

    def _parts(self, text: str, bold: bool, width: float) -> list[str]:
        """The text, cut where it is wider than a line, as long stretches without a space are."""
        parts = [""]
        for character in printable(text):
            if parts[-1] and self.width(parts[-1] + character, bold) > width:
                parts.append("")
            parts[-1] += character
        return parts

    def _runs(self, text: str, bold: bool) -> list[tuple[ImageFont.FreeTypeFont, str]]:
        """The text cut into stretches that one font can draw."""
        runs: list[tuple[str, str]] = []
        for character in printable(text):
            path = _BOLD if bold else _REGULAR
            if ord(character) not in _characters(path):
                found = _fallback(character)
                if found is None:
                    self.missing.add(character)
                path = found or path
            if runs and runs[-1][0] == path:
                runs[-1] = path, runs[-1][1] + character
            else:
                runs.append((path, character))
        return [(self._font(path), run) for path, run in runs]

    def _font(self, path: str) -> ImageFont.FreeTypeFont:
        if path not in self._fonts:
            self._fonts[path] = ImageFont.truetype(path, self.size)
        return self._fonts[path]


def printable(text: str) -> str:
    """The text on one line, with a sign in place of each character that has no looks."""
    return text if text.isprintable() else "".join(map(_seen, text))


def _seen(character: str) -> str:
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category == "Cf":  # joiners, marks of direction
        return ""
    return "\N{REPLACEMENT CHARACTER}" if category.startswith("C") else character


@cache
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


@cache
def _fallback(character: str) -> str | None:
    """A font of this machine that has the character, or None. Fonts of coloured bitmaps, emoji's, are no use here."""
    for path in sorted({entry.fname for entry in fontManager.ttflist}):
        if _LAST_RESORT in path or path in (_REGULAR, _BOLD):
            continue
        try:
            if ord(character) in _characters(path):
                ImageFont.truetype(path, 16)
                return path
        except (OSError, RuntimeError):  # not scalable, or not to be read
            continue
    return None
