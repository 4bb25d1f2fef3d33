"""Labelled sets of every kind: the same pictures and labels out of each, and no mistake or damage in silence."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.class_names import ClassList
from eval.labelled import open_labelled
from eval.preprocess import Preprocess
from pipelines.contract import TokenBudget
from pipelines.evaluation import batches
from prep.errors import UserError

from .conftest import once
from .labelled_sets import (
    NAMES,
    PER_CLASS,
    all_pictures,
    pixels,
    png,
    read_all,
    write_folders,
    write_store,
    write_tables,
    write_tars,
)

KINDS: dict[str, Callable[[Path], Path]] = {
    "folder": write_folders,
    "cls": write_tars,
    "txt": lambda out: write_tars(out, "txt"),
    "parquet": write_tables,
    "arrow": lambda out: write_tables(out, "arrow"),
}
NUM = len(NAMES) * PER_CLASS


@pytest.fixture(scope="module")
def labelled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "labelled_store", lambda out: str(write_store(out)))[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [Preprocess(24), Preprocess(24, "square")])
def test_every_kind_gives_the_same(kind: str, how: Preprocess, tmp_path: Path) -> None:
    opened = open_labelled(KINDS[kind](tmp_path / "set"))
    assert opened.class_names == NAMES
    assert opened.labels.tolist() == [label for label, _ in all_pictures()]
    assert (opened.faults, opened.unmatched, opened.num_judged) == ((), {}, NUM)
    images, index, bad = read_all(opened, how)
    assert (index, bad) == (list(range(NUM)), [])
    assert torch.equal(images, torch.stack([how.apply(pixels(*picture)) for picture in all_pictures()]))
    for place in (0, 7, NUM - 1):
        assert np.array_equal(opened.pixels(place), pixels(*all_pictures()[place]))
    assert len({str(opened.named(place)) for place in range(NUM)}) == NUM


def test_a_store_gives_what_its_captions_say(labelled_store: Path) -> None:
    opened = open_labelled(labelled_store)
    assert opened.class_names == NAMES
    assert opened.labels.tolist() == [label for label, _ in all_pictures()]
    budget = TokenBudget(res=32, text_tokens=8)
    wanted = torch.cat([batch.images for batch in batches(labelled_store, budget, 64)]).int()
    images = read_all(opened, Preprocess(32))[0].int()
    # The loader cuts the box first and then resizes, in one step: half a pixel's difference at most.
    assert float((images - wanted).abs().double().mean()) < 6
    assert read_all(opened, Preprocess(20))[0].shape == (NUM, 3, 20, 20)
    assert opened.pixels(3).shape[0] >= 32
    with pytest.raises(UserError, match=r"at least 48 px, but the store holds 16, 32\n.*--res 48"):
        read_all(opened, Preprocess(48))


def test_a_smaller_image_comes_from_the_next_larger_copy(labelled_store: Path) -> None:
    opened = open_labelled(labelled_store)
    large = torch.stack([Preprocess(20).apply(opened.pixels(place)) for place in range(NUM)])
    assert torch.equal(read_all(opened, Preprocess(20))[0], large)
    assert not torch.equal(read_all(opened, Preprocess(16))[0], large[:, :, :16, :16])


def test_a_class_list_says_what_there_is(tmp_path: Path, labelled_store: Path) -> None:
    """Keys before names, spelled freely; other labels are counted, not read."""
    classes = ClassList(("hound", "ice bear", "cow"), ("DOG", "polar_bear", "n01"))
    paths = [write_folders(tmp_path / "f"), write_tars(tmp_path / "t", "txt"), write_tables(tmp_path / "h")]
    for path in (*paths, labelled_store):
        opened = open_labelled(path, classes)
        assert opened.class_names == classes.names
        assert opened.labels.tolist() == [(-1, 0, 1)[label] for label, _ in all_pictures()]
        assert sum(opened.unmatched.values()) == PER_CLASS
        assert [label.replace("_", " ") for label in opened.unmatched] == ["black cat"]
        assert read_all(opened, Preprocess(8))[1] == list(range(PER_CLASS, NUM))


def test_numbers_are_places_in_a_class_list(tmp_path: Path) -> None:
    path = write_tars(tmp_path / "t")
    (path / "classnames.txt").unlink()
    opened = open_labelled(path, ClassList(("a", "b"), ("a", "b")))
    assert opened.unmatched == {"class 2": PER_CLASS}
    assert opened.labels.tolist() == [(0, 1, -1)[label] for label, _ in all_pictures()]
    # The set's own names fit nothing, but there are as many of them.
    for written in (write_tables(tmp_path / "h"), write_tars(tmp_path / "n")):
        opened = open_labelled(written, ClassList(tuple("xyz"), tuple("xyz")))
        assert opened.labels.tolist() == [label for label, _ in all_pictures()]


def test_a_name_of_two_classes_says_neither(tmp_path: Path) -> None:
    classes = ClassList(("crane", "crane", "dog"), ("n1", "n2", "n3"))
    for folder in ("crane", "dog", "n2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(png(0, 0))
    opened = open_labelled(tmp_path, classes)
    assert (opened.labels.tolist(), opened.unmatched) == ([-1, 2, 1], {"crane": 1})


def test_what_datasets_itself_saves(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    rows = [{"image": {"bytes": png(*p), "path": None}, "label": p[0]} for p in all_pictures()]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    opened = open_labelled(tmp_path / "saved")
    assert (opened.class_names, opened.labels.tolist()) == (NAMES, [label for label, _ in all_pictures()])
    assert np.array_equal(opened.pixels(5), pixels(*all_pictures()[5]))


@pytest.mark.parametrize("kind", [*KINDS, "store"])
def test_the_fingerprint_knows_images_labels_and_names(kind: str, tmp_path: Path) -> None:
    path = (KINDS | {"store": write_store})[kind](tmp_path / "set")
    first = open_labelled(path)
    assert open_labelled(path).fingerprint == first.fingerprint
    assert open_labelled(path, ClassList(NAMES[::-1], NAMES[::-1])).fingerprint != first.fingerprint
    file = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    kept = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    # Even where someone puts the time back.
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert open_labelled(path).fingerprint != first.fingerprint
