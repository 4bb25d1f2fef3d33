"""A run of two stages that is killed, or asked to end, at any instant: the same command ends with the same bits.

Kills are SIGKILL of real processes, on one rank and on two: at random times, before random changes that the run makes
to its folder (so that most fall into the writing of checkpoints and logs), and at the turning points by name. Of two
ranks, one or both are killed. SHORTCLIP_TRAIN_KILLS=50 makes so many of them in all (default 4) and prints how many
were survived:

    SHORTCLIP_TRAIN_KILLS=50 ./shortclip test tests/test_train_kills.py -n 0 -s
"""

import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch

from prep.store import Store
from train import checkpoint, loop
from train.model import CLIP
from train.optimizer import make_optimizer
from train.recipe import OptimizerConfig

from .warm_runs import BATCH, BOUNDARY, LAST, Running, arguments, contents, finish, start

NUM_KILLS = int(os.environ.get("SHORTCLIP_TRAIN_KILLS", "4"))
WORLDS = (1, 2)
SELDOM = pytest.mark.skip("seconds each; SHORTCLIP_TRAIN_KILLS=50 runs them")
CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree")

# The change before which a run is killed, and the end of its path.
TURNS = {
    "amid a checkpoint": ("open", rf"{336:012d}\.tmp/\.optimizer\.safetensors\..*"),
    "a stage's checkpoint has no name yet": ("os.rename", rf"/\.{BOUNDARY:012d}\.tmp"),
    "the last checkpoint has no name yet": ("os.rename", rf"/\.{LAST:012d}\.tmp"),
    "a checkpoint is renamed to be deleted": ("os.rename", rf"/{96:012d}"),
    "a checkpoint is being deleted": ("shutil.rmtree", r"\.old\.tmp"),
    "a stage's first log line": ("open", r"/metrics\.jsonl"),
    "the folder is not a run yet": ("os.rename", r"/\.recipe\.toml\..*"),
}

OFTEN = [
    *((1, turn) for turn in ("amid a checkpoint", "a checkpoint is being deleted")),
    (2, "a stage's checkpoint has no name yet"),
]


def before_changes(folder: Path, act: Callable[[int, str, str], object]) -> None:
    """Call `act` in this process, with a number that counts, before each change to a folder; see CHANGES."""
    numbers = count()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES and str(folder) in str(arguments[0]):
            act(next(numbers), event, str(arguments[0]))

    sys.addaudithook(hook)


