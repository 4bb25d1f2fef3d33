"""The demo's captions: of the promised length, well formed, and true of any scene."""

import re
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from prep import demo_patterns
from prep.demo_backgrounds import COLOURS, Background
from prep.demo_captions import MAX_WORDS, MIN_WORDS, caption
from prep.demo_objects import CLASSES
from prep.demo_phrases import place, relation
from prep.demo_scenes import Box, Placed, Scene
from prep.demo_sprites import TINTS

RELATIONS = ("to the left of", "to the right of", "above", "below")
INDEX = {known.name: i for i, known in enumerate(CLASSES)}


@st.composite
def boxes(draw: st.DrawFn, size: tuple[int, int]) -> Box:
    width, height = (draw(st.integers(20, side // 2)) for side in size)
    left, top = draw(st.integers(0, size[0] - width)), draw(st.integers(0, size[1] - height))
    return left, top, left + width, top + height


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    size = (draw(st.integers(160, 640)), draw(st.integers(160, 640)))
    families = st.sampled_from(sorted(demo_patterns.TRAINING))
    colours = draw(st.lists(st.sampled_from(sorted(COLOURS)), min_size=2, max_size=2, unique=True))
    objects = draw(
        st.lists(
            st.builds(
                Placed,
                st.integers(0, 99),
                boxes(size),
                st.floats(-180, 180),
                st.booleans(),
                st.none() | st.sampled_from(sorted(TINTS)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return Scene(size, Background(draw(families), (colours[0], colours[1])), tuple(objects))


@settings(max_examples=100, deadline=None)
@given(scenes(), st.integers(0, 2**32))
def test_captions_are_english_and_of_5_to_40_words(scene: Scene, seed: int) -> None:
    text = caption(scene, Random(seed))
    assert MIN_WORDS <= len(text.split()) <= MAX_WORDS
    assert re.fullmatch(r"[ -~]+", text)
    assert not re.search(r"[{}]|  | [,:!?]|,[.,!]|\ba [aeio]|\ban [^aeiou]", text.lower()), text


@settings(max_examples=100, deadline=None)
@given(scenes(), st.integers(0, 2**32))
def test_sizes_tints_and_relations_in_captions_are_true(scene: Scene, seed: int) -> None:
    by_name = {CLASSES[placed.class_index].name: placed for placed in scene.objects}
    if len(by_name) < len(scene.objects):
        return
    text = caption(scene, Random(seed)).lower()
    for known in (CLASSES[placed.class_index] for placed in scene.objects):
        if known.synonym:
            text = re.sub(rf"\b{known.synonym}\b", known.name, text)
    object_words = rf"(?:the|an?|some)?\s*((?:[a-z]+ )*?)({'|'.join(by_name)})\b"
    for before, name in re.findall(object_words, text):
        placed, words = by_name[name], set(before.split())
        share = placed.side / min(scene.size)
        if words & {"big", "large", "huge"}:
            assert share >= 0.55, text
        if words & {"small", "tiny", "little"}:
            assert share <= 0.27, text
    for tint in TINTS:
        for name in re.findall(rf"\b{tint} ({'|'.join(by_name)})\b", text):
            assert (by_name[name].tint or CLASSES[INDEX[name]].colour) == tint, text
    verbs = r"(?: (?:is|are))?(?: [a-z]+ing(?: around)?| parked| stopped| served| placed| can be seen)?"
    for first, how, _, second in re.findall(
        rf"({'|'.join(by_name)}){verbs} ({'|'.join(RELATIONS)}) ((?:[a-z]+ )*?)({'|'.join(by_name)})\b", text
    ):
        (x, y), (u, v) = by_name[first].centre, by_name[second].centre
        assert dict(zip(RELATIONS, (x < u, x > u, y < v, y > v), strict=True))[how], text


@given(boxes((300, 300)), boxes((300, 300)))
def test_a_relation_turned_round_is_its_opposite(first: Box, second: Box) -> None:
    opposite = {"to the left of": "to the right of", "above": "below", None: None}
    opposite |= {there: back for back, there in opposite.items()}
    assert relation(second, first) == opposite[relation(first, second)]


@given(boxes((300, 200)))
def test_a_place_is_where_the_middle_of_the_object_is(box: Box) -> None:
    placed = Placed(0, box, 0.0, False, None)
    (x, y), said = placed.centre, place(placed, (300, 200)) or ""
    wrong = {"left": x > 150, "right": x < 150, "top": y > 100, "bottom": y < 100}
    assert not any(wrong[word] for word in wrong if word in said)
    if said == "in the middle":
        assert abs(x - 150) < 30
        assert abs(y - 100) < 20
