"""A picture of some rows of a store: copies, crops, captions, and the words that each text mask keeps.

On the left of a row are its pictures, all copies at one scale; on the right its captions: whole, and for each mask of
READING_MASKS and length of LENGTHS. Kept words are coloured by word class, dropped ones pale; a word has one place in
all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from prep.draws import row_keys
from prep.files import written_aside
from prep.kept_words import StoredCaption, Word, kept_words
from prep.sheet_rows import Copy, SheetRow
from prep.text_masks import READING_MASKS
from prep.tokenizer import Tokenizer
from prep.typeface import Line, Span, Typeface

LENGTHS = (8, 16)
"""Text tokens, start and end included."""

INK, GREY, PALE, FAINT, WHITE = "#1f2933", "#7b8794", "#b3bcc6", "#e4e7eb", "#ffffff"
CROPS = ("#d9822b", "#6b4e9b", "#2a7f62")
"""Colours of the crops' frames, an epoch each."""
CLASSES = {1: ("noun", "#2f6690"), 2: ("adjective", "#2a7f62"), 3: ("verb", "#c2513b"), 4: ("other", INK)}

_MAX_SIDE = 300
_MAX_LINES = 6
_EDGE, _GAP = 40, 22
_TEXT_WIDTH, _NAME_WIDTH = 500, 100
_TILE = 92
# Enlarged so many times, a copy shows its pixels.
_PIXELS_SHOWN = 4
_LABELS = 44
_MAX_BAND = 6000


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands above the rows, and how their captions were read. seed: of crops and masks, as of a loader."""

    title: str
    subtitle: str
    tokenizer: Tokenizer
    seed: int
    body: Typeface = field(default_factory=lambda: Typeface(17))
    caption: Typeface = field(default_factory=lambda: Typeface(20))
    small: Typeface = field(default_factory=lambda: Typeface(14))
    large: Typeface = field(default_factory=lambda: Typeface(30))

    @property
    def missing(self) -> set[str]:
        """Characters that were drawn as boxes, because no font of this machine has them."""
        return self.body.missing | self.caption.missing | self.small.missing | self.large.missing


def draw_sheet(sheet: Sheet, rows: Sequence[SheetRow], path: Path) -> None:
    """Draw the rows and write a PNG, whole or not at all."""
    pictures = [_pictures(sheet, row) for row in rows]
    text_left = max(picture.width for picture in pictures) + 2 * _EDGE
    width = text_left + _NAME_WIDTH + len(LENGTHS) * (_TEXT_WIDTH + _GAP) + _EDGE
    bands = [_heading(sheet, width)]
    bands += [_band(sheet, row, picture, text_left, width) for row, picture in zip(rows, pictures, strict=True)]
    whole = Image.new("RGB", (width, sum(band.height for band in bands)), WHITE)
    top = 0
    for band in bands:
        whole.paste(band, (0, top))
        top += band.height
    with written_aside(path) as file:
        whole.save(file, "PNG")


def _heading(sheet: Sheet, width: int) -> Image.Image:
    image = Image.new("RGB", (width, 130), WHITE)
    canvas = ImageDraw.Draw(image)
    sheet.large.draw(canvas, (_EDGE, 24), Span(sheet.title, INK, bold=True))
    sheet.body.draw(canvas, (_EDGE, 74), Span(sheet.subtitle, GREY))
    spans = [Span("kept:", GREY), *(Span(name, colour, bold=True) for name, colour in CLASSES.values())]
    spans += [Span("   kept in part:", GREY), Span("noun", CLASSES[1][1]), Span("   dropped:", GREY)]
    spans.append(Span("noun", PALE, bold=True))
    [legend] = sheet.body.wrap(spans, width, 1)
    left = width - _EDGE - legend[-1][0] - sheet.body.width(legend[-1][1].text, bold=True)
    _draw_lines(canvas, sheet.body, [legend], left, 74)
    return image


def _band(sheet: Sheet, row: SheetRow, picture: Image.Image, text_left: int, width: int) -> Image.Image:
    """A row of the store: a line of facts, its pictures on the left, its captions on the right."""
    image = Image.new("RGB", (width, _MAX_BAND), WHITE)
    canvas = ImageDraw.Draw(image)
    canvas.line((_EDGE, 0, width - _EDGE, 0), FAINT, 2)
    _draw_lines(canvas, sheet.small, sheet.small.wrap(_facts(row), width - 2 * _EDGE, 1), _EDGE, 16)
    top = 16 + sheet.small.line_height + 16
    image.paste(picture, (_EDGE, top))
    bottom = top
    for source, (caption, count) in row.captions.items():
        bottom = _draw_caption(sheet, canvas, row.row, (source, caption, count), (text_left, bottom))
    return image.crop((0, 0, width, min(max(bottom, top + picture.height) + 14, _MAX_BAND)))


def _facts(row: SheetRow) -> list[Span]:
    facts = row.facts
    original = f"{facts['original_width']:,} × {facts['original_height']:,} px {facts['original_format']}"
    return [Span(f"row {row.row:,}", INK, bold=True)] + [
        Span(f"·  {text}", GREY) for text in (f"key {facts['key']}", f"original {original}", f"from {facts['source']}")
    ]


def _pictures(sheet: Sheet, row: SheetRow) -> Image.Image:
    """The copies at one scale, the last with its crops framed; beside it these crops, and those of the bank."""
    sizes = np.array([copy.pixels.size for copy in row.copies] or [(1, 1)])
    scale = min(_MAX_SIDE * 1.4 / sizes[:, 0].max(), _MAX_SIDE / sizes[:, 1].max())
    scale = int(scale) if scale >= _PIXELS_SHOWN else scale
    cells: list[tuple[Image.Image, str, str]] = []
    for copy in row.copies:
        is_last = copy is row.copies[-1]
        size = f"{copy.pixels.width} × {copy.pixels.height} px"
        cells.append((_scaled(copy, scale, framed=is_last), copy.view.folder, size))
        if is_last:
            cells.append((_tiles(copy.crops, CROPS), "crops", f"epochs 0 to {len(copy.crops) - 1}"))
    banks: dict[str, list[Image.Image]] = {}
    for copy in row.bank:
        banks.setdefault(copy.view.folder.rpartition("-")[0], []).append(copy.pixels)
    cells += [(_tiles(crops, ()), f"{name} bank", _numbered(len(crops), "crop")) for name, crops in banks.items()]
    widths = [max(image.width, *(round(sheet.small.width(text, True)) for text in texts)) for image, *texts in cells]
    extent = sum(widths) + _GAP * (len(cells) - 1), max(image.height for image, *_ in cells) + _LABELS
    whole = Image.new("RGB", extent, WHITE)
    canvas, left = ImageDraw.Draw(whole), 0
    for (image, name, more), width in zip(cells, widths, strict=True):
        whole.paste(image, (left, 0))
        sheet.small.draw(canvas, (left, image.height + 4), Span(name, INK, bold=True))
        sheet.small.draw(canvas, (left, image.height + 4 + sheet.small.line_height), Span(more, GREY))
        left += width + _GAP
    return whole


def _scaled(copy: Copy, scale: float, framed: bool) -> Image.Image:
    width, height = (max(1, round(side * scale)) for side in copy.pixels.size)
    how = Image.Resampling.NEAREST if scale >= _PIXELS_SHOWN else Image.Resampling.LANCZOS
    image = copy.pixels.resize((width, height), how)
    if framed:
        canvas = ImageDraw.Draw(image)
        for (left, top, wide, high), colour in zip(copy.boxes, CROPS, strict=False):
            box = [round(side * scale) for side in (left, top, left + wide, top + high)]
            canvas.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=colour, width=3)
    return image


def _tiles(crops: Sequence[Image.Image], frames: Sequence[str]) -> Image.Image:
    """Square crops in columns of three, framed where there is a colour for them."""
    gap = (_MAX_SIDE - 3 * _TILE) // 2
    num_columns = -(-len(crops) // 3)
    image = Image.new("RGB", (num_columns * (_TILE + gap) - gap, min(len(crops), 3) * (_TILE + gap) - gap), WHITE)
    for place, crop in enumerate(crops):
        left, top = place // 3 * (_TILE + gap), place % 3 * (_TILE + gap)
        image.paste(crop.resize((_TILE, _TILE), Image.Resampling.LANCZOS), (left, top))
        if place < len(frames):
            box = (left, top, left + _TILE - 1, top + _TILE - 1)
            ImageDraw.Draw(image).rectangle(box, outline=frames[place], width=3)
    return image


def _draw_caption(
    sheet: Sheet,
    canvas: ImageDraw.ImageDraw,
    row: int,
    captions: tuple[str, StoredCaption | None, int],
    place: tuple[int, int],
) -> int:
    """One caption and its words under each mask; returns the bottom."""
    (source, caption, count), (left, top) = captions, place
    about = [Span(source, INK, bold=True)]
    if caption is None:
        about.append(Span("·  no caption from here", GREY))
    else:
        about.append(Span(f"·  {_numbered(caption.num_tokens, 'token')}", GREY))
        about += [Span(f"·  the first of {count} captions", GREY)] if count > 1 else []
    full = _NAME_WIDTH + len(LENGTHS) * (_TEXT_WIDTH + _GAP) - _GAP
    top = _draw_lines(canvas, sheet.small, sheet.small.wrap(about, full, 1), left, top)
    if caption is None:
        return top + _GAP
    words = [Span(text, INK) for text in caption.text.split(" ")]
    top = _draw_lines(canvas, sheet.caption, sheet.caption.wrap(words, full, _MAX_LINES), left, top) + 10
    columns = [left + _NAME_WIDTH + place * (_TEXT_WIDTH + _GAP) for place in range(len(LENGTHS))]
    for column, length in zip(columns, LENGTHS, strict=True):
        sheet.small.draw(canvas, (column, top), Span(f"T = {length}", GREY, bold=True))
    top += sheet.small.line_height + 2
    key = row_keys(sheet.seed, np.zeros(1, np.int64), np.array([row]), "text")
    for mask in READING_MASKS:
        sheet.small.draw(canvas, (left, top + 3), Span(mask, GREY))
        bottoms = []
        for column, length in zip(columns, LENGTHS, strict=True):
            spans = _spans(kept_words(caption, sheet.tokenizer, length, mask, key))
            lines = sheet.body.wrap(spans, _TEXT_WIDTH, _MAX_LINES, as_bold=True)
            bottoms.append(_draw_lines(canvas, sheet.body, lines, column, top))
        top = max(bottoms) + 3
    return top + _GAP


def _spans(words: Sequence[Word]) -> list[Span]:
    """Words in the style of what became of them."""
    spans = []
    for word in words:
        colour = CLASSES.get(word.word_class, CLASSES[4])[1] if word.kept else PALE
        spans.append(Span(word.text, colour, word.kept in (0, 1), word.is_spaced))
    return spans


def _draw_lines(canvas: ImageDraw.ImageDraw, type_: Typeface, lines: Sequence[Line], left: float, top: float) -> int:
    """Draw lines one under another; returns the bottom."""
    for number, line in enumerate(lines):
        for x, span in line:
            type_.draw(canvas, (left + x, top + number * type_.line_height), span)
    return round(top + len(lines) * type_.line_height)


def _numbered(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