class Wholes:
    """Runs that nothing interrupts, for each number of ranks: what they end with, and how they went."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.length: dict[int, float] = {}
        self.num_changes: dict[int, int] = {}
        self.contents: dict[int, dict[str, object]] = {}
        for world in WORLDS:
            run, notes = folder / str(world), folder / f"changes-{world}"
            began = time.monotonic()
            finish(arguments(store, run), folder / "screen", world, partial(_note, run, notes))
            self.length[world] = time.monotonic() - began
            self.num_changes[world], self.contents[world] = notes.stat().st_size, contents(run)


def _note(run: Path, notes: Path) -> None:
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if os.environ["RANK"] == "0":
        before_changes(run, lambda *_: os.write(file, b"."))


@pytest.fixture(scope="module")
def wholes(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    return Wholes(store, tmp_path_factory.mktemp("wholes"))


def die_at(run: Path, which: Callable[[int, str, str], bool]) -> Callable[[], None]:
    """What makes the first rank kill itself before the change that `which` says."""

    def act(number: int, event: str, path: str) -> None:
        if which(number, event, path):
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: before_changes(run, act) if os.environ["RANK"] == "0" else None


def died(running: Running, run: Path) -> bool:
    """Whether a rank was killed; one that lives ends by itself and says why, unless the run was done."""
    codes = running.wait()
    if -signal.SIGKILL not in codes:
        assert codes == [0] * len(codes), running.said()
        return False
    others = set(codes) - {-signal.SIGKILL}
    assert others <= {2} or int(checkpoint.found(run)[-1].name) == LAST, running.said()
    assert 2 not in others or ("lost another rank" in running.said() and "Traceback" not in running.said())
    return True


def kill_at_random(folder: Path, run: Path, store: Store, wholes: Wholes, world: int, chance: random.Random) -> bool:
    """Start a run and kill it; returns whether that came before its end."""
    command, screens, notes = arguments(store, run), folder / "screen", folder / "changes"
    if chance.random() < 0.5:
        number = chance.randrange(wholes.num_changes[world])
        return died(start(command, screens, world, die_at(run, lambda n, *_: n == number)), run)
    notes.unlink(missing_ok=True)
    running = start(command, screens, world, partial(_note, run, notes))
    time.sleep(chance.uniform(0, wholes.length[world]))
    # Before ranks have met, it is torchrun that ends the other; here there is none.
    has_begun = notes.exists() and notes.stat().st_size > 0
    running.send(signal.SIGKILL, *(chance.choice([(), (0,), (world - 1,)]) if has_begun else ()))
    return died(running, run)


@pytest.mark.timeout(120 + 30 * NUM_KILLS)
@pytest.mark.parametrize("world", WORLDS)
def test_killed_at_random_it_ends_with_the_same_bits(store: Store, tmp_path: Path, wholes: Wholes, world: int) -> None:
    """A third of the kills is of two ranks."""
    chance, num_kills, num_runs = random.Random(world), 0, 0
    wanted = NUM_KILLS // 3 if world > 1 else NUM_KILLS - NUM_KILLS // 3
    while num_kills < wanted:
        run = tmp_path / str(num_runs)
        command, going = arguments(store, run), True
        while going and num_kills < wanted and chance.random() < 0.9:
            going = kill_at_random(tmp_path, run, store, wholes, world, chance)
            num_kills += going
        finish(command, tmp_path / "screen", world)
        assert contents(run) == wholes.contents[world]
        shutil.rmtree(run)
        num_runs += 1
    print(f"\nsurvived {num_kills} kills in {num_runs} runs on {world} rank(s): the same bits each time")


@pytest.mark.parametrize(
    ("world", "turn"),
    [
        pytest.param(world, turn, marks=() if NUM_KILLS > 8 or (world, turn) in OFTEN else SELDOM)
        for world in WORLDS
        for turn in TURNS
    ],
)
def test_killed_at_a_turn_it_ends_with_the_same_bits(
    store: Store, tmp_path: Path, wholes: Wholes, world: int, turn: str
) -> None:
    command, run = arguments(store, tmp_path / "run"), tmp_path / "run"
    change, pattern = TURNS[turn]

    def which(_: int, event: str, path: str) -> bool:
        is_late = turn != "a stage's first log line" or len(checkpoint.found(run)) == 3
        return event == change and re.search(f"{pattern}$", path) is not None and is_late

    assert died(start(command, tmp_path / "screen", world, die_at(run, which)), run)
    finish(command, tmp_path / "screen", world)
    assert contents(run) == wholes.contents[world]
    print(f"\nsurvived a kill on {world} rank(s): {turn}")


def test_what_kills_have_left_is_no_trouble(store: Store, tmp_path: Path, wholes: Wholes) -> None:
    """Half of a checkpoint's files, one cut short, and half-deleted checkpoints, one of a name that will be pruned."""
    command, run = arguments(store, tmp_path / "run"), tmp_path / "run"
    assert died(
        start(command, tmp_path / "screen", 1, die_at(run, lambda _n, _e, path: f"{432:012d}.tmp" in path)), run
    )
    whole = checkpoint.found(run)[-1]
    for name in (f".{432:012d}.tmp", f".{336:012d}.old.tmp", f".{333:012d}.tmp", f".{96:012d}.old.tmp"):
        half = checkpoint.folder(run) / name
        half.mkdir(exist_ok=True)
        shutil.copy(whole / "weights.safetensors", half)
        os.truncate(half / "weights.safetensors", 1000)
    finish(command, tmp_path / "screen")
    assert contents(run) == wholes.contents[1]


def ask_to_end(step: int) -> None:
    """SIGTERM to the first rank, amid a step of the run, from 1."""
    steps = count(1)

    def make(model: CLIP, config: OptimizerConfig) -> torch.optim.AdamW:
        model.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM) if next(steps) == step else None)
        return make_optimizer(model, config)

    if os.environ["RANK"] == "0":
        pytest.MonkeyPatch().setattr(loop, "make_optimizer", make)


@pytest.mark.parametrize(("world", "seen"), [(1, 168), (2, 168), (1, BOUNDARY)])
def test_asked_to_end_it_saves_within_a_step(
    store: Store, tmp_path: Path, wholes: Wholes, world: int, seen: int
) -> None:
    """Between two log lines, so that the half-gathered one must go on; and at a stage's end."""
    command, run = arguments(store, tmp_path / "run"), tmp_path / "run"
    running = start(command, tmp_path / "screen", world, partial(ask_to_end, seen // BATCH))
    assert running.wait() == [128 + signal.SIGTERM] * world
    saved = checkpoint.found(run)[-1]
    assert int(saved.name) == seen
    assert running.said().count(f"Asked to end: saved {saved}. The same command goes on.") == 1
    assert "Traceback" not in running.said()
    finish(command, tmp_path / "screen", world)
    assert contents(run) == wholes.contents[world]
