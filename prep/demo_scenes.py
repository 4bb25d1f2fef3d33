"""The demo's scenes: which objects stand where, and the picture of them.

A `Scene` is the truth about a picture; `prep.demo_captions` speaks of nothing else. Everything is drawn from one
`random.Random` a scene, so a scene depends on its own seed alone.
"""

import io
import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from prep.demo_backgrounds import Background, choose, grained, painted
from prep.demo_objects import CLASSES, is_held_out
from prep.demo_patterns import TRAINING, UNSEEN, Size
from prep.demo_sprites import TINTS, drawn

Box = tuple[int, int, int, int]

_SHORT_SIDE = (160, 640)
_LONGEST_SIDE = 1280
# How often a scene has one, two, three, four objects.
_NUM_OBJECTS = (0.45, 0.30, 0.15, 0.10)
_MAIN_SHARE = (0.35, 0.70)
_OTHER_SHARE = (0.18, 0.36)
_MAX_OVERLAP = 0.15
_QUALITY = (85, 95)


@dataclass(frozen=True, slots=True)
class Placed:
    """An object in a scene.

    class_index: place in `CLASSES`. box: left, top, right, bottom in pixels, tight. angle: degrees counter-clockwise
    in -180..180. tint: a key of `TINTS`, or None for the drawing's own colours.
    """

    class_index: int
    box: Box
    angle: float
    mirrored: bool
    tint: str | None

    @property
    def centre(self) -> tuple[float, float]:
        """The box's middle, in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def side(self) -> int:
        """The box's longer side, in pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth about a picture: its size in pixels, its background, its objects (the main one first)."""

    size: Size
    background: Background
    objects: tuple[Placed, ...]


