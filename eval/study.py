"""CLIPA's question on your data: train and judge a table of small models, and draw what the paper drew.

    python -m eval.study --plan laptop --dry-run                                    cells, FLOPs, hours
    python -m eval.study --plan laptop --store STORE --input 'pairs/*.tar' --out study/

A plan (a TOML file, or one that ships: eval/plans) names a sweep of recipes, seeds, figures and claims. Learning rates
are found first. Each cell is trained by the trainer of `train.run` and judged in the same way; interrupted, the same
command goes on. In OUT lie afterwards

    study.json       the resolved plan, the machine, every result, every claim with its interval
    study.html       the page: figures, tables, claims, the plan
    cells/           one result a training; it alone decides what is done
    runs/            the runs without their checkpoints (--keep-runs keeps those)
    stores/          stores that the plan asks for besides --store, made from --input

study.json alone, in an empty OUT, is taken up again. On a cluster, --list prints a line a training, which train.run
takes (torchrun -m train.run LINE) on any machine; first those of the search, then, once these are judged, the cells. A
run that was so begun in OUT/runs/NAME is compared with the plan and judged by this command, and is left whole.
"""

import argparse
import fnmatch
import os
from pathlib import Path

import torch
from rich.console import Console

from eval.study_cell import Training
from eval.study_claims import judge_claims
from eval.study_estimate import estimate
from eval.study_judge import Judge, check_retrieval
from eval.study_list import commands
from eval.study_page import write_page
from eval.study_plan import StudyPlan
from eval.study_plan_file import load_plan, shipped_plans
from eval.study_report import claims_table, summary, write_study
from eval.study_run import Result, Study, best_factors, missing, restore, run_all
from eval.study_statistics import means
from eval.study_stores import make_stores, store_builds
from prep.errors import UserError, run_main
from prep.files import working_in
from prep.store import open_store
from train.hardware import HARDWARE, find_hardware
from train.machine import check_device
from train.sweep import Cell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--plan", required=True, help=f"a TOML file, or one of: {', '.join(shipped_plans())}")
    add("--store", action="append", default=[], metavar="[LABEL=]STORE", help="of prep.build; LABEL: of the plan's")
    add("--input", nargs="+", default=[], metavar="PAIRS", help="pairs to make the plan's other stores from")
    add("--out", type=Path, help="folder of the study; an unfinished one in it goes on")
    add("--zeroshot", type=Path, metavar="DIR", help="images with classes (default: the plan's, beside the store)")
    add("--retrieval", type=Path, metavar="STORE", help="held-out pairs (default: the plan's, beside the store)")
    add("--seeds", type=int, nargs="+", help="some of the plan's (default: all)")
    add("--cells", default="*", metavar="PATTERN", help="some of the plan's, such as 's_*' (default: all)")
    add("--jobs", type=int, default=0, help="trainings at a time (default: one a core; with a GPU one)")
    add("--device", help="cuda or cpu (default: cuda if there)")
    add("--keep-runs", action="store_true", help="keep the checkpoints")
    add("--dry-run", action="store_true", help="print cells, FLOPs and hours for this machine; train nothing")
    gpus = f"of --dry-run: {', '.join(HARDWARE)}, or the file of train.plan --probe --json (default: measure this one)"
    add("--gpu", metavar="NAME", help=gpus)
    add("--list", action="store_true", help="print every training that is not done as train.run takes it")
    add("--page", action="store_true", help="only write study.json and the page again, from what is done")
    return parser


def _stores(given: list[str], plan: StudyPlan) -> dict[str, Path]:
    stores: dict[str, Path] = {}
    for text in given:
        label, equals, folder = text.rpartition("=")
        if equals and label not in plan.file.stores:
            known = ", ".join(plan.file.stores) or "none"
            raise UserError(f"--store {text}", f"the plan has no store called {label!r}", f"Its stores: {known}.")
        if label in stores:
            raise UserError(f"--store {text}", "the same store is given twice", "Give each once.")
        stores[label] = Path(folder)
    if "" not in stores:
        raise UserError("--store", "wanted the store that the cells are trained on", "Give --store STORE.")
    for path in stores.values():
        open_store(path)
    return stores


def _beside(given: Path | None, planned: str, store: Path) -> Path | None:
    return given if given is not None else (store / planned).resolve() if planned else None


