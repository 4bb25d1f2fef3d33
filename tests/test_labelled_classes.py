"""Which class an image is of: numbers, keys, names and their spellings, and what could be two things."""

import csv
from importlib import resources
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from eval.class_names import ClassList, find_classes
from eval.labelled import open_labelled
from eval.labelled_classes import labels_by_name, labels_by_number
from prep.errors import UserError

from .labelled_sets import NAMES, PER_CLASS, all_pictures, members, png, table, write_tars
from .tar_files import tar_of

HERE = Path("set")
LABELS = [label for label, _ in all_pictures()]


def lemmas() -> list[str]:
    """WordNet's names for ImageNet's classes, in its order, as the hub's ImageNet calls them."""
    lines = resources.files("timm.data").joinpath("_info", "imagenet_synset_to_lemma.txt").read_text().splitlines()
    by_synset = dict(csv.reader(lines, delimiter="\t"))
    return [by_synset[synset] for synset in find_classes("imagenet").keys]


def plain(*names: str) -> ClassList:
    return ClassList(names, names)


@pytest.mark.parametrize("name", ["imagenet", "imagenet-v2"])
def test_imagenet_under_wordnets_names_is_judged_whole(name: str) -> None:
    own, numbers = lemmas(), [*range(1000), 1000, None]
    found = labels_by_number(HERE, numbers, own, find_classes(name))
    assert found.labels.tolist() == [*range(1000), -1, -1]
    assert found.unmatched == {"class 1000": 1, "no label": 1}


def test_imagenet_by_ids_or_in_another_order() -> None:
    classes = find_classes("imagenet")
    synsets, backwards = classes.keys[::-1], list(range(1000))[::-1]
    assert labels_by_number(HERE, range(1000), synsets, classes).labels.tolist() == backwards
    with pytest.raises(UserError, match=r"426 of its 1,000 .* list of 1,000, but not by its order.*\n.*a tab"):
        labels_by_number(HERE, range(1000), lemmas()[::-1], classes)
    few = find_classes("imagenet-a")
    found = labels_by_number(HERE, range(1000), classes.keys, few)
    assert [few.keys[label] for label in found.labels if label >= 0] == list(few.keys)
    with pytest.raises(UserError, match="its 1,000 class names are not those of the list of 200: 100 match"):
        labels_by_number(HERE, range(1000), lemmas(), few)
    # Folders of ImageNet-V2 as `imagefolder` sorts them: "0", "1", "10", "100" ...
    sorted_keys = sorted(map(str, range(1000)))
    found = labels_by_number(HERE, range(1000), sorted_keys, find_classes("imagenet-v2"))
    assert found.labels.tolist() == [int(key) for key in sorted_keys]


def test_a_table_of_imagenets_first_classes(tmp_path: Path) -> None:
    """Of three names one is the list's, in its place: all three are judged, by order."""
    own = ("tench, Tinca tinca", "hen", "jay, a bird")
    pq.write_table(table(names=own), tmp_path / "x.parquet")
    assert open_labelled(tmp_path, plain("tench", "hen", "jay")).labels.tolist() == LABELS
    with pytest.raises(UserError, match="number 1 is 'hen' here, 'jay' there"):
        open_labelled(tmp_path, plain("tench", "jay", "hen"))


def test_a_number_goes_through_the_key_that_is_one(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(members()))
    opened = open_labelled(tmp_path, ClassList(("fox", "key"), ("1", "0")))
    assert opened.labels.tolist() == [(1, 0, -1)[label] for label in LABELS]
    assert opened.unmatched == {"class 2": PER_CLASS}
    (tmp_path / "x.tar").unlink()
    pq.write_table(table(names=()), tmp_path / "x.parquet")
    assert open_labelled(tmp_path, ClassList(("fox", "key"), ("2", "1"))).labels.tolist() == [
        (-1, 1, 0)[label] for label in LABELS
    ]
    # Ids that are no numbers stand in the numbers' order; so do names that are numbers.
    for classes in (ClassList(tuple("abc"), ("n1", "n2", "n3")), plain("3", "2", "1")):
        assert open_labelled(tmp_path, classes).labels.tolist() == LABELS
    with pytest.raises(UserError, match="'1' and '01' are one number"):
        open_labelled(tmp_path, ClassList(("fox", "key"), ("1", "01")))


def test_a_list_goes_by_the_names_beside_the_tars(tmp_path: Path) -> None:
    path = write_tars(tmp_path / "t")
    assert open_labelled(path, plain(*NAMES[::-1])).labels.tolist() == [2 - label for label in LABELS]
    opened = open_labelled(path, plain("Polar_Bear", "dog"))
    assert opened.labels.tolist() == [(-1, 1, 0)[label] for label in LABELS]
    assert opened.unmatched == {"black cat": PER_CLASS}
    with pytest.raises(UserError, match="its 'black cat' and the list's 'cow' do not"):
        open_labelled(path, plain("dog", "cow"))
    # A list written for the data, with keys of its own, may lack classes and have others.
    found = open_labelled(path, ClassList(("hound", "cow"), ("dog", "ox")))
    assert found.labels.tolist() == [(-1, 0, -1)[label] for label in LABELS]


def test_names_that_two_numbers_share_say_nothing() -> None:
    with pytest.raises(UserError, match="its 3 class names are not those"):
        labels_by_number(HERE, [0, 1, 2], ("crane", "Crane", "dog"), plain("crane", "dog"))


def test_keys_that_differ_in_spelling_alone_are_two_classes(tmp_path: Path) -> None:
    for folder in ("polish", "Polish", "POLISH"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(png(0, 0))
    for classes in (plain("polish", "Polish"), ClassList(("varnish", "from Poland"), ("polish", "Polish"))):
        opened = open_labelled(tmp_path, classes)
        assert (opened.labels.tolist(), opened.unmatched) == ([-1, 1, 0], {"POLISH": 1})
    # Names too, after keys.
    opened = open_labelled(tmp_path, ClassList(("polish", "Polish", "dog"), ("n1", "n2", "n3")))
    assert opened.labels.tolist() == [-1, 1, 0]


@pytest.mark.parametrize("name", ["__", " "])
def test_a_label_that_leaves_no_name_is_refused(name: str, tmp_path: Path) -> None:
    for folder in ("cat", name):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(png(0, 0))
    with pytest.raises(UserError, match=f"the label '{name}' leaves no class name"):
        open_labelled(tmp_path)
    with pytest.raises(UserError, match=f"the label '{name}' leaves no class name"):
        labels_by_number(HERE, [0, 1], ("cat", name), None)
    assert open_labelled(tmp_path, ClassList(("cat", "gap"), ("cat", name))).num_judged == 2


def test_no_label_is_no_class() -> None:
    found = labels_by_name(HERE, ["cat", None, "dog", ""], None)
    assert found.class_names == ("cat", "dog")
    assert (found.labels.tolist(), found.unmatched) == ([0, -1, 1, -1], {"no label": 2})
