"""Zero-shot on real image files with models whose answers are known: perfect, collapsed, guessing, diverged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize, one_hot

from eval import zeroshot
from eval.class_names import ClassList
from eval.labelled import open_labelled
from eval.preprocess import Preprocess
from eval.prompts import prompt_tokens
from eval.zeroshot_pictures import draw_confusions
from pipelines.contract import TokenBudget
from prep.errors import UserError

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {
    "black": (0, 0, 0),
    "blue": (20, 30, 250),
    "green": (30, 200, 40),
    "purple": (130, 20, 160),
    "red": (250, 20, 10),
    "white": (255, 255, 255),
    "yellow": (250, 240, 10),
}
BUDGET = TokenBudget(res=24, text_tokens=12)


class ColourModel(nn.Module):
    """Knows every colour of COLOURS by sight and by name."""

    def __init__(self) -> None:
        super().__init__()
        self.palette = torch.tensor(list(COLOURS.values())).float()
        self.words = prompt_tokens(list(COLOURS), 3)[0][:, 1]

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        distance = torch.cdist(images.float().mean(dim=(2, 3)), self.palette)
        return one_hot(distance.argmin(dim=1), len(COLOURS)).float()

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return normalize((tokens[:, :, None] == self.words).any(dim=1).float() + 1e-3, dim=-1)


class CollapsedModel(nn.Module):
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 4), 0.5)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.full((len(tokens), 4), 0.5)


class GuessingModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return normalize(torch.randn(len(images), 16, generator=self.generator), dim=-1)

    encode_text = encode_image


class DivergedModel(CollapsedModel):
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 4), torch.nan)


def write_image(path: Path, colour: Colour, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Seven classes of three images each, in three formats."""
    for name, colour in COLOURS.items():
        for ending in ("jpg", "png", "webp"):
            write_image(tmp_path / "colours" / name / f"1.{ending}", colour)
    return tmp_path / "colours"


def test_a_perfect_model(colours: Path) -> None:
    result = zeroshot.evaluate(ColourModel(), BUDGET, colours)
    assert (result.top1, result.top5, result.mean_class_top1) == (1.0, 1.0, 1.0)
    assert result.top1_interval == (1.0, 1.0)
    assert (result.num_classes, result.num_images, result.unreadable) == (7, 21, ())
    assert {entry.name: (entry.num_images, entry.top1) for entry in result.per_class} == dict.fromkeys(
        COLOURS, (3, 1.0)
    )
    assert all(example.predicted == example.class_name == Path(example.file).parent.name for example in result.examples)


def test_a_collapsed_model_scores_what_guessing_scores(colours: Path) -> None:
    result = zeroshot.evaluate(CollapsedModel(), BUDGET, colours)
    assert result.top1 == pytest.approx(result.chance_top1) == pytest.approx(1 / 7)
    assert result.top5 == pytest.approx(result.chance_top5) == pytest.approx(5 / 7)


def test_a_guessing_model_scores_what_guessing_scores(colours: Path) -> None:
    for name, colour in COLOURS.items():
        for number in range(40):
            write_image(colours / name / f"more{number}.png", colour, (4, 4))
    result = zeroshot.evaluate(GuessingModel(), BUDGET, colours)
    assert abs(result.top1 - 1 / 7) < 4 * (1 / 7 * 6 / 7 / result.num_images) ** 0.5


def test_a_wrong_class_is_seen_in_its_own_row(colours: Path) -> None:
    for image in (colours / "red").iterdir():
        image.rename(colours / "blue" / f"red {image.name}")
    result = zeroshot.evaluate(ColourModel(), BUDGET, colours)
    per_class = {entry.name: (entry.num_images, entry.top1) for entry in result.per_class}
    assert per_class["blue"] == (6, 0.5)
    assert per_class["red"] == (0, None)
    assert result.top1 == pytest.approx(18 / 21)
    assert result.mean_class_top1 == pytest.approx((5 + 0.5) / 6)
    assert {e.predicted for e in result.examples if e.class_name == "blue"} == {"blue", "red"}


def test_your_own_two_classes(tmp_path: Path) -> None:
    for name in ("red", "green"):
        write_image(tmp_path / name / "a.jpg", COLOURS[name])
    result = zeroshot.evaluate(ColourModel(), BUDGET, tmp_path)
    assert (result.top1, result.chance_top1) == (1.0, 0.5)
    assert (result.top5, result.top5_interval, result.chance_top5) == (None, None, None)
    assert json.loads(json.dumps(result.to_json()))["per_class"][0] == {"name": "green", "num_images": 1, "top1": 1.0}


