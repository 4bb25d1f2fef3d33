"""Checkpoints: a folder each, named by samples seen, written aside and renamed, holding safetensors and one JSON.

    run/checkpoints/000000065536/
      weights.safetensors     the model, at the token budget of the stage it was in
      optimizer.safetensors   AdamW's moments
      ema.safetensors         the moving average of the weights, where --ema asks for one
      state.json              samples seen, cumulative training FLOPs and seconds

No pickle anywhere. `latest` is not a file that could lag behind: it is the largest name.
"""

import re
import shutil
from collections.abc import Callable, Mapping
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
from train.parallel import whole
from train.recipe import Recipe, Stage


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands. samples_seen decides everything; flops and seconds are for the log.

    loss_sum, num_losses: of the log line that is being gathered. num_skipped: steps not taken so far; skipped_in_row:
    the last of them; num_rollbacks: since a step was taken.
    """

    samples_seen: int
    flops: float
    seconds: float
    loss_sum: float = 0.0
    num_losses: int = 0
    num_skipped: int = 0
    skipped_in_row: int = 0
    num_rollbacks: int = 0


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


def save(
    run: Path,
    state: State,
    model: CLIP,
    optimizer: torch.optim.AdamW | None,
    ema: Mapping[str, torch.Tensor] | None = None,
    *,
    is_first: bool = True,
) -> Path:
    """Write a checkpoint so that its name appears only when all of it is on disk.

    optimizer: None for weights alone. ema: averages, where there are any. is_first: whether this rank writes; all ranks
    must call, because each may hold a part.
    """
    final = folder(run) / f"{state.samples_seen:012d}"
    files = {"weights": {name: whole(tensor) for name, tensor in model.state_dict().items()}}
    if optimizer is not None:
        files["optimizer"] = state_tensors(model, optimizer)
    if ema is not None:
        files["ema"] = dict(ema)
    if is_first and not final.exists():
        _write(final, files, state)
    return final


def _write(final: Path, files: dict[str, dict[str, torch.Tensor]], state: State) -> None:
    aside = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for name, tensors in files.items():
            tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
            with written_aside(aside / f"{name}.safetensors") as file:
                file.write(serialise(tensors))
        write_json(aside / "state.json", asdict(state))
        sync_folder(aside)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # a full disk is not left fuller than it was
    sync_folder(final.parent)


def prune(run: Path, keep: int, always: Callable[[int], bool]) -> None:
    """Delete all but the newest `keep` checkpoints and those at samples seen for which `always` holds."""
    for path in found(run)[:-keep]:
        if not always(int(path.name)):
            # Renamed first, so that a half-deleted folder never bears a checkpoint's name.
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.old.tmp")))


def tidy(run: Path) -> None:
    """Delete what a kill left half-written or half-deleted; for the program that holds the run folder."""
    for path in folder(run).glob(".*.tmp"):
        shutil.rmtree(path)


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


def load_ema(path: Path) -> dict[str, torch.Tensor] | None:
    """The averages in a checkpoint; None where it has none."""
    file = path / "ema.safetensors"
    return _tensors(file) if file.exists() else None


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            str(path), f"wanted a safetensors file, but {error}", f"Delete {path.parent} to go on from the one before."
        ) from error


def load_model(run: Path, checkpoint: str = "latest", device: str = "cpu", *, ema: bool = False) -> LoadedModel:
    """A model out of a run folder. checkpoint: "latest", or the samples seen of one of them. ema: the averaged weights.

    Raises `UserError` when the run, the checkpoint or the average is not there.
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
    stage = stage_at(recipe, wanted)
    model, budget = CLIP(recipe.model, stage.budget, stage.image_positions, recipe.seed), stage.budget
    load_weights(paths[wanted], model)
    if ema:
        averages = load_ema(paths[wanted])
        if averages is None:
            raise UserError(str(paths[wanted]), "holds no average of the weights", "Train with --ema 0.999.")
        model.load_state_dict(averages, strict=False)
    return LoadedModel(model.to(device).eval(), budget, recipe, wanted, paths[wanted])


def stage_at(recipe: Recipe, samples_seen: int) -> Stage:
    """The stage that a checkpoint's weights are shaped for: its last step's, so a stage's end is in that stage."""
    return recipe.stages[recipe.stage_of(max(0, samples_seen - 1))]