def overlap(first: Box, second: Box) -> float:
    """The common area as a share of the smaller box's, 0..1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / min(areas)


def _image_size(rng: Random) -> Size:
    """Mixed sizes, small ones more often, and mixed aspects up to 2:1 either way."""
    low, high = _SHORT_SIDE
    short = round(low * (high / low) ** (rng.random() ** 3))
    long = min(_LONGEST_SIDE, round(short * (1 if rng.random() < 0.2 else 2 ** (rng.random() ** 1.5))))
    return (long, short) if rng.random() < 0.6 else (short, long)


def _angle(rng: Random) -> float:
    """Mostly upright, as things in photographs are."""
    chance = rng.random()
    if chance < 0.3:
        return 0.0
    limit = 15 if chance < 0.75 else 50 if chance < 0.93 else 180
    return round(rng.uniform(-limit, limit), 1)


class _Canvas:
    """A picture in the making: pastes objects and remembers where they are."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.placed: list[Placed] = []

    def add(self, class_index: int, share: float, angle: float, tint: str | None, rng: Random) -> bool:
        """Paste an object whose longer side is about `share` of the short side where there is room; False if none."""
        mirrored = rng.random() < 0.5
        cutout = drawn(class_index, share * min(self.image.size), angle, mirrored, tint)
        room = (self.image.width - cutout.width, self.image.height - cutout.height)
        if min(room) < 0:
            return False
        for _ in range(12):
            left, top = (self._coordinate(room[axis], rng) for axis in (0, 1))
            box = (left, top, left + cutout.width, top + cutout.height)
            if all(overlap(box, other.box) <= _MAX_OVERLAP for other in self.placed):
                if rng.random() < 0.4:
                    self._cast_shadow(cutout, box, rng)
                self.image.paste(cutout, box[:2], cutout)
                self.placed.append(Placed(class_index, box, angle, mirrored, tint))
                return True
        return False

    def _coordinate(self, room: int, rng: Random) -> int:
        """The first object keeps to the middle more often than the others."""
        if self.placed:
            return rng.randint(0, room)
        return round(room * (rng.random() + rng.random()) / 2)

    def _cast_shadow(self, cutout: Image.Image, box: Box, rng: Random) -> None:
        side = max(cutout.size)
        softness, distance = max(1, round(side * 0.03)), rng.uniform(0.02, 0.07) * side
        x, y = round(distance * rng.choice((-1, 1))), round(distance)
        margin = 2 * softness
        mask = Image.new("L", (cutout.width + 2 * margin, cutout.height + 2 * margin), 0)
        mask.paste(cutout.getchannel("A").point(lambda alpha: alpha * 2 // 5), (margin, margin))
        mask = mask.filter(ImageFilter.BoxBlur(softness))
        self.image.paste((30, 24, 40), (box[0] + x - margin, box[1] + y - margin), mask)


def _companions(chosen: list[int], num: int, rng: Random) -> list[int]:
    """Add classes to those chosen until there are `num` objects, none of which is held out from another."""
    while len(chosen) < num:
        if rng.random() < 0.15:
            chosen.append(rng.choice(chosen))
            continue
        candidate = rng.randrange(len(CLASSES))
        if candidate not in chosen and not any(is_held_out(candidate, other) for other in chosen):
            chosen.append(candidate)
    return chosen


def _compose(classes: list[int], rng: Random) -> tuple[Scene, Image.Image]:
    size = _image_size(rng)
    background = choose(TRAINING, rng)
    canvas = _Canvas(painted(background, size, rng))
    for i, class_index in enumerate(classes):
        share = rng.uniform(*(_OTHER_SHARE if i else _MAIN_SHARE))
        tint = rng.choice(sorted(TINTS)) if rng.random() < 0.35 else None
        canvas.add(class_index, share, _angle(rng), tint, rng)
    assert canvas.placed
    return Scene(size, background, tuple(canvas.placed)), grained(canvas.image, rng)


def training_scene(rng: Random) -> tuple[Scene, Image.Image]:
    """One to four objects on a training background; never two classes that are held out from each other."""
    num = rng.choices((1, 2, 3, 4), _NUM_OBJECTS)[0]
    return _compose(_companions([rng.randrange(len(CLASSES))], num, rng), rng)


def retrieval_scene(pair: tuple[int, int], rng: Random) -> tuple[Scene, Image.Image]:
    """Two classes that training never shows together."""
    while True:
        scene, image = _compose(rng.sample(pair, 2), rng)
        if len(scene.objects) == 2:
            return scene, image


def zeroshot_scene(class_index: int, rng: Random) -> tuple[Scene, Image.Image]:
    """One large object on a background of a family that training never shows."""
    size = _image_size(rng)
    background = choose(UNSEEN, rng)
    canvas = _Canvas(painted(background, size, rng))
    while not canvas.add(class_index, rng.uniform(0.6, 0.9), round(rng.uniform(-12, 12), 1), None, rng):
        pass
    return Scene(size, background, tuple(canvas.placed)), grained(canvas.image, rng)


def shifted_scene(class_index: int, rng: Random) -> tuple[Scene, Image.Image]:
    """One object under a shift: any size and rotation, clutter around it, half the pictures in grayscale."""
    size = _image_size(rng)
    background = choose(UNSEEN, rng)
    image = painted(background, size, rng)
    _clutter(image, rng)
    canvas = _Canvas(image)
    while not canvas.add(class_index, rng.uniform(0.25, 0.95), round(rng.uniform(-180, 180), 1), None, rng):
        pass
    image = grained(canvas.image, rng)
    if rng.random() < 0.5:
        image = image.convert("L").convert("RGB")
    return Scene(size, background, tuple(canvas.placed)), image


def _clutter(image: Image.Image, rng: Random) -> None:
    """Scatter plain shapes, which training never shows."""
    canvas = ImageDraw.Draw(image)
    short = min(image.size)
    for _ in range(rng.randint(4, 12)):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        radius = short * rng.uniform(0.03, 0.12)
        colour = rng.choice(sorted(TINTS.values()))
        kind = rng.randrange(3)
        if kind == 0:
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        elif kind == 1:
            canvas.regular_polygon((x, y, radius), rng.choice((3, 4, 5, 6)), rng.uniform(0, 360), fill=colour)
        else:
            turn = rng.uniform(0, math.pi)
            x_reach, y_reach = 2 * radius * math.cos(turn), 2 * radius * math.sin(turn)
            ends = (x - x_reach, y - y_reach, x + x_reach, y + y_reach)
            canvas.line(ends, fill=colour, width=max(1, round(short * 0.02)))


def encoded(image: Image.Image, rng: Random) -> bytes:
    """The image as a JPEG of quality 85 to 95, with 4:4:4, 4:2:2 or 4:2:0 chroma."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(*_QUALITY), subsampling=rng.choice(("4:4:4", "4:2:2", "4:2:0")))
    return buffer.getvalue()
