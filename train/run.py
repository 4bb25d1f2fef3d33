"""Train a recipe on a store: all stages, one resumable job.

    python -m train.run RECIPE --store store/ --out run/ [stages.0.budget.res=84 ...]

RECIPE is a TOML file or the name of a shipped one. The same command goes on after a crash, a kill or a power cut, and
ends with the weights of a run that was never interrupted.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import torch

from pipelines.choose import LOADERS, Host
from pipelines.mixture import Mixture
from pipelines.order import shuffle_radius
from pipelines.store_view import ImageView, TextView
from prep.errors import UserError, run_main
from prep.files import is_empty, working_in, write_json, written_aside
from prep.progress import bar
from prep.store import CONTEXT_LENGTH, Store, open_store
from train import checkpoint
from train.checkpoint import State
from train.config import load_recipe, shipped_recipes, to_toml
from train.loop import Trainer
from train.recipe import Recipe

TOKENIZER = "clip-bpe-49408"


def check_fit(recipe: Recipe, stores: tuple[Store, ...]) -> None:
    """Refuse stores that cannot serve the recipe. Raises `UserError` naming the stage and what to build."""
    num_samples = sum(store.manifest.num_samples for store in stores)
    Mixture(tuple(store.manifest.num_samples for store in stores), recipe.weights, recipe.seed)
    for store in stores:
        _check_columns(recipe, store)
    for number, stage in enumerate(recipe.stages):
        for store, weight in zip(stores, recipe.weights, strict=False):
            share = -(-stage.batch_size * weight // sum(recipe.weights))
            if share > store.manifest.num_samples:
                raise UserError(
                    f"{recipe.name}, stages.{number}.batch_size",
                    f"a batch has {share:,} samples of {store.path} and would repeat some: it has "
                    f"{store.manifest.num_samples:,}",
                    "Use a smaller batch or other weights.",
                )
        if stage.batch_size > num_samples:
            raise UserError(
                f"{recipe.name}, stages.{number}.batch_size",
                f"a batch of {stage.batch_size:,} would repeat samples: the store has {num_samples:,}",
                "Use a smaller batch or more data.",
            )


def _check_columns(recipe: Recipe, store: Store) -> None:
    manifest = store.manifest
    if manifest.tokenizer.get("name") != TOKENIZER:
        raise UserError(
            str(store.path),
            f"wanted token ids of {TOKENIZER}, found those of {manifest.tokenizer.get('name', 'none')}",
            "Add them: prep.build --tokenizer clip.",
        )
    TextView(store, recipe.captions)
    for number, stage in enumerate(recipe.stages):
        place = f"{recipe.name}, stages.{number}"
        try:
            ImageView(store, stage.budget.res, stage.crops == "bank")
        except UserError as error:
            raise UserError(f"{place}.budget.res", error.problem, error.remedy) from error
        if stage.budget.text_tokens > CONTEXT_LENGTH:
            raise UserError(
                f"{place}.budget.text_tokens",
                f"wanted {stage.budget.text_tokens}, but the store holds {CONTEXT_LENGTH} tokens a caption",
                "Use fewer.",
            )


def prepare_run(run: Path, recipe: Recipe, stores: tuple[Store, ...]) -> None:
    """Make the run folder, or check that the one that is there is this run's. Raises `UserError` when it is not."""
    kept = run / "recipe.toml"
    if kept.exists():
        _same_recipe(kept, recipe)
        _same_stores(run, stores)
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
    for store, copy in zip(stores, _manifests(run, len(stores)), strict=True):
        with (store.path / "manifest.json").open("rb") as source, written_aside(copy) as file:
            shutil.copyfileobj(source, file)
    with written_aside(kept) as file:
        file.write(to_toml(recipe).encode())


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
    """What the run stands on: versions, device, commit. For a person; nothing reads it back."""
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


def train(trainer: Trainer) -> State:
    """Check, prepare the run folder and train to the end."""
    recipe = trainer.recipe
    check_fit(recipe, trainer.stores)
    with working_in(trainer.run), bar(recipe.num_samples, f"training {recipe.name}", "samples") as progress:
        prepare_run(trainer.run, recipe, trainer.stores)
        if recipe.window:
            sizes = [store.manifest.num_samples for store in trainer.stores]
            sizes = sizes if recipe.weights else [sum(sizes)]
            radii = " or ".join(f"{shuffle_radius(size, recipe.window):,}" for size in sizes)
            print(f"window: a sample is shuffled among {radii} rows", flush=True)
        return replace(trainer, advance=progress.advance).train()


def check_device(device: str) -> None:
    """Raise `UserError` when torch cannot use a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"--device {device}", f"torch cannot use it: {problem}", "Choose cpu or cuda.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recipe", help=f"a TOML file, or one of: {', '.join(shipped_recipes())}")
    add("overrides", nargs="*", metavar="key=value", help="changes to the recipe, such as stages.0.samples=100_000")
    add("--store", type=Path, required=True, action="append", help="folder of prep.build; repeat to mix")
    add("--out", type=Path, required=True, metavar="RUN", help="run folder; an unfinished run in it goes on")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu (default: cuda if there)")
    add("--threads", type=int, default=0, help="CPU threads of the model (default 0: as torch chooses)")
    on_gpu = torch.cuda.is_available()
    add(
        "--loader",
        default="auto" if on_gpu else "torch",
        choices=("auto", *LOADERS),
        help="auto probes them for two seconds a stage (default: auto with a GPU, else torch)",
    )
    add("--loader-threads", type=int, default=1, help="CPU threads that decode (default 1)")
    add("--beton", type=Path, nargs="*", default=[], help="exported files of the view, for --loader ffcv")
    add(
        "--damaged",
        default="refuse",
        choices=("refuse", "replace"),
        help="rows: end the run, or show the next, counted",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_intermixed_args(argv)
    for option, value in (("--threads", args.threads), ("--loader-threads", args.loader_threads)):
        if value < 0:
            raise UserError(option, f"wanted 0 or more, found {value}", "See python -m train.run --help.")
    check_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = load_recipe(args.recipe, args.overrides)
    stores = tuple(open_store(path) for path in args.store)
    host = Host(args.device, args.loader_threads, tuple(args.beton))
    state = train(Trainer(recipe, stores, args.out, args.device, args.loader, host, args.damaged == "replace"))
    print(
        f"Done: {state.samples_seen:,} samples, {state.flops:.3g} training FLOPs, {state.seconds:,.0f} s.\n"
        f"Weights: {checkpoint.found(args.out)[-1] / 'weights.safetensors'}\n"
        f"Next: python -m eval.run {args.out} --zeroshot FOLDER_PER_CLASS"
    )


if __name__ == "__main__":
    run_main(main)
