"""Checkpoints: a folder each, named by samples seen, written aside and renamed, holding safetensors and one JSON.

    run/checkpoints/000000065536/
      weights.safetensors     the model, at the token budget of the stage it was in
      optimizer.safetensors   AdamW's moments
      state.json              samples seen, cumulative training FLOPs and seconds

No pickle anywhere. `latest` is not a file that could lag behind: it is the largest name.
"""

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from pipelines.contract import TokenBudget
from prep.errors import UserError
from prep.files import read_json, sync_folder, write_json, written_aside
from train.config import load_recipe
from train.model import CLIP
from train.optimizer import load_state_tensors, state_tensors
from train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands. samples_seen decides everything; flops and seconds are for the log."""

    samples_seen: int
    flops: float
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as a checkpoint left it, in evaluation mode, with the budget it was trained at last."""

    model: CLIP
    budget: TokenBudget
    recipe: Recipe
    samples_seen: int
    path: Path


def folder(run: Path) -> Path:
    """Where a run's checkpoints lie."""
    return run / "checkpoints"


def found(run: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    there = folder(run).iterdir() if folder(run).is_dir() else ()
    return sorted(path for path in there if path.is_dir() and re.fullmatch(r"\d{12}", path.name))


def save(run: Path, state: State, model: CLIP, optimizer: torch.optim.AdamW) -> Path:
    """Write a checkpoint so that its name appears only when all of it is on disk."""
    final = folder(run) / f"{state.samples_seen:012d}"
    if final.exists():
        return final
    aside = folder(run) / f".{final.name}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    try:
        for name, tensors in (("weights", weights), ("optimizer", state_tensors(model, optimizer))):
            with written_aside(aside / f"{name}.safetensors") as file:
                file.write(serialise(tensors))
        write_json(aside / "state.json", asdict(state))
        sync_folder(aside)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # a full disk is not left fuller than it was
    sync_folder(folder(run))
    return final


def prune(run: Path, keep: int, always: set[int]) -> None:
    """Delete all but the newest `keep` checkpoints and those at the samples seen in `always` (the ends of stages)."""
    for path in found(run)[:-keep]:
        if int(path.name) not in always:
            # Renamed first, so that a half-deleted folder never bears a checkpoint's name.
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.old.tmp")))


def read_state(path: Path) -> State:
    """The state of a checkpoint."""
    return State(**read_json(path / "state.json"))


def load_weights(path: Path, model: CLIP) -> None:
    """Load weights into a model of the same budget. Raises `UserError` when the file is damaged or does not fit."""
    file = path / "weights.safetensors"
    try:
        model.load_state_dict(_tensors(file))
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise UserError(str(file), f"does not fit the run's recipe: {problem}", "Restore the recipe.toml.") from error


def load_optimizer(path: Path, model: CLIP, optimizer: torch.optim.AdamW) -> None:
    """Load the optimizer's moments."""
    load_state_tensors(model, optimizer, _tensors(path / "optimizer.safetensors"))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            str(path), f"wanted a safetensors file, but {error}", f"Delete {path.parent} to go on from the one before."
        ) from error


def load_model(run: Path, checkpoint: str = "latest", device: str = "cpu") -> LoadedModel:
    """A model out of a run folder. checkpoint: "latest", or the samples seen of one of them.

    Raises `UserError` when the run or the checkpoint is not there.
    """
    if not (run / "recipe.toml").is_file():
        raise UserError(
            str(run),
            "wanted a run folder, but there is no recipe.toml in it",
            "Give the folder that train.run --out named.",
        )
    recipe = load_recipe(str(run / "recipe.toml"))
    paths = {int(path.name): path for path in found(run)}
    if not paths:
        raise UserError(str(run), "wanted a checkpoint, found none yet", "Wait for the first, or run train.run.")
    wanted = max(paths) if checkpoint == "latest" else int(checkpoint) if checkpoint.isdigit() else -1
    if wanted not in paths:
        raise UserError(
            str(run),
            f"no checkpoint {checkpoint}",
            f"There are: latest, {', '.join(str(seen) for seen in sorted(paths))}.",
        )
    budget = budget_of(recipe, wanted)
    model = CLIP(recipe.model, budget)
    load_weights(paths[wanted], model)
    return LoadedModel(model.to(device).eval(), budget, recipe, wanted, paths[wanted])


def budget_of(recipe: Recipe, samples_seen: int) -> TokenBudget:
    """The budget that a checkpoint's weights are shaped for: its last step's, so a stage's end is in that stage."""
    return recipe.stages[recipe.stage_of(max(0, samples_seen - 1))].budget
