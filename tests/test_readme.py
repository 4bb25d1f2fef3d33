"""The README tells the truth: its commands run as they stand, and what it names and shows is there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

# Whole programs, one after another: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(1200)
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OWN_PAIRS = "Your own pairs, in four commands"
NUM_HELD_OUT = 24
# What makes the README's training a matter of seconds; its own overrides stay.
TINY = [
    "log_every=1",
    "checkpoint_every=2",
    "model.embed_dim=16",
    *(f"model.{tower}.{change}" for tower in ("vision", "text") for change in ("width=16", "depth=1", "num_heads=2")),
    *(f"stages.{i}.{change}" for i in (0, 1) for change in ("samples=48", "batch_size=24", "warmup_samples=24")),
]


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section '{title}'"
    return found[1]


def commands(text: str) -> list[list[str]]:
    """The commands in a text's fenced blocks, split as a shell would; a backslash at a line's end goes on."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("./shortclip ")]


def programs() -> list[list[str]]:
    return [command for command in commands(section(OWN_PAIRS)) if command[1:3] == ["run", "-m"]]


def lay_out(folder: Path, demo_data: Path) -> None:
    """pairs/, held_out/ and animals/, as the section asks for them."""
    shutil.copytree(demo_data / "train", folder / "pairs")
    (folder / "held_out").mkdir()
    with (
        tarfile.open(demo_data / "retrieval" / "00000.tar") as tar,
        tarfile.open(folder / "held_out" / "00000.tar", "w") as short,
    ):
        members = tar.getmembers()
        keys = list(dict.fromkeys(member.name.split(".")[0] for member in members))[:NUM_HELD_OUT]
        for member in members:
            if member.name.split(".")[0] in keys:
                short.addfile(member, tar.extractfile(member))
    for path in sorted((demo_data / "zeroshot").iterdir())[:5]:
        shutil.copytree(path, folder / "animals" / path.name)


@pytest.fixture(scope="module")
def own_pairs(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all of the section's commands were run."""
    folder = tmp_path_factory.mktemp("own")
    lay_out(folder, demo_data)
    for command in programs():
        assert command[:2] == ["./shortclip", "run"]
        ours = [sys.executable, "-P", *command[2:], *(TINY if "train.run" in command else [])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(ours, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return folder


def test_it_takes_four_commands() -> None:
    assert [command[3] for command in programs()] == ["prep.build", "prep.build", "train.run", "eval.run"]


def test_the_commands_leave_what_they_promise(own_pairs: Path) -> None:
    outs = [command[command.index("--out") + 1] for command in programs() if "--out" in command]
    assert len(outs) == 3
    for name in (*outs, "run/checkpoints", "run/metrics.jsonl", "run/eval/eval.json", "run/eval/curves.png"):
        assert (own_pairs / name).exists(), name


def test_what_the_section_names_is_there(own_pairs: Path) -> None:
    named = re.findall(r"`([\w-][\w.-]*/[\w./-]*)`", section(OWN_PAIRS))
    assert {"pairs/", "held_out/", "animals/"} < set(named)
    assert [name for name in named if not (own_pairs / name).exists() and not (ROOT / name).exists()] == []


def test_the_two_commands_are_there_and_one_of_them_is_what_ci_runs() -> None:
    assert commands(section("Two commands")) == [["./shortclip", "demo"], ["./shortclip", "test"]]
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in script if "shortclip" in line and not line.startswith("#")] == ["exec ./shortclip test"]


def test_every_picture_and_linked_file_is_there() -> None:
    linked = [name for name in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in name]
    assert any(name.endswith(".png") for name in linked)
    assert [name for name in linked if not (ROOT / name).is_file()] == []


def test_no_placeholder_is_left() -> None:
    assert [line for line in README.splitlines() if "@@" in line] == []
