"""A run's folder: made once, and recognised when the run goes on. Another recipe or store is refused, by name."""

import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from prep.errors import UserError
from prep.files import is_empty, read_json, write_json, written_aside
from prep.store import Store
from train import checkpoint
from train.config import load_recipe, to_toml
from train.recipe import Recipe


def prepare_run(run: Path, recipe: Recipe, stores: tuple[Store, ...]) -> None:
    """Make the run folder, or check that the one that is there is this run's. Raises `UserError` when it is not.

    Other code than the run was begun with is named, and goes on.
    """
    kept = run / "recipe.toml"
    if kept.exists():
        _same_recipe(kept, recipe)
        if (run / "environment.json").exists():
            _same_stores(run, stores)
            _name_other_code(run)
        else:  # train.import_weights wrote it, and no training has begun
            _copy_manifests(run, stores)
            write_json(run / "environment.json", environment())
        checkpoint.tidy(run)
        return
    # A kill between these files leaves some of them; recipe.toml comes last and makes the folder a run.
    for path in (run / "environment.json", *run.glob("manifest*.json")):
        path.unlink(missing_ok=True)
    if run.exists() and not is_empty(run):
        raise UserError(
            str(run), "wanted a new or empty folder, or a run; found something else", "Choose another --out."
        )
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "environment.json", environment())
    _copy_manifests(run, stores)
    with written_aside(kept) as file:
        file.write(to_toml(recipe).encode())


def _copy_manifests(run: Path, stores: tuple[Store, ...]) -> None:
    for store, copy in zip(stores, _manifests(run, len(stores)), strict=True):
        with (store.path / "manifest.json").open("rb") as source, written_aside(copy) as file:
            shutil.copyfileobj(source, file)


def _manifests(run: Path, num_stores: int) -> list[Path]:
    """Where the copies of the stores' manifests lie: manifest.json, manifest-1.json and so on."""
    return [run / (f"manifest-{number}.json" if number else "manifest.json") for number in range(num_stores)]


def _same_stores(run: Path, stores: tuple[Store, ...]) -> None:
    num_before = len(list(run.glob("manifest*.json")))
    if num_before != len(stores):
        problem = f"this run was begun on {num_before} stores, and is now given {len(stores)}"
        raise UserError(str(run), problem, "Give the same stores, or another --out.")
    for store, copy in zip(stores, _manifests(run, len(stores)), strict=True):
        was = json.loads(copy.read_text("utf-8"))["fingerprint"]
        if was != store.manifest.fingerprint:
            raise UserError(
                str(run),
                f"this run was begun on a store with fingerprint {was}; {store.path} has {store.manifest.fingerprint}",
                "Give the same store, or another --out.",
            )


def _name_other_code(run: Path) -> None:
    was, now = read_json(run / "environment.json")["commit"], environment()["commit"]
    if was != now:
        print(f"this run was begun with code {was}, and goes on with {now}", flush=True)


def _same_recipe(path: Path, recipe: Recipe) -> None:
    was, now = _flat(asdict(load_recipe(str(path)))), _flat(asdict(recipe))
    for key in {**was, **now}:
        if was.get(key) != now.get(key):
            raise UserError(
                str(path.parent),
                f"this run was begun with {key} = {was.get(key)}, and is now asked for {now.get(key)}",
                "Give the same recipe to go on, or another --out for a new run.",
            )


def _flat(value: object, place: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        items: list[tuple[object, object]] = list(value.items())
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        items = list(enumerate(value))
    else:
        return {place: value}
    return {k: v for key, item in items for k, v in _flat(item, f"{place}.{key}" if place else str(key)).items()}


def environment() -> dict[str, object]:
    """What the run stands on: versions, device, commit. For a person; the commit alone is read back."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "num_cores": len(os.sched_getaffinity(0)),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "commit": git.stdout.strip() or "unknown",
        **{name: version(name) for name in ("torch", "timm", "numpy", "pyarrow", "simplejpeg")},
    }