def _workers(args: argparse.Namespace) -> tuple[str, int, int]:
    """Device, jobs, and the threads of each on a CPU."""
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    if args.jobs < 0:
        raise UserError("--jobs", f"wanted at least 1, found {args.jobs}", "Leave it out for one a core.")
    cores = len(os.sched_getaffinity(0))
    jobs = args.jobs or (cores if device == "cpu" else 1)
    return device, jobs, max(1, cores // jobs) if device == "cpu" else 0


def _study(args: argparse.Namespace, plan: StudyPlan) -> Study:
    if args.out is None:
        raise UserError("--out", "wanted a folder for the study", "Give --out study/.")
    stores = _stores(args.store, plan)
    zeroshot = _beside(args.zeroshot, plan.file.zeroshot, stores[""])
    if zeroshot is None or not zeroshot.exists():
        problem = f"wanted images to judge by, found {'none' if zeroshot is None else f'nothing at {zeroshot}'}"
        raise UserError("--zeroshot", problem, "Give a folder with one folder of images per class.")
    device, jobs, threads = _workers(args)
    file = plan.file
    judge = Judge(
        zeroshot,
        _beside(args.retrieval, file.retrieval, stores[""]),
        file.templates,
        device,
        threads,
        args.keep_runs,
        file.classes,
        file.preprocess,
        1 if device == "cpu" else max(1, len(os.sched_getaffinity(0)) // jobs),
    )
    return Study(plan, args.out, stores, judge, jobs)


def _check(args: argparse.Namespace, plan: StudyPlan) -> list[Cell]:
    """The cells that are asked for. Raises `UserError` when these or the seeds are none of the plan's."""
    if unknown := sorted(set(args.seeds or ()) - set(plan.seeds)):
        known = ", ".join(map(str, plan.seeds))
        raise UserError(f"--seeds {unknown[0]}", "is none of the plan's", f"Its seeds: {known}.")
    cells = [cell for cell in plan.sweep.cells if fnmatch.fnmatchcase(cell.name, args.cells)]
    if not cells:
        raise UserError(f"--cells {args.cells}", "no cell of the plan is called so", "--list shows them.")
    return cells


def _wanted(study: Study, factors: dict[str, float], args: argparse.Namespace) -> list[Training]:
    return [t for t in study.cells(factors, args.seeds) if fnmatch.fnmatchcase(t.cell, args.cells)]


def _undone(study: Study, args: argparse.Namespace) -> list[Training]:
    """Those without a result, told before the learning rates are known: these decide no name and no store."""
    unknown = dict.fromkeys(study.plan.sweep.axes[study.plan.file.rates.axis], 1.0)
    cells = study.out / "cells"
    return [t for t in _wanted(study, unknown, args) if not (cells / f"{t.name}.json").is_file()]


def _list(args: argparse.Namespace, plan: StudyPlan) -> None:
    if args.store:
        study = _study(args, plan)
    else:
        nowhere = Judge(Path("ZEROSHOT"), None, plan.file.templates, "cpu", 0, False)
        study = Study(plan, args.out or Path("OUT"), {"": Path("STORE")}, nowhere, 1)
    restore(study.out)
    searched = study.done(study.search())
    factors = best_factors(study, searched.values())
    cells = _wanted(study, factors, args)
    done = study.done(cells)
    found = len(factors) == len(plan.sweep.axes[plan.file.rates.axis])
    left = missing(study.search(), searched), missing(cells, done) if found else None
    print(*commands(study, *left, len(searched) + len(done)), sep="\n")


def _conclude(study: Study, factors: dict[str, float], searched: list[Result], console: Console) -> None:
    """Write what there is of the study, and say it."""
    everything = study.cells(factors)
    results = list(study.done(everything).values())
    known = means(results, study.plan.file.rates.axis) if results else None
    claims = judge_claims(study.plan, known)
    told = write_study(study, factors, searched, results, known, claims)
    console.print(summary(told))
    console.print(claims_table(claims))
    console.print(str(write_page(study.out, told)), soft_wrap=True)


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    plan = load_plan(args.plan)
    cells = _check(args, plan)
    # A file or a pipe has no width of its own: tables are not to be cut there.
    width = None if Console().is_terminal else 120
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    if args.dry_run:
        hardware = find_hardware(args.gpu) if args.gpu else None
        device, jobs, threads = _workers(args)
        jobs = args.jobs or 1 if hardware else jobs
        estimate(plan, cells, args.seeds or plan.seeds, jobs, console, device, threads, hardware)
        return
    if args.list:
        _list(args, plan)
        return
    study = _study(args, plan)
    if args.page:  # beside a study that is under way, too
        restore(study.out)
        searched = study.done(study.search())
        _conclude(study, best_factors(study, searched.values()), list(searched.values()), console)
        return
    with working_in(study.out):
        restore(study.out)
        check_retrieval(study.judge, (plan.sweep.recipe(cell.name) for cell in cells))
        builds = store_builds(study, args.input, _undone(study, args))
        searched = run_all(study, study.search(), "learning rates")
        factors = best_factors(study, searched.values())
        console.print(f"Learning rates: {', '.join(f'{label} x {f:g}' for label, f in factors.items())}")
        wanted = _wanted(study, factors, args)
        make_stores(builds)
        run_all(study, wanted, "cells")
        _conclude(study, factors, list(searched.values()), console)


if __name__ == "__main__":
    run_main(main)
