"""What a scene looks like, in words: objects, sizes, colours, places, relations, background.

Everything said is read off the `Scene`; `size_word`, `place` and `relation` say nothing where nothing is certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from prep.demo_backgrounds import Background
from prep.demo_objects import CLASSES
from prep.demo_patterns import Size
from prep.demo_scenes import Box, Placed, Scene

_BIG, _SMALL = ("big", "large", "huge"), ("small", "tiny", "little")
# Shares of the picture's short side.
_BIG_FROM, _SMALL_TO = 0.55, 0.27
_MUCH_BIGGER = 1.4

_VERBS = {
    "animal": ("sitting", "standing", "waiting", "resting", "looking around"),
    "food": ("lying", "served", "placed", "waiting"),
    "vehicle": ("parked", "standing", "waiting", "stopped"),
    "thing": ("lying", "placed", "standing", "resting"),
    "plant": ("growing", "standing", "placed"),
}
_COUNTS = {2: "two", 3: "three", 4: "four"}
# Kinds that are drawn upright, so that one sees when they are turned.
_UPRIGHT = ("animal", "vehicle", "plant")


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' and not words.startswith('uni') else 'a'} {words}"


def size_word(placed: Placed, size: Size, rng: Random) -> str | None:
    """A word for a large or a small object, seen against the picture's short side; None for what is in between."""
    share = placed.side / min(size)
    return rng.choice(_BIG) if share >= _BIG_FROM else rng.choice(_SMALL) if share <= _SMALL_TO else None


def colour_word(placed: Placed) -> str | None:
    """The tint, or else the drawing's own colour when it has one."""
    return placed.tint or CLASSES[placed.class_index].colour


def state_word(placed: Placed) -> str | None:
    """How an object is turned, where one sees it."""
    if CLASSES[placed.class_index].kind not in _UPRIGHT:
        return None
    turned = abs(placed.angle)
    return "upside down" if turned > 150 else "tilted" if 20 < turned < 60 else None


def place(placed: Placed, size: Size) -> str | None:
    """Where in the picture an object's middle is; None near the borders between two places."""
    words = []
    for coordinate, side, low, high in zip(placed.centre, size, ("left", "top"), ("right", "bottom"), strict=True):
        at = coordinate / side
        words.append(low if at < 0.36 else high if at > 0.64 else "middle" if 0.42 < at < 0.58 else "")
    across, down = words
    if "" in words:
        return None
    if across == down:
        return "in the middle"
    if across == "middle":
        return f"at the {down}"
    if down == "middle":
        return f"on the {across}"
    return f"in the {down} {across} corner"


def relation(first: Box, second: Box) -> str | None:
    """How the first box lies to the second: left, right, above or below, whichever parts them most; None if none does.

    Boxes that share up to a fifth of the smallest side still count as parted.
    """
    gaps = {
        "to the left of": second[0] - first[2],
        "to the right of": first[0] - second[2],
        "above": second[1] - first[3],
        "below": first[1] - second[3],
    }
    words, gap = max(gaps.items(), key=lambda item: item[1])
    smallest = min(first[2] - first[0], first[3] - first[1], second[2] - second[0], second[3] - second[1])
    return words if gap > -0.2 * smallest else None


@dataclass(frozen=True, slots=True)
class _Mention:
    """What a caption says about one object, or about `num` of one class (then `placed` is one of them)."""

    words: str
    placed: Placed
    num: int

    @property
    def are(self) -> str:
        known = CLASSES[self.placed.class_index]
        return "are" if self.num > 1 or (not known.takes_article and known.name.endswith("s")) else "is"

    def verb(self, rng: Random) -> str:
        """A participle that suits the kind of object, with "is" before it now and then."""
        verb = rng.choice(_VERBS[CLASSES[self.placed.class_index].kind])
        return f"{self.are} {verb}" if rng.random() < 0.3 else verb


