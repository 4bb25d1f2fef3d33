"""Retrieval sets: every layout gives the same answers; what is wrong in one is named, and nothing outside is read."""

import json
from pathlib import Path

import pytest
import torch

from eval import retrieval
from eval.captioned import CaptionedSource, ModelInput, open_captioned
from pipelines.contract import TokenBudget
from prep.build import main as build_main
from prep.errors import UserError
from train.text_tokens import num_too_long, tokens_of

from .captioned_sets import (
    CAPTIONS,
    COLOURS,
    NUM,
    TEXT_TOKENS,
    ColourModel,
    entry,
    expected,
    members,
    png,
    write_karpathy,
    write_store,
    write_tars,
)
from .tar_files import tar_of

BUDGET = TokenBudget(res=16, text_tokens=TEXT_TOKENS, text_mask="truncate")
SEEN = ModelInput(BUDGET)
ALL = [caption for captions in CAPTIONS for caption in captions]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaptionedSource]:
    """The same pictures and captions in every layout."""
    folder = tmp_path_factory.mktemp("sets")
    karpathy = write_karpathy(folder / "karpathy")
    return {
        "karpathy": CaptionedSource(karpathy, karpathy.parent / "images"),
        "txt": CaptionedSource(write_tars(folder / "txt")),
        "json": CaptionedSource(write_tars(folder / "json", "json")),
        "store": CaptionedSource(write_store(folder / "built")),
    }


@pytest.mark.parametrize("layout", ["karpathy", "txt", "json", "store"])
def test_every_layout_gives_the_recalls_of_a_plain_loop(layout: str, sets: dict[str, CaptionedSource]) -> None:
    model = ColourModel()
    result = retrieval.evaluate(model, BUDGET, sets[layout], batch_size=5)
    wanted = expected(model)
    assert 0 < wanted["text_to_image"][1] < 1
    assert result.text_to_image == pytest.approx(wanted["text_to_image"])
    assert result.image_to_text == pytest.approx(wanted["image_to_text"])
    assert (result.num_images, result.num_captions, result.num_distinct_captions) == (NUM, len(ALL), len(ALL))
    assert result.captions_per_image == {1: 3, 2: 3, 3: 3, 4: 3}
    assert result.num_captions_cut == num_too_long(ALL, TEXT_TOKENS) == NUM
    assert (result.num_captions_lost, result.num_captions_empty, result.unreadable) == (0, 0, ())
    syntax = open_captioned(sets[layout]).text_mask(TokenBudget(res=16, text_tokens=TEXT_TOKENS))
    assert (result.text_mask, syntax) == ("truncate", "syntax" if layout == "store" else "truncate")
    assert result.split == ("test" if layout == "karpathy" else None)
    for way in ("text_to_image", "image_to_text"):
        for k, (low, high) in getattr(result, f"{way}_interval").items():
            assert low <= getattr(result, way)[k] <= high
    json.dumps(result.to_json())


@pytest.mark.parametrize("layout", ["karpathy", "txt", "store"])
def test_the_first_captions_alone(layout: str, sets: dict[str, CaptionedSource]) -> None:
    source = CaptionedSource(sets[layout].path, sets[layout].images, captions="first")
    model = ColourModel()
    result = retrieval.evaluate(model, BUDGET, source, batch_size=5)
    assert result.num_captions == NUM
    assert result.image_to_text == pytest.approx(expected(model, "first")["image_to_text"])
    assert result.chance == pytest.approx(result.chance_image_to_text)


@pytest.mark.parametrize("layout", ["karpathy", "txt", "json", "store"])
def test_examples_are_told_in_words_and_pictures(layout: str, sets: dict[str, CaptionedSource], tmp_path: Path) -> None:
    opened = open_captioned(sets[layout])
    assert [opened.captions(i) for i in range(NUM)] == [tuple(captions) for captions in CAPTIONS]
    order = [5, 0, 11, 5]
    for place, pixels in zip(order, opened.pixels(order), strict=True):
        assert pixels[3, 3].tolist() == list(COLOURS[place])
    result = retrieval.evaluate(ColourModel(), BUDGET, sets[layout], num_examples=4)
    for example in result.examples:
        assert 0 <= example.caption < len(CAPTIONS[example.row])
        assert (example.row == example.retrieved[0]) == (example.rank == 0)
    if layout == "txt":
        retrieval.draw(result, tmp_path / "found.png")
        assert (tmp_path / "found.png").stat().st_size > 10_000


