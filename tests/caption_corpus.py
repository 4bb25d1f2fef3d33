"""Texts to hold two implementations against each other: captions of the demo, and texts with odd fragments in them."""

import random
from collections.abc import Callable, Sequence
from functools import cache

from prep import demo_patterns
from prep.demo_backgrounds import COLOURS, Background
from prep.demo_captions import caption
from prep.demo_objects import CLASSES
from prep.demo_scenes import Placed, Scene
from prep.demo_sprites import TINTS
from prep.tokenizer import load_tokenizer

ODD = [
    *(
        "&amp;",
        "&lt;b&gt;",
        "it's",
        "DON'T",
        "we'll",
        "'S",
        "'ſ",
        "rock'n'roll",
        "Ünïcödé",
        "e\u0301\u0316",
        "\u0130stanbul",
    ),
    *(
        "ΟΔΟΣ",
        "ß",
        "漢字かな",
        "서울",
        "Привет",
        "مرحبا",
        "हिन्दी",
        "😀",
        "👩‍👩‍👧",
        "❤️",
        "🇨🇭",
        "№5",
        "Ⅷ",
        "½",
        "²",
        "٣",
        "一二三",
    ),
    *(
        "3.14",
        "1234567890",
        "2,000",
        "$9.99",
        "@user",
        "#tag",
        "http://a.b/c?d=e&f=g",
        "...",
        "!!!",
        "--",
        "—",
        "«»",
        "“q”",
    ),
    *(
        "<start_of_text>",
        "<END_OF_TEXT>",
        "x<end_of_text>y",
        "<|endoftext|>",
        "<|startoftext|>",
        "<ſtart_of_text>",
        "</w>",
    ),
    *(
        "\x00",
        "\x1b[0m",
        "\x1c",
        "\x85",
        "\xa0",
        "\u200b",
        "\u180e",
        "\u2028",
        "\ufeff",
        "\ufffd",
        "Ã©",
        "ﬁ",
        "ＡＢ",
        "Ġ",
        "Ċ",
    ),
]

SENTENCES = [
    *('He said "don\'t!" and left.', "It's the dog's (red) ball; isn't it?", "''quoted'' `text` -- and more...", "a"),
    *("Mr. Smith went to the U.S. in 1999. He can't swim, cannot fly.", "gonna wanna 'tis lemme", "$3.50 & 50% off!"),
    *(
        "Rock 'n' roll",
        "#1 @home http://example.com/a?b=c",
        "an e-mail, a T-shirt: both blue/green",
        "x" * 90,
        "!!!",
        ".",
    ),
    *(
        "naïve café crème brûlée",
        "東京タワーの夜景",
        "Привет, мир!",
        "😀 happy dogs 😀",
        "ﬁne ½ price №5",
        "a < b > c [d] {e}",
    ),
]
"""What NLTK rewrites, and what is no word."""


def demo_captions(num: int, seed: int = 0) -> list[str]:
    """Captions as the demo words them, of scenes drawn without their pictures."""
    rng = random.Random(seed)
    colours, families = sorted(COLOURS), sorted(demo_patterns.TRAINING)
    tints = [None, None, *sorted(TINTS)]
    captions = []
    for _ in range(num):
        objects = []
        for _ in range(rng.choice([1, 1, 2, 3])):
            left, top = rng.randrange(100), rng.randrange(100)
            box = (left, top, left + rng.randint(20, 90), top + rng.randint(20, 90))
            objects.append(Placed(rng.randrange(len(CLASSES)), box, rng.uniform(-180, 180), False, rng.choice(tints)))
        first, second = rng.sample(colours, 2)
        scene = Scene((200, 200), Background(rng.choice(families), (first, second)), tuple(objects))
        captions.append(caption(scene, rng))
    return captions


def long_captions(num: int, seed: int = 0) -> list[str]:
    """Several sentences each, some of them odd, some more than the context holds."""
    rng = random.Random(seed)
    known = [*demo_captions(200, seed), *SENTENCES]
    return [" ".join(rng.choices(known, k=rng.randint(1, 7))) for _ in range(num)]


def corpus(num: int) -> list[str]:
    """Texts of CLIP's own vocabulary, capitals and punctuation and odd fragments strewn in."""
    rng = random.Random(0)
    words = _entries()
    dress: list[Callable[[str], str]] = [
        str,
        str,
        str,
        str.upper,
        str.title,
        lambda w: f"{w},",
        lambda w: f"({w})",
        lambda w: f"{w}'s",
        lambda w: w + w,
    ]
    texts = []
    for _ in range(num):
        parts = [rng.choice(dress)(rng.choice(words)) for _ in range(rng.choice([0, 1, 4, 8, 8, 12]))]
        parts += rng.sample(ODD, rng.choice([0, 0, 1, 3]))
        rng.shuffle(parts)
        texts.append(rng.choice([" ", " ", "  ", "\n", ""]).join(parts * rng.choice([1] * 20 + [10])))
    return texts


@cache
def _entries() -> Sequence[str]:
    return [spelled.decode(errors="replace") for spelled in load_tokenizer().spelled()]
