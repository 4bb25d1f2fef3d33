"""The demo's captions: true of their scene, and worded as the web words its alt-texts.

A caption is a core (`prep.demo_phrases`: what is in the picture), mostly with web filler before or behind it. The
filler is long on stop words, verbs, numbers and punctuation and short on nouns: whoever keeps a caption's first tokens
often loses the objects, and whoever keeps its nouns hardly ever does.
"""

from random import Random

from prep.demo_objects import CLASSES
from prep.demo_phrases import core
from prep.demo_scenes import Scene

MIN_WORDS, MAX_WORDS = 5, 40

# Anything may follow these.
_LEADS = (
    "here is what you will get when you order with us :",
    "this is what we have for you now ,",
    "just in , and only ${price} :",
    "now only ${price} !!",
    "was ${price} , now reduced -",
    "we just added this one to our own shop :",
    "{n} of {m} -",
    "( {n} / {m} )",
    "no. {code} :",
    "please have a look at this :",
    "you can see it here :",
    "as shown above and below ,",
    "if you like this , then you will love the rest :",
    "brand new and very nicely made :",
    "all of you asked for it , so here it is :",
    "royalty free :",
    "free shipping on all orders over ${price} !",
    "click here to zoom in :",
    "my favourite so far ,",
    "what do you see ?",
    "it took me {n} days to draw this :",
    "we are so very happy to show you this :",
    "hand drawn :",
    "so cute and funny !",
    "look ,",
    "best of {year} :",
    "for sale :",
    "img_{code} :",
    "more than {m} sold already !",
    "buy {n} , get 1 free :",
    "how to draw it :",
    "this is not what i expected , but i really like it :",
    "new for {year} , and it will not be here for long :",
    "have you ever seen anything like it before ?",
    "( new ) ( {year} )",
    "wow ! you have to see this to believe it :",
)
# Only an object may follow these.
_LEADS_TO_OBJECT = (
    "high quality stock photo of",
    "stock illustration of",
    "a picture of",
    "an image of",
    "this one shows",
    "i can see",
    "we have just finished painting",
    "funny drawing of",
    "royalty free vector of",
    "this is what it looks like when you draw",
)
_TAILS = (
    ", free shipping",
    "- stock photo",
    ", stock illustration",
    "| royalty free",
    "- buy now for ${price}",
    "! only {n} left",
    ", {n} for ${price}",
    ", no. {code}",
    "( {year} )",
    ", see more like this on our page",
    ", and it is all yours for ${price}",
    "... what do you think ?",
    ", available in {n} sizes",
    ", ready to ship",
    "| all rights reserved",
    ", as seen before",
    "- download it for free",
    ", made by hand",
    ", {w} x {h} px",
    ". click to see it larger",
    "! order it now and it will be with you in {n} days",
    ". if you would like to know more about how it was made , then just ask us and we will be happy to tell you",
    "- you may use it for whatever you like as long as you say where it is from",
    ", {n} of {m} , more to come",
)
# A few captions of the web name nothing that one could learn.
_VAGUE = {"animal": "an animal", "food": "some food", "vehicle": "a vehicle", "thing": "a thing", "plant": "a plant"}
_VAGUE_SHARE = 0.015
_LEAD_SHARE, _TAIL_SHARE = 0.62, 0.45


def _filled(template: str, scene: Scene, rng: Random) -> str:
    low = rng.randint(2, 9)
    return template.format(
        price=f"{rng.randint(1, 90)}.{rng.choice(('00', '49', '50', '95', '99'))}",
        n=low,
        m=low + rng.randint(3, 90),
        code=f"{rng.randrange(10_000):04d}",
        year=rng.randint(2009, 2024),
        w=scene.size[0],
        h=scene.size[1],
    )


def _typeset(text: str, rng: Random) -> str:
    """Join punctuation as people do, and spell the beginning large half of the time."""
    for mark in (",", ":", "!", "?", "...", ")"):
        text = text.replace(f" {mark}", mark)
    text = text.replace(" . ", ". ").replace("( ", "(").replace(" / ", "/")
    # A core may end in a comma of its own.
    for mark in (",", ".", "!"):
        text = text.replace(f",{mark}", mark)
    for mark in ("-", "|", "("):
        text = text.replace(f", {mark}", f" {mark}")
    text = text.strip(" ,")
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


def _drawn(scene: Scene, rng: Random, always_named: bool) -> str:
    text, begins_with_object = core(scene, rng)
    if not always_named and rng.random() < _VAGUE_SHARE:
        text, begins_with_object = _VAGUE[CLASSES[scene.objects[0].class_index].kind], True
    leads = _LEADS + _LEADS_TO_OBJECT if begins_with_object else _LEADS
    lead = _filled(rng.choice(leads), scene, rng) if rng.random() < _LEAD_SHARE else ""
    tail = _filled(rng.choice(_TAILS), scene, rng) if rng.random() < _TAIL_SHARE else ""
    return _typeset(f"{lead} {text} {tail}", rng)


def caption(scene: Scene, rng: Random, *, always_named: bool = False) -> str:
    """A caption of 5 to 40 words for a scene.

    always_named: never one of the few that name no object (for retrieval, where it must tell pictures apart).
    """
    while True:
        text = _drawn(scene, rng, always_named)
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            return text
