"""What lies behind the demo's objects: two colours, mixed by a pattern, then lit unevenly and grained."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageChops

from prep.demo_patterns import TRAINING, UNSEEN, Family, Size, grid, smooth
from prep.demo_sprites import Colour

# Nothing very dark: the drawings' outlines are black.
COLOURS: dict[str, Colour] = {
    "white": (247, 247, 244),
    "gray": (172, 174, 178),
    "beige": (232, 216, 186),
    "brown": (168, 122, 84),
    "red": (216, 92, 84),
    "orange": (244, 172, 96),
    "yellow": (246, 224, 122),
    "green": (138, 196, 130),
    "turquoise": (122, 204, 200),
    "blue": (126, 172, 226),
    "purple": (176, 144, 212),
    "pink": (244, 180, 202),
}


@dataclass(frozen=True, slots=True)
class Background:
    """What is said of a background: its pattern's family, and the names of its two colours (keys of `COLOURS`)."""

    family: str
    colours: tuple[str, str]


# Standard deviations of the grain, in grey levels.
_GRAINS = (0, 0, 3, 6, 10)
_GRAIN_SIDE = 1344


@cache
def _grain(deviation: int) -> Image.Image:
    """A large sheet of grain around mid-grey; scenes cut their piece out of it (4 MB each)."""
    noise = np.random.default_rng(deviation).standard_normal((_GRAIN_SIDE, _GRAIN_SIDE, 3), np.float32)
    return Image.fromarray(np.clip(128 + noise * deviation, 0, 255).astype(np.uint8))


def choose(families: Mapping[str, Family], rng: Random) -> Background:
    """A family and two different colours for it."""
    first, second = rng.sample(sorted(COLOURS), 2)
    return Background(rng.choice(sorted(families)), (first, second))


def _near(name: str, rng: Random) -> Colour:
    """A colour that goes by a name, a little off its value in `COLOURS`."""
    red, green, blue = (min(255, channel + rng.randint(-10, 8)) for channel in COLOURS[name])
    return red, green, blue


def painted(background: Background, size: Size, rng: Random) -> Image.Image:
    """The background as an RGB image of `size` (width, height)."""
    pattern = (TRAINING | UNSEEN)[background.family](size, rng)
    first, second = (Image.new("RGB", size, _near(name, rng)) for name in background.colours)
    image = Image.composite(second, first, pattern)
    if rng.random() < 0.5:
        x, y = grid(size, 0)
        light = 1 - rng.uniform(0.1, 0.35) * np.hypot(x - rng.uniform(-0.4, 0.4), y - rng.uniform(-0.4, 0.4))
        image = ImageChops.multiply(image, smooth(light, size).convert("RGB"))
    return image


def grained(image: Image.Image, rng: Random) -> Image.Image:
    """The image with film grain of a drawn strength, or none."""
    deviation = rng.choice(_GRAINS)
    if deviation == 0:
        return image
    left, top = rng.randint(0, _GRAIN_SIDE - image.width), rng.randint(0, _GRAIN_SIDE - image.height)
    piece = _grain(deviation).crop((left, top, left + image.width, top + image.height))
    return ImageChops.add(image, piece, scale=1, offset=-128)
