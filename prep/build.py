"""Prepare pairs for training: decode every image once, write multi-resolution shards with token ids and priorities.

    python -m prep.build --input 'pairs/*.tar' --out store/ --res 112 160 224

Every tar becomes one shard. Interrupted, the same command goes on with the shards that are missing, and ends with the
same bytes as a build that was never interrupted, with any number of workers.
"""

import argparse
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prep.errors import UserError, run_main
from prep.files import working_in
from prep.images import ImageLimits
from prep.plan import Options, Plan, adopt
from prep.progress import bar
from prep.shard import build_shard, finished
from prep.sources import list_tars
from prep.store import Manifest, ShardRecord, fold, write_manifest
from prep.tagger import load_tagger
from prep.tokenizer import load_tokenizer
from prep.workers import Report, run_tasks

# CLIPA crops at least 40% of an image's area; the side of such a square crop is sqrt(0.4) of the whole.
DEFAULT_MARGIN = 1 / 0.4**0.5
DEFAULT_QUALITY = 95


@dataclass(frozen=True, slots=True)
class _StartWorker:
    """What a worker loads once, and then does with each shard."""

    store: Path
    plan: Plan

    def __call__(self, report: Report) -> Callable[[int], ShardRecord]:
        torch.set_num_threads(1)
        options, inputs = self.plan.options, self.plan.inputs
        tokenizer, tagger = load_tokenizer(), load_tagger(options.tagger["name"])
        return lambda shard: build_shard(self.store, shard, inputs[shard], options, tokenizer, tagger, report)


def build(plan: Plan, store: Path, num_workers: int) -> tuple[Manifest, int]:
    """Build what is missing of a store and write its manifest last; returns it and the pairs that were read now.

    Raises `UserError` when the folder belongs to another plan, a worker dies, or not one pair was kept.
    """
    with working_in(store):
        return _build(plan, store, num_workers)


def _build(plan: Plan, store: Path, num_workers: int) -> tuple[Manifest, int]:
    adopt(store, plan.to_json())
    _remove_half_written(store)
    done = {shard: record for shard in range(len(plan.inputs)) if (record := finished(store, shard))}
    missing = [shard for shard in range(len(plan.inputs)) if shard not in done]
    if missing:
        with bar(sum(plan.inputs[shard].stat().st_size for shard in missing), "preparing", "bytes") as progress:
            records = run_tasks(_StartWorker(store, plan), missing, num_workers, progress, "pairs")
            done |= {record.shard: record for record in records}
    manifest = fold(plan.fingerprint, _settings(plan.options), [done[shard] for shard in sorted(done)])
    if manifest.num_read == 0:
        raise UserError(str(plan.inputs[0]), "wanted tars of pairs, but they are empty", "Give other --input.")
    if manifest.num_samples == 0:
        raise UserError(
            str(store),
            f"none of the {manifest.num_read:,} pairs could be kept ({_counts(manifest.rejects)})",
            f"The reasons, pair by pair, are in {store / 'rejects'}.",
        )
    write_manifest(store, manifest)
    return manifest, sum(done[shard].num_read for shard in missing)


def _settings(options: Options) -> dict[str, object]:
    return {
        "resolutions": options.resolutions,
        "margin": options.margin,
        "encoding": f"jpeg q{options.quality} 4:4:4",
        "tokenizer": options.tokenizer,
        "tagger": options.tagger,
    }


def _remove_half_written(store: Path) -> None:
    for path in store.glob("*/.*.tmp"):
        path.unlink()


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _summary(store: Path, manifest: Manifest, num_now: int, seconds: float) -> None:
    console = Console(highlight=False)
    table = Table(title=Text(f"{store}: {manifest.num_samples:,} samples"), title_justify="left", show_header=False)
    rejected = sum(manifest.rejects.values())
    now = f"{num_now:,} now in {seconds:,.1f} s, {num_now / seconds:,.0f}/s" if num_now else "all before"
    table.add_row("read", f"{manifest.num_read:,} pairs ({now})")
    table.add_row("kept", f"{manifest.num_samples:,}")
    table.add_row("rejected", f"{rejected:,}" + (f" ({_counts(manifest.rejects)})" if rejected else ""))
    table.add_row("captions longer than 77 tokens", f"{manifest.num_captions_truncated:,}")
    for res in manifest.resolutions:
        size = manifest.bytes_of(str(res))
        small = manifest.num_small.get(str(res), 0)
        note = f"; {small:,} originals were smaller than the margin copy" if small else ""
        table.add_row(f"{res} px", f"{size / 1e6:,.1f} MB, {size / manifest.num_samples:,.0f} bytes a sample{note}")
    table.add_row("tokenizer, tagger", f"{manifest.tokenizer['name']}, {_name(manifest.tagger)}")
    console.print(table)
    console.print(
        Text(f"Next: python -m train.run RECIPE --store {shlex.quote(str(store))} --out run/"), soft_wrap=True
    )


def _name(tagger: dict[str, str]) -> str:
    return " ".join(tagger[key] for key in ("name", "model", "version") if key in tagger)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prep.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    limits = ImageLimits()
    add("--input", nargs="+", required=True, metavar="TAR", help="webdataset tars; quoted patterns are expanded")
    add("--out", type=Path, required=True, metavar="STORE", help="folder of the store")
    add(
        "--res",
        type=int,
        nargs="+",
        required=True,
        metavar="PX",
        help="sides of the square images to train on, in pixels",
    )
    add(
        "--margin",
        type=float,
        default=DEFAULT_MARGIN,
        help="stored short side / res (default 1.58: room for 40%% crops)",
    )
    add("--quality", type=int, default=DEFAULT_QUALITY, help="JPEG quality 1-100 of stored images, 4:4:4 (default 95)")
    add("--tagger", default="spacy", help="part-of-speech tagger (default spacy)")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one a core)")
    add("--max-pixels", type=int, default=limits.max_pixels, help="larger images are rejected (default %(default)s)")
    add("--max-aspect", type=float, default=limits.max_aspect, help="longer images are rejected (default %(default)s)")
    return parser


def _check(args: argparse.Namespace) -> None:
    wrong = [
        ("--res", [r for r in args.res if not 8 <= r <= 4096], "8 to 4096 pixels"),
        ("--margin", [m for m in [args.margin] if not 1 <= m <= 8], "1 to 8"),
        ("--quality", [q for q in [args.quality] if not 1 <= q <= 100], "1 to 100"),
        ("--workers", [w for w in [args.workers] if w < 1], "at least 1"),
    ]
    for option, values, wanted in wrong:
        if values:
            raise UserError(option, f"wanted {wanted}, found {values[0]}", "See python -m prep.build --help.")


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    _check(args)
    inputs = list_tars(args.input)
    tokenizer, tagger = load_tokenizer(), load_tagger(args.tagger)
    options = Options(
        resolutions=tuple(sorted(set(args.res))),
        margin=args.margin,
        quality=args.quality,
        limits=ImageLimits(max_pixels=args.max_pixels, max_aspect=args.max_aspect),
        tokenizer=tokenizer.identity(),
        tagger=tagger.identity(),
    )
    start = perf_counter()
    manifest, num_now = build(Plan(tuple(inputs), options), args.out, args.workers)
    _summary(args.out, manifest, num_now, perf_counter() - start)


if __name__ == "__main__":
    run_main(main)
