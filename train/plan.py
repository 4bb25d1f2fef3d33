"""Say what a recipe will take, before it takes it: FLOPs, hours, money, memory, and the loader it needs.

    python -m train.plan h14_i36_t8_v2 --gpus 64 --gpu h100 --budget-usd 10000
    python -m train.plan demo --probe                 # hours for this machine, measured in under a minute
    python -m train.plan --probe --json here.json     # keep that, for --gpu here.json
    python -m train.plan clipa_v1_study               # every cell of a sweep; --list: their names alone
    python -m train.plan --published                  # what CLIPA's models took, beside what is predicted

RECIPE is a TOML file, the name of a shipped one, a sweep, or SWEEP:CELL; key=value changes it as in `train.run`.
"""

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from prep.errors import UserError, run_main
from prep.files import write_json
from train.config import load_recipe, shipped_recipes
from train.hardware import HARDWARE, find_hardware
from train.plan_report import (
    cells_table,
    plan_notes,
    plan_table,
    probe_lines,
    published_rows,
    published_table,
    reach_lines,
)
from train.probe import probe
from train.stage_plan import Asked, Plan, make_plan, reach
from train.sweep import Sweep, find_sweep, load_sweep, shipped_sweeps

PROBE_SECONDS = 4.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ", ".join([*shipped_recipes(), *shipped_sweeps()])
    add("recipe", nargs="?", metavar="RECIPE", help=f"a TOML file, or one of {names}")
    add("overrides", nargs="*", metavar="key=value", help="changes to the recipe, such as stages.0.budget.res=84")
    add("--list", action="store_true", help="the names of a sweep's cells, one a line")
    add("--json", type=Path, metavar="FILE", help="all of it, in bytes, seconds, hours and dollars")
    add("--published", action="store_true", help="hours that CLIPA's models took, beside what is predicted")
    on = parser.add_argument_group("devices").add_argument
    on("--gpu", metavar="NAME", help=f"{', '.join(HARDWARE)}, or the JSON of --probe (default a100)")
    on("--probe", action="store_true", help="measure this machine and plan with it")
    on("--gpus", type=int, metavar="N", help="how many of them (default 8; 1 with --probe)")
    on(
        "--price",
        type=float,
        metavar="USD",
        help="of a device for an hour (default: the device's, see train/hardware.py)",
    )
    on("--mfu", type=float, metavar="SHARE", help="of the peak, instead of the estimate of train/step_time.py")
    on(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute blocks again instead of keeping them (default: yes, as CLIPA; with --probe: no)",
    )
    on("--budget-usd", type=float, metavar="USD", help="say how far this goes")
    return parser


def _check(args: argparse.Namespace) -> None:
    if args.recipe is None and not (args.probe or args.published):
        raise UserError("RECIPE", "wanted a recipe, --probe or --published; found none", "See --help.")
    if args.probe and args.gpu:
        raise UserError("--gpu", "--probe measures the device of this machine", "Give one of the two.")
    for option, value, most in (
        ("--gpus", args.gpus, math.inf),
        ("--mfu", args.mfu, 1),
        ("--price", args.price, math.inf),
        ("--budget-usd", args.budget_usd, math.inf),
    ):
        if value is not None and not (0 < value <= most and value < math.inf):
            wanted = "more than 0" if most > 1 else "more than 0 and at most 1"
            raise UserError(option, f"wanted {wanted}, found {value}", "Change it.")


def _asked(args: argparse.Namespace, console: Console, report: dict[str, Any]) -> Asked:
    if args.probe:
        hardware, towers = probe("cuda" if torch.cuda.is_available() else "cpu", PROBE_SECONDS)
        report |= {"device": asdict(hardware), "towers": [asdict(tower) for tower in towers]}
        _say(console, probe_lines(hardware, towers))
    else:
        hardware = find_hardware(args.gpu or "a100")
    on_data_sheet = hardware in HARDWARE.values()
    return Asked(
        hardware,
        num_devices=args.gpus or (8 if on_data_sheet else 1),
        checkpointing=on_data_sheet if args.checkpointing is None else args.checkpointing,
        mfu=args.mfu,
        price=hardware.price if args.price is None else args.price,
    )


def _say(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _as_table(plan: Plan) -> dict[str, Any]:
    totals = {key: getattr(plan, key) for key in ("training_flops", "device_hours", "hours", "cost")}
    return asdict(plan) | {"in_all": totals}


def _plan_sweep(sweep: Sweep, args: argparse.Namespace, asked: Asked, console: Console) -> list[dict[str, Any]]:
    if args.budget_usd is not None:
        raise UserError(
            "--budget-usd", f"{sweep.name} is a sweep", f"Ask for a cell: {sweep.name}:{sweep.cells[0].name}"
        )
    plans = [make_plan(sweep.recipe(cell.name, args.overrides), asked) for cell in sweep.cells]
    console.print(cells_table(plans))
    return [_as_table(plan) for plan in plans]


def _plan_recipe(args: argparse.Namespace, asked: Asked, console: Console, report: dict[str, Any]) -> None:
    recipe = load_recipe(args.recipe, args.overrides)
    plan = make_plan(recipe, asked)
    report["plan"] = _as_table(plan)
    console.print(plan_table(plan))
    _say(console, plan_notes(plan, recipe))
    if args.budget_usd is not None:
        if not asked.price:
            raise UserError("--budget-usd", "this device has no price", "Add --price, US dollars a device-hour.")
        report["reach"] = asdict(reach(plan, args.budget_usd))
        _say(console, reach_lines(plan, reach(plan, args.budget_usd)))


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_intermixed_args(argv)
    _check(args)
    # A file or a pipe has no width of its own: tables are not to be cut there.
    console = Console() if Console().is_terminal else Console(width=120)
    report: dict[str, Any] = {}
    sweep = load_sweep(args.recipe) if args.recipe and find_sweep(args.recipe) else None
    if args.list:
        if sweep is None:
            raise UserError("--list", "wanted a sweep", f"Shipped sweeps: {', '.join(shipped_sweeps())}.")
        print(*(f"{sweep.name}:{cell.name}" for cell in sweep.cells), sep="\n")
        return
    if args.published:
        table, notes = published_table()
        console.print(table)
        _say(console, notes)
        report["published"] = published_rows()
    if args.recipe or args.probe:
        asked = _asked(args, console, report)
        if sweep is not None:
            report["plans"] = _plan_sweep(sweep, args, asked, console)
        elif args.recipe:
            _plan_recipe(args, asked, console, report)
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    run_main(main)