def _mention(group: Sequence[Placed], size: Size, rng: Random) -> _Mention:
    first = group[0]
    known = CLASSES[first.class_index]
    if len(group) > 1:
        told = len({placed.tint for placed in group}) == 1 and " of " not in known.plural
        colour = colour_word(first) if told and rng.random() < 0.6 else None
        parts = [_COUNTS[len(group)], colour, known.plural]
        return _Mention(" ".join(part for part in parts if part), first, len(group))
    # A tint is worth telling; that a lemon is yellow goes without saying more often.
    parts = [
        size_word(first, size, rng) if rng.random() < 0.5 else None,
        state_word(first) if rng.random() < 0.5 else None,
        colour_word(first) if rng.random() < (0.8 if first.tint else 0.3) else None,
        known.synonym if known.synonym and rng.random() < 0.04 else known.name,
    ]
    words = " ".join(part for part in parts if part)
    if not known.takes_article:
        return _Mention(f"some {words}" if rng.random() < 0.5 else words, first, 1)
    return _Mention(f"the {words}" if rng.random() < 0.15 else _with_article(words), first, 1)


def _mentions(scene: Scene, rng: Random) -> list[_Mention]:
    """The objects in the order of speaking; of many, the last is left out now and then."""
    groups: dict[int, list[Placed]] = {}
    for placed in scene.objects:
        groups.setdefault(placed.class_index, []).append(placed)
    mentions = [_mention(group, scene.size, rng) for group in groups.values()]
    if len(mentions) > 2 and rng.random() < 0.3:
        mentions.pop()
    if rng.random() < 0.4:
        rng.shuffle(mentions)
    return mentions


def _background(background: Background, rng: Random) -> str:
    first, second = background.colours
    if background.family == "plain":
        forms = (f"plain {first} background", f"{first} background")
        return rng.choice((f"on {_with_article(rng.choice(forms))}", f"against {_with_article(first)} wall"))
    if background.family == "two-tone":
        return f"on {_with_article(second)} floor in front of {_with_article(first)} wall"
    colours = "" if rng.random() < 0.4 else f"{first} and {second} "
    return f"on {_with_article(f'{background.family} {colours}background')}"


def _one(mention: _Mention, scene: Scene, rng: Random) -> str:
    verb = mention.verb(rng)
    where = place(mention.placed, scene.size) if mention.num == 1 else None
    behind = _background(scene.background, rng)
    forms = [
        f"{mention.words} {verb} {behind}",
        f"{mention.words} {behind}",
        f"{behind} you can see {mention.words}",
        f"{behind} , {mention.words}",
        mention.words,
    ]
    if where:
        forms += [
            f"{mention.words} {verb} {where} , {behind}",
            f"{where} , {behind} , {mention.words}",
            f"{mention.words} {where}",
        ]
    return rng.choice(forms)


def _two(first: _Mention, second: _Mention, rng: Random) -> str:
    forms = [f"{first.words} and {second.words}", f"{first.words} with {second.words}"]
    if first.num > 1 or second.num > 1:
        return rng.choice(forms)
    how = relation(first.placed.box, second.placed.box)
    if how:
        forms += [
            f"{first.words} {how} {second.words}",
            f"{first.words} {first.verb(rng)} {how} {second.words}",
            f"{first.words} can be seen {how} {second.words}",
            f"{how} {second.words} there {first.are} {first.words}",
        ]
    if first.placed.side > _MUCH_BIGGER * second.placed.side:
        forms.append(f"{first.words} , much bigger than {second.words} ,")
    return rng.choice(forms)


def core(scene: Scene, rng: Random) -> tuple[str, bool]:
    """Words for a scene's objects and, mostly, its background; and whether they begin with an object.

    Tokens of punctuation stand alone, with spaces around them.
    """
    mentions = _mentions(scene, rng)
    if len(mentions) == 1:
        text = _one(mentions[0], scene, rng)
        return text, text.startswith(mentions[0].words)
    text = _two(mentions[0], mentions[1], rng)
    begins_with_object = text.startswith(mentions[0].words)
    for mention in mentions[2:]:
        where = place(mention.placed, scene.size) if mention.num == 1 and rng.random() < 0.5 else None
        text += f" , and {mention.words}" + (f" {where}" if where else "")
    if rng.random() < 0.45:
        behind = _background(scene.background, rng)
        if rng.random() < 0.4:
            return f"{behind} , {text}", False
        text = f"{text} {behind}"
    return text, begins_with_object
