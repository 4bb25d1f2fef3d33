"""Train a recipe on a store: all stages, one resumable job.

    python -m train.run RECIPE --store store/ --out run/ [stages.0.budget.res=84 ...]

    torchrun --nproc-per-node 8 -m train.run RECIPE ...                       on several GPUs or processes

RECIPE is a TOML file or the name of a shipped one. The same command goes on after a crash, a kill or a power cut, and
ends with the weights of a run that was never interrupted.
"""

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from pipelines.choose import LOADERS, Host
from pipelines.order import shuffle_radius
from prep.errors import UserError, run_main
from prep.files import working_in
from prep.progress import bars
from prep.store import open_store
from train import checkpoint
from train.checkpoint import State
from train.config import load_recipe, shipped_recipes
from train.fit import check_fit
from train.heap import keep_freed_memory
from train.loop import Trainer
from train.machine import Machine, check_device
from train.parallel import KINDS
from train.ranks import joined
from train.recipe import Recipe
from train.run_folder import prepare_run
from train.stage_run import Ended


def train(trainer: Trainer) -> State:
    """Check, prepare the run folder and train to the end."""
    recipe, ranks = trainer.recipe, trainer.ranks
    check_fit(recipe, trainer.stores, ranks.world)
    if not ranks.is_first:
        ranks.wait()
        return trainer.train()
    with working_in(trainer.run), _bars(recipe) as advance:
        prepare_run(trainer.run, recipe, trainer.stores)
        if recipe.window:
            sizes = [store.manifest.num_samples for store in trainer.stores]
            sizes = sizes if recipe.weights else [sum(sizes)]
            radii = " or ".join(f"{shuffle_radius(size, recipe.window):,}" for size in sizes)
            print(f"window: a sample is shuffled among {radii} rows", flush=True)
        ranks.wait()
        return replace(trainer, advance=advance).train()


@contextmanager
def _bars(recipe: Recipe) -> Iterator[Callable[[int, int], None]]:
    """A bar for the run and one for each stage, so that each tells its end."""
    totals = {"the run": recipe.num_samples} | {f"  {n}: {s.name}": s.num_samples for n, s in enumerate(recipe.stages)}
    with bars(totals, "samples") as (whole, *stages):

        def advance(stage: int, samples: int) -> None:
            whole.advance(samples)
            stages[stage].advance(samples)

        yield advance


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recipe", help=f"a TOML file, or one of: {', '.join(shipped_recipes())}")
    add("overrides", nargs="*", metavar="key=value", help="changes to the recipe, such as stages.0.samples=100_000")
    add("--store", type=Path, required=True, action="append", help="folder of prep.build; repeat to mix")
    add("--out", type=Path, required=True, metavar="RUN", help="run folder; an unfinished run in it goes on")
    _add_machine(parser)
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> None:
    """Machine facts: see `train.machine.Machine`."""
    add, on_gpu = parser.add_argument, torch.cuda.is_available()
    add("--device", default="cuda" if on_gpu else "cpu", help="cuda or cpu (default: cuda if there)")
    add("--threads", type=int, default=0, help="CPU threads of the model (default 0: as torch chooses)")
    add(
        "--loader",
        default="auto" if on_gpu else "torch",
        choices=("auto", *LOADERS),
        help="auto probes them for two seconds a stage (default: auto with a GPU, else torch)",
    )
    add("--loader-threads", type=int, default=1, help="CPU threads that decode (default 1)")
    add("--beton", type=Path, nargs="*", default=[], help="exported files of the view, for --loader ffcv")
    damaged = "rows: end the run, or show the next, counted (default refuse)"
    add("--damaged", default="refuse", choices=("refuse", "replace"), help=damaged)
    add("--resume", default="auto", choices=("auto", "never"), help="never: refuse a folder with a run (default auto)")
    add("--parallel", default="ddp", choices=KINDS, help="under torchrun: whole weights a rank, or parts (default ddp)")
    add("--compile", action="store_true", help="compile the towers, once a stage")
    add("--checkpoint-blocks", action="store_true", help="compute blocks again in the backward pass, to save memory")
    add("--micro-batch", type=int, default=0, help="samples that a rank encodes at once (default 0: its whole share)")
    add("--ema", type=float, default=0.0, metavar="DECAY", help="keep an average of the weights (default 0: none)")
    add("--keep", type=int, default=2, help="newest checkpoints that are kept, besides stages' ends (default 2)")
    add("--keep-every", type=int, default=0, help="and one every so many samples (default 0: none)")
    add("--wandb", default="", metavar="PROJECT", help="report to Weights & Biases too")


def _machine(args: argparse.Namespace) -> Machine:
    """The flags as a `Machine`. Raises `UserError` for a number out of its range."""
    for option, value, least in (
        ("--threads", args.threads, 0),
        ("--loader-threads", args.loader_threads, 0),
        ("--micro-batch", args.micro_batch, 0),
        ("--keep", args.keep, 1),
        ("--keep-every", args.keep_every, 0),
    ):
        if value < least:
            raise UserError(option, f"wanted {least} or more, found {value}", "See python -m train.run --help.")
    if not 0 <= args.ema < 1:
        raise UserError("--ema", f"wanted 0 to less than 1, found {args.ema}", "Usual values: 0.999 to 0.9999.")
    return Machine(
        loader=args.loader,
        host=Host(args.device, args.loader_threads, tuple(args.beton)),
        replace_damaged=args.damaged == "replace",
        parallel=args.parallel,
        compile=args.compile,
        checkpoint_blocks=args.checkpoint_blocks,
        micro_batch=args.micro_batch,
        ema=args.ema,
        keep_checkpoints=args.keep,
        keep_every=args.keep_every,
        wandb=args.wandb,
    )


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_intermixed_args(argv)
    machine = _machine(args)
    check_device(args.device)
    if args.device == "cpu":
        keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = load_recipe(args.recipe, args.overrides)
    stores = tuple(open_store(path) for path in args.store)
    if args.resume == "never" and (args.out / "recipe.toml").exists():
        raise UserError(str(args.out), "--resume never, and there is a run in it", "Choose another --out.")
    with joined(args.device) as ranks:
        machine = replace(machine, host=replace(machine.host, device=ranks.device))
        try:
            state = train(Trainer(recipe, stores, args.out, ranks, machine))
        except Ended:
            if ranks.is_first:
                print(f"Asked to end: saved {checkpoint.found(args.out)[-1]}. The same command goes on.", flush=True)
            raise SystemExit(128 + signal.SIGTERM) from None
    if ranks.is_first:
        print(
            f"Done: {state.samples_seen:,} samples, {state.flops:.3g} training FLOPs, {state.seconds:,.0f} s.\n"
            f"Weights: {checkpoint.found(args.out)[-1] / 'weights.safetensors'}\n"
            f"Next: python -m eval.run {args.out} --zeroshot FOLDER_PER_CLASS"
        )


if __name__ == "__main__":
    run_main(main)
