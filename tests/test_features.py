"""The cache of image features: a second evaluation reads no image, and whatever changed or was damaged is noticed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from eval.features import Features, image_features, model_key
from eval.labelled import LabelledSet, open_labelled
from eval.labelled_set import Job
from eval.preprocess import Preprocess
from eval.retrieval import NotFinite
from prep.errors import UserError
from prep.store import Store
from train import checkpoint
from train.run import main as train_main

from .labelled_sets import pixels, write_folders
from .played_trainer import SHORT

HOW = Preprocess(8)


class Model(nn.Module):
    """Counts the images that it sees."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.num_seen, self.scale = 0, scale

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.num_seen += len(images)
        return normalize(images.float().flatten(1)[:, :16] * self.scale + 1, dim=-1)

    encode_text = encode_image


class Unread:
    """A source whose images must not be read."""

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        raise AssertionError("an image was read")

    def named(self, place: int) -> str:
        return str(place)


@pytest.fixture
def animals(tmp_path: Path) -> LabelledSet:
    """Twelve images, and two files that are none."""
    path = write_folders(tmp_path / "animals")
    (path / "dog" / "text.png").write_text("no image")
    (path / "dog" / "2b.png").write_bytes(b"")
    return open_labelled(path)


def same(one: Features, other: Features) -> bool:
    equal = torch.equal(one.values, other.values) and torch.equal(one.index, other.index)
    return equal and one.unreadable == other.unreadable


def cached(model: Model, animals: LabelledSet, cache: Path, how: Preprocess = HOW, key: str = "k") -> Features:
    return image_features(model, animals, how, 5, "cpu", cache, key)


def test_features_are_what_the_model_gives(animals: LabelledSet) -> None:
    found = image_features(Model(), animals, HOW, 5)
    assert found.index.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13]
    assert [Path(bad.path).name for bad in found.unreadable] == ["2b.png", "text.png"]
    wanted = Model().encode_image(torch.stack([HOW.apply(pixels(k // 4, k % 4)) for k in range(12)]))
    assert torch.equal(found.values, wanted)
    assert (found.values.dtype, found.values.norm(dim=1).allclose(torch.ones(12))) == (torch.float32, True)


def test_a_second_evaluation_reads_no_image(animals: LabelledSet, tmp_path: Path) -> None:
    first = cached(Model(), animals, tmp_path / "c")
    model = Model()
    assert same(cached(model, replace(animals, source=Unread()), tmp_path / "c"), first)
    assert model.num_seen == 0
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_whatever_decides_the_features_is_in_the_key(animals: LabelledSet, tmp_path: Path) -> None:
    cached(Model(), animals, tmp_path / "c")
    for how, key, label in (
        (Preprocess(9), "k", 0),
        (Preprocess(8, "square"), "k", 0),
        (HOW, "other weights", 0),
        (HOW, "k", 1),
    ):
        model = Model()
        if label:
            file = Path(animals.named(0))
            file.write_bytes(Path(animals.named(5)).read_bytes())
            animals = open_labelled(animals.path)
        cached(model, animals, tmp_path / "c", how, key)
        assert model.num_seen == 12, (how, key, label)


def test_without_a_folder_or_a_key_nothing_is_kept(animals: LabelledSet, tmp_path: Path) -> None:
    image_features(Model(), animals, HOW, 5, "cpu", tmp_path / "c", "")
    image_features(Model(), animals, HOW, 5, "cpu", None, "k")
    assert not (tmp_path / "c").exists()


def test_damage_is_noticed_and_mended_wherever_it_falls(
    animals: LabelledSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = cached(Model(), animals, tmp_path / "c")
    (file,) = (tmp_path / "c").iterdir()
    whole = file.read_bytes()
    for place in [*range(0, len(whole), 37), len(whole) - 1, -1]:
        data = bytearray(whole)
        if place < 0:
            data = data[: len(data) // 2]
        else:
            data[place] ^= 4
        file.write_bytes(data)
        model = Model()
        assert same(cached(model, animals, tmp_path / "c"), first), place
        assert model.num_seen in (0, 12)
        said = capsys.readouterr().err
        # Where a space of the header was hit, or a name's order, nothing of the content is lost.
        assert ("damaged" in said) == (model.num_seen == 12)
        if place > 700 or place < 0:
            assert model.num_seen == 12
    model = Model()
    assert same(cached(model, animals, tmp_path / "c"), first)
    assert model.num_seen == 0


def test_a_model_without_numbers_leaves_nothing_behind(animals: LabelledSet, tmp_path: Path) -> None:
    with pytest.raises(NotFinite):
        cached(Model(float("nan")), animals, tmp_path / "c")
    assert not list(tmp_path.glob("c/*"))


def test_a_set_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"none of its 2 files is a readable image; 1\.png: "):
        image_features(Model(), open_labelled(tmp_path), HOW)


def test_the_key_of_a_checkpoint_is_its_weights(store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_main(["demo", *SHORT, "--ema", "0.5", "--keep", "9", "--store", str(store.path), "--out", str(run)])
    seen = [str(int(path.name)) for path in checkpoint.found(run)]
    keys = [model_key(checkpoint.load_model(run, name)) for name in seen]
    assert len({*keys, model_key(checkpoint.load_model(run, seen[0]), ema=True)}) == len(seen) + 1
    assert model_key(checkpoint.load_model(run, seen[0])) == keys[0]
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace('pixels = "openai"', 'pixels = "imagenet"'))
    assert recipe != (run / "recipe.toml").read_text()
    assert model_key(checkpoint.load_model(run, seen[0])) != keys[0]
