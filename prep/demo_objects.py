"""The demo's 100 classes: what can stand in a scene, and how English speaks of it.

A class is one emoji. Its name is the `emoji` package's (underscores become spaces) unless `_NAMES` has a plainer one;
its drawing is OpenMoji's (`prep.demo_sprites`). The order of `CLASSES` never changes: a scene names a class by its
place in it, and `is_held_out` tells from two places whether training may show the two together.
"""

from dataclasses import dataclass
from itertools import combinations

# The emoji's name, then after a slash the colour that a person would name, where there is one.
_ANIMALS = """cat/orange horse/brown cow pig/pink rabbit elephant/gray giraffe/orange zebra tiger/orange fox/orange
panda octopus/red shark/gray tropical_fish crab/red turtle/green frog/green snake/green penguin owl/brown parrot/red
flamingo/pink peacock duck rooster/brown bat/black butterfly/blue honeybee/yellow spider/gray snail/brown camel/orange
gorilla/gray unicorn/white hedgehog/brown spouting_whale/blue"""
_FOOD = """red_apple/red banana/yellow pear/green lemon/yellow cherries/red strawberry/red pineapple watermelon/red
grapes/purple coconut/brown avocado/green carrot/orange broccoli/green mushroom/red eggplant/purple croissant/orange
pretzel/orange hamburger pizza hot_dog taco/yellow doughnut/orange cookie/brown cupcake/pink popcorn lollipop/red"""
_VEHICLES = """taxi/yellow ambulance/white fire_engine/red tractor/green bicycle/red locomotive/black airplane/gray
helicopter/red rocket sailboat"""
_THINGS = """guitar/red drum/red accordion camera/gray telephone/red light_bulb/yellow key/orange scissors/red
umbrella/purple balloon/red trophy/yellow crown/yellow sunglasses/black anchor/gray chair/yellow teddy_bear/brown
soccer_ball ladder/brown broom magnet/red bell/yellow robot/gray castle/gray snowman/white"""
_PLANTS = """cactus/green palm_tree/green sunflower/yellow rose/red Christmas_tree/green"""

_NAMES = {"red_apple": "apple", "spouting_whale": "whale", "Christmas_tree": "christmas tree"}
_PLURALS = {
    "fox": "foxes",
    "octopus": "octopuses",
    "tropical fish": "tropical fish",
    "butterfly": "butterflies",
    "cherries": "bunches of cherries",
    "strawberry": "strawberries",
    "grapes": "bunches of grapes",
    "broccoli": "heads of broccoli",
    "popcorn": "boxes of popcorn",
    "scissors": "pairs of scissors",
    "sunglasses": "pairs of sunglasses",
    "trophy": "trophies",
    "cactus": "cacti",
}
# Said in place of the name now and then, as people do.
_SYNONYMS = {
    "cat": "kitty",
    "rabbit": "bunny",
    "pig": "piglet",
    "honeybee": "bee",
    "hamburger": "burger",
    "doughnut": "donut",
    "taxi": "cab",
    "fire engine": "fire truck",
    "locomotive": "steam train",
    "airplane": "plane",
    "bicycle": "bike",
    "telephone": "phone",
    "soccer ball": "football",
    "helicopter": "chopper",
    "rooster": "cockerel",
    "eggplant": "aubergine",
}
# Named in pairs or in the mass: "scissors", not "a scissors".
_NO_ARTICLE = frozenset({"cherries", "grapes", "scissors", "sunglasses", "popcorn", "broccoli"})


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """One class of the demo.

    name: as the zero-shot folders and nearly all captions say it. emoji_name: the `emoji` package's English name.
    kind: "animal", "food", "vehicle", "thing" or "plant". colour: of the drawing, None when it has several.
    synonym: another word for it, or None. takes_article: False for "scissors" and the like.
    """

    name: str
    emoji_name: str
    kind: str
    plural: str
    colour: str | None
    synonym: str | None
    takes_article: bool


def _classes(kind: str, table: str) -> list[ObjectClass]:
    found = []
    for entry in table.split():
        emoji_name, _, colour = entry.partition("/")
        name = _NAMES.get(emoji_name, emoji_name.replace("_", " "))
        plural = _PLURALS.get(name, name + "s")
        synonym = _SYNONYMS.get(name)
        found.append(ObjectClass(name, emoji_name, kind, plural, colour or None, synonym, name not in _NO_ARTICLE))
    return found


CLASSES: tuple[ObjectClass, ...] = (
    *_classes("animal", _ANIMALS),
    *_classes("food", _FOOD),
    *_classes("vehicle", _VEHICLES),
    *_classes("thing", _THINGS),
    *_classes("plant", _PLANTS),
)


def is_held_out(first: int, second: int) -> bool:
    """Whether two classes (places in `CLASSES`) are never shown together in training.

    A tenth of all pairs of different classes, spread so that every class is kept from 9 or 10 others.
    """
    return first != second and (first + second) % 10 == 0


def held_out_pairs() -> list[tuple[int, int]]:
    """All pairs of classes that training never shows together, in a fixed order."""
    return [pair for pair in combinations(range(len(CLASSES)), 2) if is_held_out(*pair)]
