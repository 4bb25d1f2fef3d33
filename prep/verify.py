"""Check a store, byte by byte: every hash, every count, and that row i is the same pair in every column.

    python -m prep.verify store/

Plan, manifest and records are held against each other, each file against its record, each row against its hash, and the
columns against each other. A damaged byte is told with file, record batch and row. The store, which may lie at a URL,
is only read. Ends with exit code 2 when anything is found.
"""

import argparse
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from prep.errors import UserError, run_main
from prep.manifest import FileRecord, Manifest, read_manifest
from prep.places import Folder
from prep.progress import bar
from prep.schemas import KINDS, ROWS_FOLDER
from prep.verify_accounts import Records, check_accounts
from prep.verify_columns import check_columns
from prep.verify_file import FileReport, FileTask, Problem, check_file

_MAX_NAMED = 100
# Starting a process costs as much as checking so many bytes.
_BYTES_A_WORKER = 512 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found, in the order of files and rows, and how much it read."""

    problems: tuple[Problem, ...]
    num_samples: int
    num_columns: int
    num_files: int
    num_bytes: int


def verify(folder: Folder, num_workers: int = 1, decode: bool = False) -> Verdict:
    """Check everything in a store. decode: decode every JPEG, too. Raises `UserError` when it is no store at all."""
    manifest = read_manifest(folder)
    problems, records = check_accounts(folder, manifest)
    tasks = _tasks(folder, manifest, records, decode)
    reports: dict[str, FileReport] = {}
    with bar(sum(max(task.num_bytes) for task in tasks), "verifying", "bytes") as progress:
        for task, report in _run(tasks, num_workers):
            reports[task.path] = report
            progress.advance(max(task.num_bytes))
    owners = {xxh3: task.path for task in tasks for xxh3 in task.xxh3}
    for task in tasks:
        problems += _whole_hash(task, reports[task.path], owners)
        problems += reports[task.path].problems
    problems += check_columns(folder, manifest, reports)
    order = {path: place for place, path in enumerate(dict.fromkeys(problem.path for problem in problems))}
    problems.sort(key=lambda p: (order[p.path], -1 if p.batch is None else p.batch, -1 if p.row is None else p.row))
    num_bytes = sum(report.num_bytes for report in reports.values())
    return Verdict(tuple(problems), manifest.num_samples, len(manifest.columns), len(tasks), num_bytes)


def _tasks(folder: Folder, manifest: Manifest, records: Records, decode: bool) -> list[FileTask]:
    """One for each file that the manifest names, the largest first, so that no worker is left with one at the end."""
    is_first = manifest.format_version == 1
    tasks: dict[str, FileTask] = {}
    for name, column in manifest.columns.items():
        if column.kind not in KINDS:
            continue
        for shard, file in zip(manifest.shards, column.files, strict=False):
            record = records.get((name, shard.shard))
            told = (file, *(record.files[:1] if record else ()))
            columns = {**(tasks[file.path].columns if file.path in tasks else {}), column.kind: column.settings}
            counts = record.counts if record else None
            tasks[file.path] = _task(folder, told, shard.num_samples, columns, counts, not is_first, decode)
    for shard, file in zip(manifest.shards, manifest.reject_files, strict=False):
        record = records.get((ROWS_FOLDER, shard.shard))
        told = (file, *(record.files[1:] if record else ()))
        counts = record.rejects if record else None
        num_rejects = shard.num_read - shard.num_samples
        tasks[file.path] = _task(folder, told, num_rejects, {}, counts, not is_first, decode)
    return sorted(tasks.values(), key=lambda task: -max(task.num_bytes))


def _task(
    folder: Folder,
    told: Sequence[FileRecord],
    num_rows: int,
    columns: dict[str, dict[str, Any]],
    counts: dict[str, int] | None,
    has_row_hashes: bool,
    decode: bool,
) -> FileTask:
    sizes, hashes = (frozenset(values) for values in zip(*((f.num_bytes, f.xxh3) for f in told), strict=True))
    return FileTask(folder.url, told[0].path, sizes, hashes, num_rows, columns, counts, has_row_hashes, decode)


def _run(tasks: Sequence[FileTask], num_workers: int) -> Iterator[tuple[FileTask, FileReport]]:
    num_workers = min(num_workers, 1 + sum(max(task.num_bytes) for task in tasks) // _BYTES_A_WORKER)
    if num_workers <= 1:
        yield from ((task, check_file(task)) for task in tasks)
        return
    # Processes: hashing rows is Python's work, and threads would wait for each other.
    with ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(check_file, task): task for task in tasks}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool as error:
            problem = "a process died while it read a file; the system may have run out of memory"
            raise UserError(
                "prep.verify", problem, "Give fewer --workers; with 1 there are no other processes."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _whole_hash(task: FileTask, report: FileReport, owners: dict[str, str]) -> list[Problem]:
    if not report.xxh3 or report.xxh3 in task.xxh3:
        return []
    text = f"wanted the hash {' or '.join(sorted(task.xxh3))}, found {report.xxh3}"
    if report.xxh3 in owners:
        text += f", which is that of {owners[report.xxh3]}"
    elif task.can_name_rows and not report.problems:
        text += "; every row fits its own hash: the damage is in the file's header, footer, metadata or padding"
    return [Problem(task.path, text)]


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m prep.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="folder or URL of a store")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--decode", action="store_true", help="decode every JPEG as well (default: do not)")
    args = parser.parse_args(argv)
    if args.workers < 1:
        raise UserError("--workers", f"wanted at least 1, found {args.workers}", "Give another number.")
    start = perf_counter()
    verdict = verify(Folder.of(args.store), args.workers, args.decode)
    seconds = perf_counter() - start
    size = f"{verdict.num_files:,} files, {verdict.num_bytes / 1e6:,.1f} MB"
    if not verdict.problems:
        rate = f"{seconds:,.1f} s, {verdict.num_bytes / 1e6 / seconds:,.0f} MB/s"
        print(f"OK: {verdict.num_samples:,} samples, {verdict.num_columns} columns, {size}: all as written ({rate})")
        return
    for problem in verdict.problems[:_MAX_NAMED]:
        print(problem)
    if len(verdict.problems) > _MAX_NAMED:
        print(f"... and {len(verdict.problems) - _MAX_NAMED:,} more")
    num_damaged = len({problem.path for problem in verdict.problems})
    raise UserError(
        args.store,
        f"{len(verdict.problems):,} problems in {num_damaged:,} of its files ({size} read)",
        "Delete the files named above and run the same prep.build command again: it builds what is missing.",
    )


if __name__ == "__main__":
    run_main(main)
