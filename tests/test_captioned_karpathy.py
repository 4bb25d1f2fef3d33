"""Karpathy's JSON, hostile or merely wrong: what is wrong in it is named, and nothing outside of its folder is read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eval import retrieval
from eval.captioned import CaptionedSource, ModelInput, open_captioned
from pipelines.contract import TokenBudget
from prep.errors import UserError
from train.text_tokens import tokens_of

from .captioned_sets import CAPTIONS, COLOURS, NUM, TEXT_TOKENS, ColourModel, entry, expected, png, write_karpathy

BUDGET = TokenBudget(res=16, text_tokens=TEXT_TOKENS, text_mask="truncate")
SEEN = ModelInput(BUDGET)


def hostile(folder: Path) -> list[dict[str, object]]:
    """Ten entries that are no images of the set, with one caption each but where that is the fault."""
    (folder / "secret.png").write_bytes(png(COLOURS[0]))
    one: dict[str, Any] = {"sentences": [{"raw": "a"}]}
    return [
        entry(0, filename="../../secret.png", **one),
        entry(0, filepath="..", filename="secret.png", **one),
        entry(0, filename=str(folder / "secret.png"), **one),
        entry(0, filename="link.png", **one),
        entry(0, filename="nowhere.png", **one),
        entry(0, filename="nul\0.png", **one),
        entry(0, filename="x" * 3000, **one),
        entry(0, filename=["0.png"], **one),
        entry(0, filename=".", **one),
        entry(0, sentences=[{"raw": " \t\n"}, {"raw": 7}, "x"]),
    ]


def test_names_that_lead_out_and_missing_images_are_counted_and_nothing_outside_is_read(tmp_path: Path) -> None:
    bad = hostile(tmp_path)
    path = write_karpathy(tmp_path / "set", [*bad, *(entry(i) for i in range(NUM)), entry(12)])
    images = tmp_path / "set" / "images"
    (images / "secret.png").write_bytes(b"")
    bad[1]["filepath"] = "../.."
    (images / "val" / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "val" / "12.png").write_bytes(b"\xff\xd8\xff no image")
    path.write_text(json.dumps({"images": [*bad, *(entry(i) for i in range(NUM + 1))]}))
    opened = open_captioned(CaptionedSource(path, images))
    problems = [fault.problem for fault in opened.faults]
    assert len(problems) == 10
    assert [problem.split(" /")[0] for problem in problems[:5]] == ["leads out of"] * 4 + ["is not there"]
    assert problems[7] == "has no file name"
    assert problems[9] == "has no caption"
    assert opened.num_empty == 3
    result = retrieval.evaluate(ColourModel(), BUDGET, CaptionedSource(path, images), batch_size=4)
    assert result.num_images == NUM
    assert len(result.unreadable) == 11
    assert str(result.unreadable[-1].path).endswith("12.png")
    assert result.num_captions_lost == 9 + len(CAPTIONS[0])
    assert result.text_to_image == pytest.approx(expected(ColourModel())["text_to_image"])


def test_captions_go_with_an_image_in_the_middle_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_karpathy(tmp_path)
    (tmp_path / "images" / "val" / "3.png").write_bytes(png(COLOURS[3])[:60])
    batches = list(open_captioned(CaptionedSource(path, tmp_path / "images")).read(SEEN, 5))
    assert torch.cat([batch.index for batch in batches]).tolist() == [i for i in range(NUM) if i != 3]
    captions = [CAPTIONS[int(batch.index[owner])] for batch in batches for owner in batch.owners]
    assert torch.equal(
        torch.cat([batch.tokens for batch in batches]),
        tokens_of([caption for i, own in enumerate(CAPTIONS) if i != 3 for caption in own], TEXT_TOKENS),
    )
    assert captions == [own for i, own in enumerate(CAPTIONS) if i != 3 for _ in own]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "wanted a JSON file"), ("[" * 100_000, "wanted a JSON file"), ("[]", "a list of objects"),
        ('{"images": {}}', "a list of objects"), ('{"images": [1]}', "a list of objects"),
        ('{"images": [{"filename": "0.png"}]}', "key sentences"), ('{"images": []}', "key sentences"),
        (json.dumps({"images": [entry(0, "train"), *[entry(1, "val")] * 2]}), r"train \(1 images\), val \(2 images\)"),
        (json.dumps({"images": [entry(0, sentences=[])]}), "no image with a caption; the first of 1 faults"),
        (json.dumps({"images": [entry(0, filename="no.png")]}), r"val/no\.png: is not there"),
    ],
)  # fmt: skip
def test_a_json_of_another_shape_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write_karpathy(tmp_path)
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        open_captioned(CaptionedSource(path, tmp_path / "images"))


def test_a_text_of_surrogates_or_without_end_costs_little(tmp_path: Path) -> None:
    hard = [{"raw": "cat \ud800"}, {"raw": "e" + "\u0301" * 300_000}, {"raw": "word " * 200_000}]
    path = write_karpathy(tmp_path, [entry(0, sentences=hard)])
    opened = open_captioned(CaptionedSource(path, tmp_path / "images"))
    [batch] = opened.read(SEEN, 4)
    assert batch.tokens.shape == (3, TEXT_TOKENS)
    assert batch.num_cut == 2


def test_a_set_of_which_nothing_can_be_read_is_named(tmp_path: Path) -> None:
    path = write_karpathy(tmp_path)
    for file in (tmp_path / "images" / "val").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="none of its 12 images can be read"):
        retrieval.evaluate(ColourModel(), BUDGET, CaptionedSource(path, tmp_path / "images"))
