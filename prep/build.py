"""Prepare pairs for training: decode every image once, write multi-resolution shards with token ids and priorities.

    python -m prep.build --input 'pairs/*.tar' --out store/ --res 112 160 224

Every tar becomes one shard. Interrupted, the same command goes on with the shards that are missing, and ends with the same
bytes as a build that was never interrupted, with any number of workers.
"""

import argparse
import multiprocessing
import os
import shlex
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from prep.errors import UserError, run_main
from prep.images import ImageLimits
from prep.plan import Options, Plan
from prep.progress import Bar, bar
from prep.shard import Report, build_shard, finished
from prep.sources import list_tars
from prep.store import Manifest, ShardRecord, fold, write_manifest
from prep.tagger import Tagger, load_tagger
from prep.tokenizer import Tokenizer, load_tokenizer

# CLIPA crops at least 40% of an image's area; the side of such a square crop is sqrt(0.4) of the whole.
DEFAULT_MARGIN = 1 / 0.4**0.5
DEFAULT_QUALITY = 95
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Job:
    """What every worker needs once: the store's folder and the plan."""

    store: Path
    plan: Plan


@dataclass
class _Worker:
    """What a worker process keeps between shards."""

    job: _Job
    tokenizer: Tokenizer
    tagger: Tagger
    report: Report


_worker: _Worker | None = None


def _start_worker(job: _Job, num_pairs: "Synchronized[int]", num_bytes: "Synchronized[int]") -> None:
    global _worker
    torch.set_num_threads(1)

    def report(pairs: int, size: int) -> None:
        with num_pairs.get_lock():
            num_pairs.value += pairs
            num_bytes.value += size

    _worker = _Worker(job, load_tokenizer(), load_tagger(job.plan.options.tagger["name"]), report)


def _work(shard: int) -> ShardRecord:
    assert _worker is not None
    job = _worker.job
    source = job.plan.inputs[shard]
    return build_shard(job.store, shard, source, job.plan.options, _worker.tokenizer, _worker.tagger, _worker.report)


def _build_here(job: _Job, shards: list[int], progress: Bar) -> Iterator[ShardRecord]:
    """One worker: no second process, so that a debugger and a profiler see everything."""
    tokenizer, tagger = load_tokenizer(), load_tagger(job.plan.options.tagger["name"])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shard in shards:
            source = job.plan.inputs[shard]
            yield build_shard(
                job.store, shard, source, job.plan.options, tokenizer, tagger, lambda _, size: progress.advance(size)
            )
    finally:
        torch.set_num_threads(threads)


def _build_in_processes(job: _Job, shards: list[int], num_workers: int, progress: Bar) -> Iterator[ShardRecord]:
    context = multiprocessing.get_context("spawn")
    num_pairs, num_bytes = context.Value("q", 0), context.Value("q", 0)
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (job, num_pairs, num_bytes))
    start, seen = perf_counter(), 0
    try:
        waiting: dict[Future[ShardRecord], int] = {pool.submit(_work, shard): shard for shard in shards}
        while waiting:
            done, _ = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            progress.advance(num_bytes.value - seen)
            seen = num_bytes.value
            progress.describe(f"{num_pairs.value / (perf_counter() - start):,.0f} pairs/s")
            for future in done:
                shard = waiting.pop(future)
                yield _result(future, job.plan.inputs[shard])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: "Future[ShardRecord]", source: Path) -> ShardRecord:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UserError(
            str(source),
            "a worker process died while this tar, or another beside it, was being prepared (killed, or out of memory)",
            "Finished shards are kept: run the same command again, with fewer --workers if memory is short.",
        ) from error


@contextmanager
def _bytes_bar(inputs: list[Path]) -> Iterator[Bar]:
    with bar(sum(path.stat().st_size for path in inputs), "preparing", "bytes") as progress:
        yield progress


def build(plan: Plan, store: Path, num_workers: int) -> Manifest:
    """Build what is missing of a store and write its manifest last.

    Raises `UserError` when the folder belongs to another plan, a worker dies, or not one pair was kept.
    """
    plan.adopt(store)
    _remove_half_written(store)
    done = {shard: record for shard in range(len(plan.inputs)) if (record := finished(store, shard))}
    missing = [shard for shard in range(len(plan.inputs)) if shard not in done]
    job, num_workers = _Job(store, plan), min(num_workers, len(missing))
    if missing:
        with _bytes_bar([plan.inputs[shard] for shard in missing]) as progress:
            records = (
                _build_here(job, missing, progress)
                if num_workers == 1
                else _build_in_processes(job, missing, num_workers, progress)
            )
            done |= {record.shard: record for record in records}
    manifest = fold(plan.fingerprint, _settings(plan.options), [done[shard] for shard in sorted(done)])
    if manifest.num_samples == 0:
        raise UserError(
            str(store),
            f"none of the {manifest.num_read:,} pairs could be kept ({_counts(manifest.rejects)})",
            f"The reasons, pair by pair, are in {store / 'rejects'}.",
        )
    write_manifest(store, manifest)
    return manifest


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


def _summary(store: Path, manifest: Manifest, seconds: float) -> None:
    console = Console(highlight=False)
    table = Table(title=f"{store}: {manifest.num_samples:,} samples", title_justify="left", show_header=False)
    rejected = sum(manifest.rejects.values())
    table.add_row("read", f"{manifest.num_read:,} pairs in {seconds:,.1f} s ({manifest.num_read / seconds:,.0f}/s)")
    table.add_row("kept", f"{manifest.num_samples:,}")
    table.add_row("rejected", f"{rejected:,}" + (f" ({_counts(manifest.rejects)})" if rejected else ""))
    table.add_row("captions cut at 77 tokens", f"{manifest.num_captions_cut:,}")
    for res in manifest.resolutions:
        size = manifest.bytes_of(str(res))
        small = manifest.num_small.get(str(res), 0)
        note = f"; {small:,} originals were smaller than the margin copy" if small else ""
        table.add_row(f"{res} px", f"{size / 1e6:,.1f} MB, {size / manifest.num_samples:,.0f} bytes a sample{note}")
    table.add_row("tokenizer, tagger", f"{manifest.tokenizer['name']}, {_name(manifest.tagger)}")
    console.print(table)
    console.print(f"Next: python -m train.run RECIPE --store {shlex.quote(str(store))} --out run/", soft_wrap=True)


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
    manifest = build(Plan(tuple(inputs), options), args.out, args.workers)
    _summary(args.out, manifest, perf_counter() - start)


if __name__ == "__main__":
    run_main(main)
