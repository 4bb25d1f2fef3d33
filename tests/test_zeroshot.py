"""Zero-shot on real image files with models whose answers are known: perfect, collapsed, guessing, diverged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn.functional import normalize, one_hot

from eval import zeroshot
from eval.class_folder import open_class_folder, read_batches
from eval.templates import TEMPLATES
from eval.zeroshot import bootstrap_interval, class_embeddings, prompt_tokens
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
    assert all(example.predicted == example.class_name == example.file.parent.name for example in result.examples)


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
    assert {bad.path.name for bad in result.unreadable if bad.problem} == {"cut.jpg", "text.jpg", "empty.png"}
    assert (result.num_images, result.top1) == (21, 1.0)
    assert result.to_json()["num_unreadable"] == 3


def test_the_batch_size_changes_nothing(colours: Path) -> None:
    assert zeroshot.evaluate(ColourModel(), BUDGET, colours, batch_size=1) == zeroshot.evaluate(
        ColourModel(), BUDGET, colours, batch_size=100
    )


def test_what_counts_as_a_class_and_as_a_file(tmp_path: Path) -> None:
    for place in ("polar_bear/x", "cat/y.png", ".cache/z.png", "cat/.hidden.png", "cat/inner/w.png", "beside.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"?")
    folder = open_class_folder(tmp_path)
    assert folder.class_names == ("cat", "polar bear")
    assert [file.name for file in folder.files] == ["y.png", "x"]
    assert folder.labels.tolist() == [0, 1]


def test_images_are_cropped_at_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels if name == "a" else pixels.transpose(1, 0, 2)).save(tmp_path / name / "1.png")
    (batch,) = read_batches(open_class_folder(tmp_path), 16, 8)
    assert batch.images.shape == (2, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert (batch.images == 255).all()


@pytest.mark.parametrize(
    ("place", "there", "message"),
    [
        ("nowhere", [], "nothing is there"),
        ("file", ["file"], "this is a file"),
        ("", [], "at least two class folders, found 0"),
        ("", ["cat/1.png"], "at least two class folders, found 1"),
        ("", ["cat/", "dog/"], "no image in any of them"),
        ("", ["cat/1.jpg", "dog/1.jpg"], r"none of its 2 files is a readable image; 1\.jpg: \w+"),
        ("", ["polar bear/1.png", "polar_bear/1.png"], "two folders stand for the class 'polar bear'"),
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


def test_prompts_are_cut_with_their_end_kept_and_counted() -> None:
    tokens, num_cut = prompt_tokens(["cat", "a photo of a very small cat"], 5)
    start, end = 49406, 49407
    assert tokens[0].tolist()[::2] == [start, end, 0]
    assert tokens[1, [0, -1]].tolist() == [start, end]
    assert num_cut == 1


def test_a_class_is_the_mean_of_its_prompts() -> None:
    class Letters(CollapsedModel):
        def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
            return normalize(torch.stack([tokens.sum(dim=1) % 97, (tokens != 0).sum(dim=1)], dim=1).float(), dim=-1)

    names, templates = ("cat", "polar bear"), ("{}", "a {} on a box", "the {}")
    found, _ = class_embeddings(Letters(), names, templates, 16)
    for row, name in enumerate(names):
        each = Letters().encode_text(prompt_tokens([t.replace("{}", name) for t in templates], 16)[0])
        mean = each.numpy().mean(axis=0)
        assert found[row].tolist() == pytest.approx((mean / np.linalg.norm(mean)).tolist(), abs=1e-6)


def test_the_simple_templates_hold_one_name_and_fit_twelve_tokens() -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES["simple"])
    four_tokens = "red polar bear cub"
    assert [prompt_tokens([four_tokens], length)[1] for length in (5, 6)] == [1, 0]
    assert prompt_tokens([template.format(four_tokens) for template in TEMPLATES["simple"]], 12)[1] == 0


@given(st.integers(1, 2000).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))))
def test_an_interval_holds_its_accuracy_and_is_drawn_by_its_seed(case: tuple[int, int]) -> None:
    num_hits, num = case
    low, high = bootstrap_interval(num_hits, num, num_resamples=500)
    assert 0 <= low <= num_hits / num <= high <= 1
    assert (low, high) == bootstrap_interval(num_hits, num, num_resamples=500)


def test_an_interval_agrees_with_resampled_images() -> None:
    hits = np.arange(300) < 90
    generator = np.random.default_rng(1)
    shares = [hits[generator.integers(0, 300, 300)].mean() for _ in range(4000)]
    assert bootstrap_interval(90, 300) == pytest.approx(tuple(np.quantile(shares, (0.025, 0.975))), abs=0.007)


def test_an_interval_narrows_with_more_images() -> None:
    (low, high), (lower, higher) = bootstrap_interval(10, 30), bootstrap_interval(1000, 3000)
    assert (high - low) / (higher - lower) == pytest.approx(10, rel=0.2)