def test_unreadable_files_are_counted_and_named(colours: Path) -> None:
    whole = (colours / "red" / "1.jpg").read_bytes()
    (colours / "red" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (colours / "blue" / "text.jpg").write_text("this is no image")
    (colours / "blue" / "empty.png").write_bytes(b"")
    result = zeroshot.evaluate(ColourModel(), BUDGET, colours, batch_size=4)
    assert {Path(bad.path).name for bad in result.unreadable if bad.problem} == {"cut.jpg", "text.jpg", "empty.png"}
    assert (result.num_images, result.top1) == (21, 1.0)
    assert result.to_json()["num_unreadable"] == 3


def test_the_batch_size_changes_nothing(colours: Path) -> None:
    assert zeroshot.evaluate(ColourModel(), BUDGET, colours, batch_size=1) == zeroshot.evaluate(
        ColourModel(), BUDGET, colours, batch_size=100
    )


def test_whom_a_class_is_taken_for_is_counted_and_shown(colours: Path, tmp_path: Path) -> None:
    for image in (colours / "red").iterdir():
        image.rename(colours / "blue" / f"red {image.name}")
    write_image(colours / "red" / "a.png", COLOURS["blue"])
    write_image(colours / "white" / "a.png", COLOURS["black"])
    opened = open_labelled(colours)
    result = zeroshot.evaluate(ColourModel(), BUDGET, opened)
    pairs = [(pair.names, pair.num, pair.num_first, pair.num_second, pair.num_images) for pair in result.confusions]
    assert pairs == [(("blue", "red"), 4, 3, 1, (6, 1)), (("black", "white"), 1, 0, 1, (3, 4))]
    assert len(result.confused) == 5
    assert all(example.class_name != example.predicted for example in result.confused)
    assert draw_confusions(result, opened, tmp_path / "confusions.png")
    with Image.open(tmp_path / "confusions.png") as drawn:
        drawn.verify()
    assert not draw_confusions(replace(result, confusions=(), confused=()), opened, tmp_path / "none.png")


def test_a_class_list_leaves_images_out_and_adds_answers(colours: Path) -> None:
    classes = ClassList(("red", "blue", "cyan"), ("red", "blue", "cyan"))
    result = zeroshot.evaluate(ColourModel(), BUDGET, open_labelled(colours, classes))
    assert (result.num_classes, result.num_images, result.num_without_class, result.top1) == (3, 6, 15, 1.0)
    assert result.unmatched == {name: 3 for name in COLOURS if name not in ("red", "blue")}
    assert [entry.top1 for entry in result.per_class] == [1.0, 1.0, None]


def test_a_class_of_several_names_is_as_similar_as_the_best_of_them(colours: Path) -> None:
    warm, cold = ("red", "yellow"), ("cyan", "blue", "green")
    folders = ("red", "blue")
    asked = ClassList(("warm", "cold"), folders, (warm, cold))
    result = zeroshot.evaluate(ColourModel(), BUDGET, open_labelled(colours, asked))
    assert (result.num_classes, result.num_images, result.top1) == (2, 6, 1.0)
    assert [entry.name for entry in result.per_class] == ["warm", "cold"]
    swapped = open_labelled(colours, ClassList(folders, folders, (cold, warm)))
    assert zeroshot.evaluate(ColourModel(), BUDGET, swapped).top1 == 0.0


def test_what_counts_as_a_class_and_as_a_file(tmp_path: Path) -> None:
    for place in ("polar_bear/x", "cat/y.png", ".cache/z.png", "cat/.hidden.png", "cat/inner/w.png", "beside.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"?")
    folder = open_labelled(tmp_path)
    assert folder.class_names == ("cat", "polar bear")
    assert [Path(folder.named(place)).name for place in range(len(folder.labels))] == ["y.png", "x"]
    assert folder.labels.tolist() == [0, 1]


def test_images_are_cropped_at_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels if name == "a" else pixels.transpose(1, 0, 2)).save(tmp_path / name / "1.png")
    (batch,) = open_labelled(tmp_path).read(Preprocess(16), 8)
    assert batch.images.shape == (2, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert (batch.images > 200).all()
    assert (batch.images[:, :, 1:-1, 1:-1] == 255).all()


@pytest.mark.parametrize(
    ("place", "there", "message"),
    [
        ("nowhere", [], "nothing is there"),
        ("file", ["file"], "this is a file"),
        ("", [], "at least two class folders, found 0"),
        ("", ["cat/1.png"], "at least two class folders, found 1"),
        ("", ["cat/", "dog/"], "no image in any of them"),
        ("", ["cat/1.jpg", "dog/1.jpg"], r"none of its 2 files is a readable image; 1\.jpg: \w+"),
        ("", ["polar bear/1.png", "polar_bear/1.png"], "two of its labels stand for the class 'polar bear'"),
    ],
)
def test_a_mistake_in_the_folder_is_named(tmp_path: Path, place: str, there: list[str], message: str) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(UserError, match=message):
        zeroshot.evaluate(CollapsedModel(), BUDGET, tmp_path / place)


def test_unknown_templates_and_a_diverged_model_are_named(colours: Path) -> None:
    with pytest.raises(UserError, match=r"simpel.*no such list"):
        zeroshot.evaluate(CollapsedModel(), BUDGET, colours, "simpel")
    with pytest.raises(UserError, match="21 of 21 images"):
        zeroshot.evaluate(DivergedModel(), BUDGET, colours)
