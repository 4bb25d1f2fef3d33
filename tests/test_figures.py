"""The pictures: real PNGs of a plausible size whatever the text in them, and curves that say what the log says."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eval import figures
from train.log import Line


def two_stages(num: int = 20) -> list[Line]:
    """A log whose first lines, after a start, have no rates."""
    return [
        Line(
            samples_seen=128 * (i + 1),
            stage=int(i >= num // 2),
            stage_name="short" if i < num // 2 else "full",
            loss=5 - i / num,
            lr=1e-3,
            logit_scale=14.3,
            samples_per_second=None if i < 2 else 500.0,
            data_wait=None if i < 2 else 0.1,
            seconds=2.5 * (i + 1),
            flops=1e9 * (i + 1),
        )
        for i in range(num)
    ]


def assert_picture(path: Path, at_least: tuple[int, int]) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width >= at_least[0]
        assert image.height >= at_least[1]
        rgb = image.convert("RGB")
    assert (np.asarray(rgb)[0] == 255).all(), "the margin is white"
    colours = rgb.getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 20, "something is drawn"
    assert not list(path.parent.glob("*.tmp"))


def columns_of(path: Path, colour: str) -> NDArray[np.int64]:
    """The columns, in pixels, in which a colour stands."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    with Image.open(path) as image:
        return np.flatnonzero((np.asarray(image.convert("RGB")) == wanted).all(axis=-1).any(axis=0))


def has_colour(path: Path, colour: str) -> bool:
    return len(columns_of(path, colour)) > 0


def noise(seed: int) -> figures.Pixels:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)


def test_curves_show_every_stage_in_its_colour(tmp_path: Path) -> None:
    figures.curves(two_stages(), tmp_path / "curves.png")
    assert_picture(tmp_path / "curves.png", (1200, 500))
    assert has_colour(tmp_path / "curves.png", figures.STAGES[0])
    assert has_colour(tmp_path / "curves.png", figures.STAGES[1])


@pytest.mark.parametrize("num", [1, 2])
def test_curves_of_a_run_that_has_hardly_begun(tmp_path: Path, num: int) -> None:
    figures.curves(two_stages(num), tmp_path / "curves.png")
    assert_picture(tmp_path / "curves.png", (1200, 500))


def test_curves_of_a_run_that_diverged(tmp_path: Path) -> None:
    lines = two_stages()
    lines[7:] = [replace(line, loss=float("nan")) for line in lines[7:]]
    figures.curves(lines, tmp_path / "curves.png")
    assert_picture(tmp_path / "curves.png", (1200, 500))


def test_smoothing_by_hand() -> None:
    values = np.array([1.0, 2.0, 6.0, 3.0, 5.0])
    assert figures.smooth(values, 1) == pytest.approx([1.5, 3.0, 11 / 3, 14 / 3, 4.0])
    assert figures.smooth(values, 9) == pytest.approx([values.mean()] * 5)
    assert figures.smooth(np.array([]), 3).size == 0


CAPTIONS = ["an owl", r"$12 \frac{ and a $", "龙 " * 40, "x" * 300, ""]


def rows_of(rank: int) -> list[figures.RetrievalRow]:
    return [figures.RetrievalRow(text, noise(9), tuple(noise(i) for i in range(5)), rank, 200) for text in CAPTIONS]


def test_retrieved_images_have_a_frame_round_the_right_one_alone(tmp_path: Path) -> None:
    figures.retrieval(rows_of(rank=2), "five captions", tmp_path / "found.png")
    assert_picture(tmp_path / "found.png", (1200, 800))
    assert has_colour(tmp_path / "found.png", figures.RIGHT)
    figures.retrieval(rows_of(rank=77), "five captions", tmp_path / "missed.png")
    assert not has_colour(tmp_path / "missed.png", figures.RIGHT)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_frame_is_round_the_image_at_the_captions_rank(tmp_path: Path, rank: int) -> None:
    gray, blue = np.full((40, 40, 3), 128, np.uint8), np.zeros((40, 40, 3), np.uint8)
    blue[..., 2] = 255
    retrieved = tuple(blue if place == rank else gray for place in range(5))
    figures.retrieval([figures.RetrievalRow("", gray, retrieved, rank, 9)], "", tmp_path / "one.png")
    frame, picture = (columns_of(tmp_path / "one.png", colour) for colour in (figures.RIGHT, "#0000ff"))
    # The caption's note is in the frame's colour too, in the three inches at the left.
    frame = frame[frame > 450]
    assert 0 < picture.min() - frame.min() < 10
    assert 0 < frame.max() - picture.max() < 10


def test_fewer_images_than_columns(tmp_path: Path) -> None:
    row = figures.RetrievalRow("an owl", noise(0), (noise(0), noise(1)), 0, 2)
    figures.retrieval([row], "one caption of two", tmp_path / "few.png")
    assert_picture(tmp_path / "few.png", (600, 200))


def test_classified_images_are_green_when_right_and_red_when_wrong(tmp_path: Path) -> None:
    right, wrong = (
        figures.Tile(noise(0), "owl", "owl"),
        figures.Tile(noise(1), "owl", "a $ very $ long name of a class"),
    )
    figures.zeroshot([right] * 3, "all right", "", tmp_path / "right.png")
    figures.zeroshot([right, wrong] * 9, "half", "of them", tmp_path / "half.png")
    assert_picture(tmp_path / "right.png", (1200, 300))
    assert_picture(tmp_path / "half.png", (1200, 600))
    assert not has_colour(tmp_path / "right.png", figures.WRONG)
    assert has_colour(tmp_path / "half.png", figures.WRONG)


def test_drawing_leaves_a_programs_own_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figures.zeroshot([figures.Tile(noise(0), "owl", "owl")], "one", "", tmp_path / "one.png")
    assert dict(matplotlib.rcParams) == before
