"""Lists of classes against CLIP_benchmark's and against published mappings, and the mistakes in a file."""

import ast
import csv
import hashlib
import json
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from eval.class_names import CLASS_LISTS, ClassList, find_classes
from eval.objectnet import CLASSES
from prep.errors import UserError


@pytest.fixture(scope="module")
def benchmark() -> Path:
    """CLIP_benchmark's folder of data sets; read, not imported, for it imports much that these lists do not need."""
    package = find_spec("clip_benchmark")
    if package is None or package.origin is None:
        pytest.skip("CLIP_benchmark is not installed")
    return Path(package.origin).parent / "datasets"


@pytest.fixture(scope="module")
def constants(benchmark: Path) -> dict[str, Any]:
    """The literal lists that its builder of data sets holds, by name."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse((benchmark / "builder.py").read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.List):
            found[node.targets[0].id] = [getattr(item, "value", None) for item in node.value.elts]
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Set):
            found[node.targets[0].id] = {getattr(item, "value", None) for item in node.value.elts}
    return found


def test_the_imagenet_sets_are_clip_benchmarks(benchmark: Path, constants: dict[str, Any]) -> None:
    names = json.loads((benchmark / "en_classnames.json").read_text())["imagenet1k"]
    synsets = constants["all_imagenet_wordnet_ids"]
    assert find_classes("imagenet") == find_classes("imagenet-sketch") == ClassList(tuple(names), tuple(synsets))
    assert find_classes("imagenet-v2") == ClassList(tuple(names), tuple(str(label) for label in range(1000)))
    for letter in "ar":
        wanted = constants[f"imagenet_{letter}_wnids"]
        kept = [(name, synset) for name, synset in zip(names, synsets, strict=True) if synset in wanted]
        assert len(kept) == len(find_classes(f"imagenet-{letter}")) == 200
        assert find_classes(f"imagenet-{letter}") == ClassList(*zip(*kept, strict=True))


def test_what_stands_for_a_class_stands_for_no_other() -> None:
    for name in CLASS_LISTS:
        found = find_classes(name)
        assert len(found.names) == len(found.keys) == len(set(found.keys))
    crane = [place for place, name in enumerate(find_classes("imagenet").names) if "crane" in name]
    assert [find_classes("imagenet").keys[place] for place in crane] == ["n02012849", "n03126707"]


def lemmas() -> dict[str, str]:
    lines = resources.files("timm.data").joinpath("_info", "imagenet_synset_to_lemma.txt").read_text().splitlines()
    return dict(csv.reader(lines, delimiter="\t"))


def test_objectnet_is_its_published_mapping() -> None:
    by_synset, classes = lemmas(), find_classes("objectnet")
    named = zip(classes.names, CLASSES.values(), strict=True)
    lines = sorted(f"{name}: {'; '.join(by_synset[synset] for synset in synsets)}" for name, synsets in named)
    # Of ObjectNet's own objectnet_to_imagenet_1k.json: its pairs as such lines, keys in lower case, sorted.
    published = "55c76a91eb38c03b20231526dd709217"
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32] == published
    assert len(lines) == 113
    assert list(classes.keys) == sorted(classes.keys)


def test_objectnets_order_and_names_are_clip_benchmarks(benchmark: Path, tmp_path: Path) -> None:
    objectnet = pytest.importorskip("clip_benchmark.datasets.objectnet")
    by_synset, synsets = lemmas(), find_classes("imagenet").keys
    labels = {folder: name.title() for folder, name in zip(CLASSES, find_classes("objectnet").names, strict=True)}
    files = {
        "folder_to_objectnet_label.json": {**labels, "squeegee": "Squeegee"},
        "objectnet_to_imagenet_1k.json": {
            labels[folder]: "; ".join(by_synset[synset] for synset in CLASSES[folder]) for folder in reversed(CLASSES)
        },
        "pytorch_to_imagenet_2012_id.json": {str(place): place for place in range(1000)},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "imagenet_to_label_2012_v2").write_text("\n".join(by_synset[synset] for synset in synsets))
    for folder in (*CLASSES, "squeegee"):
        (tmp_path / "objectnet-1.0" / "images" / folder).mkdir(parents=True)
        (tmp_path / "objectnet-1.0" / "images" / folder / "1.png").touch()
    theirs = objectnet.ObjectNetDataset(root=str(tmp_path), transform=None)
    ours = find_classes("objectnet")
    assert len(theirs) == 113
    assert (tuple(theirs.classes), tuple(theirs.label_map)) == (ours.names, ours.keys)
    imagenet = find_classes("imagenet").names
    asked = tuple(tuple(imagenet[place] for place in theirs.folders_to_ids[folder]) for folder in ours.keys)
    assert asked == find_classes("objectnet-imagenet").asked


def test_objectnets_classes_are_asked_by_imagenets_names_too() -> None:
    own, other = find_classes("objectnet"), find_classes("objectnet-imagenet")
    assert (own.names, own.keys, own.asked) == (other.names, other.keys, ())
    assert sum(map(len, other.asked)) == 125
    assert other.asked[own.keys.index("chair")] == ("barber chair", "folding chair", "rocking chair")


@pytest.mark.parametrize(
    ("text", "names", "keys"),
    [
        ("cat\npolar bear\n", ("cat", "polar bear"), ("cat", "polar bear")),
        ("\ufeffcat\r\n  dog \r\n\n\n", ("cat", "dog"), ("cat", "dog")),
        ("n1\tcat\nn2 \t cat", ("cat", "cat"), ("n1", "n2")),
        ("a\x0bb\nc\u2028d", ("a\x0bb", "c\u2028d"), ("a\x0bb", "c\u2028d")),
    ],
)
def test_a_file_has_a_class_a_line(tmp_path: Path, text: str, names: tuple[str, ...], keys: tuple[str, ...]) -> None:
    (tmp_path / "classes.txt").write_bytes(text.encode())
    assert find_classes(str(tmp_path / "classes.txt")) == ClassList(names, keys)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"cat\n\ndog", r"classes\.txt, line 2: wanted a name.*found an empty line"),
        (b"n1\tcat\nn2 dog", "line 2: wanted a key, a tab and a name, as in line 1, found 'n2 dog'"),
        (b"n1\tcat\nn2\tdog\tcow", "line 2: wanted a key, a tab and a name"),
        (b"n1\tcat\nn2\t\nn3\tcow", "line 2: wanted a key"),
        (b"cat\nn2\tdog", "line 2: wanted a name and no tab"),
        (b"cat\ndog\ncat", "line 3: 'cat' stands in line 1 already"),
        (b"n1\tcat\nn1\tdog", "line 2: 'n1' stands in line 1 already"),
        (b"cat\nd\xff", "line 2: wanted text in UTF-8"),
        (b"cat\n", "at least two classes, found 1"),
        (b"", "line 1: wanted a name and no tab, as in line 1, found an empty line"),
        (b"x" * ((1 << 24) + 1), "more than 16 MiB"),
    ],
)
def test_a_mistake_in_a_file_names_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "classes.txt").write_bytes(data)
    with pytest.raises(UserError, match=message):
        find_classes(str(tmp_path / "classes.txt"))


def test_an_unknown_list_is_named() -> None:
    with pytest.raises(UserError, match=r"imagenet-b: there is no such list.*\n.*imagenet-v2.*objectnet"):
        find_classes("imagenet-b")