def test_fingerprints_tell_sets_apart(sets: dict[str, CaptionedSource], tmp_path: Path) -> None:
    found = {open_captioned(source).fingerprint for source in sets.values()}
    assert len(found) == 4
    other = write_karpathy(tmp_path, [entry(i) for i in range(NUM - 1)])
    before = open_captioned(CaptionedSource(other, tmp_path / "images")).fingerprint
    assert open_captioned(CaptionedSource(other, tmp_path / "images")).fingerprint == before
    (tmp_path / "images" / "val" / "3.png").write_bytes(png((1, 2, 3), (40, 40)))
    assert open_captioned(CaptionedSource(other, tmp_path / "images")).fingerprint != before


def test_where_there_is_no_set_it_is_said(tmp_path: Path, sets: dict[str, CaptionedSource]) -> None:
    path = write_karpathy(tmp_path)
    for source, message in (
        (CaptionedSource(tmp_path / "none"), "nothing is there"),
        (CaptionedSource(tmp_path), "no manifest"),
        (CaptionedSource(path, tmp_path / "none"), "found none"),
        (CaptionedSource(path, captions="some"), "all, first"),
        (CaptionedSource(sets["txt"].path, split="test"), "no JSON file"),
        (CaptionedSource(sets["store"].path, images=tmp_path), "no JSON file"),
    ):
        with pytest.raises(UserError, match=message):
            open_captioned(source)


def test_faults_of_tars_are_counted(tmp_path: Path) -> None:
    odd = [
        *members(0, 3),
        *(("a/../../x.png", png(COLOURS[3])), ("a/../../x.txt", b"climbs")),
        *(("bare.png", png(COLOURS[4])), ("blank.png", png(COLOURS[4])), ("blank.txt", b" \n\n")),
        *(("latin.png", png(COLOURS[4])), ("latin.txt", "caf\xe9".encode("latin-1"))),
        *(("broken.png", b"\x89PNG\r\n\x1a\n"), ("broken.txt", b"one\ntwo")),
    ]
    (tmp_path / "odd.tar").write_bytes(tar_of(odd)[:-4096])
    opened = open_captioned(CaptionedSource(tmp_path / "odd.tar"))
    assert opened.num_images == 4
    assert opened.num_empty == 2
    assert [fault.problem.split(":")[0] for fault in opened.faults] == [
        *("unsafe_name", "caption_missing", "has no caption", "a caption is not UTF-8"),
    ]
    batches = list(opened.read(SEEN, 3))
    assert sum(len(batch.index) for batch in batches) == 3
    [bad] = [entry for batch in batches for entry in batch.unreadable]
    assert str(bad.path).endswith("odd.tar: broken")


def test_all_captions_of_all_sources_take_part(tmp_path: Path) -> None:
    other = [[f"another word for {i}, {n}" for n in range(i % 3)] for i in range(5)]
    whole = []
    for i in range(5):
        facts = json.dumps({"caption": CAPTIONS[i], "other": other[i]}).encode()
        whole += [(f"{i}.png", png(COLOURS[i])), (f"{i}.json", facts)]
    (tmp_path / "0.tar").write_bytes(tar_of(whole))
    options = ["--captions", "zulu=json:caption", "alpha=json:other", "--res", "16", "--tagger", "textblob"]
    build_main(["--input", str(tmp_path / "0.tar"), "--out", str(tmp_path / "store"), "--workers", "0", *options])
    # The sources in the store's order, that of their names.
    wanted = [(*other[i], *CAPTIONS[i]) for i in range(5)]
    for which in ("all", "first"):
        own = wanted if which == "all" else [captions[:1] for captions in wanted]
        opened = open_captioned(CaptionedSource(tmp_path / "store", captions=which))
        assert [opened.captions(i) for i in range(5)] == own
        assert opened.num_captions == sum(map(len, own))
        batches = list(opened.read(SEEN, 2))
        flat = tokens_of([caption for captions in own for caption in captions], TEXT_TOKENS)
        assert torch.equal(torch.cat([batch.tokens for batch in batches]), flat)
        owners = [int(batch.index[owner]) for batch in batches for owner in batch.owners]
        assert owners == [i for i, captions in enumerate(own) for _ in captions]
