"""Download the images of a list of URLs into tars for `prep.build`: img2dataset, with defaults that suit us.

    python -m prep.fetch URLS.parquet --out pairs/

Every --rows-per-shard lines of the list become a shard: NNNNN.tar with the pairs, NNNNN.parquet with a row for every
line, fetched or not (`status`, `error_message`; `row`, the line in the list), NNNNN_stats.json. Images are kept as they
came, byte for byte: `prep.build` decodes them once, strictly, applies their EXIF orientation and knows 16 bits, so
nothing is lost in between, and here no stranger's image need be decoded. The price is disk; --size bounds it.

The same command again goes on where it left off: shards that are there are left alone. Once the list is through, it
tries again what failed for something that may pass (a name server, a timeout, a busy server ...), into further shards;
keys stay unique, as they begin with the shard's number. A shard is worked on in a hidden folder and named when it is
whole, its tar last: whatever kills this program, no tar is half-written, and a shard for each process is lost at most.

Only http and https, and only public addresses, redirects included: see `prep.fetch_guard`; --allow-private lifts it.
Proxies of the environment are used only with --allow-private, as it is they who would connect. What of img2dataset is
used, and what not, is told in `prep.fetch_worker`; its environment is `prep.fetch_environment`'s.
"""

import argparse
import math
import os
import re
import shlex
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prep.errors import UserError, run_main
from prep.fetch_environment import python_of
from prep.fetch_guard import Limits, may_pass
from prep.fetch_list import CAPTION_NAMES, PLAN, URL_NAMES, Plan, adopt, find_columns, pieces, tables
from prep.fetch_worker import Settings
from prep.fetch_workers import Job, run_jobs
from prep.files import read_json, sync_folder, working_in, write_json
from prep.progress import Bar, bar

FETCHED = "fetched"
_WORK_PREFIX = ".fetching-"
_PARTS = (".parquet", "_stats.json", ".tar")  # in the order in which they are named: a tar that is there is whole


def fetch_list(
    plan: Plan, out: Path, limits: Limits, num_processes: int, num_threads: int, retry: str = "transient"
) -> dict[str, int]:
    """Download what is missing of a list; if nothing is, what failed before. Returns how many lines ended how.

    retry: "transient" (what may pass), "all" or "none". Raises `UserError` for a folder of another plan, a list that
    cannot be read, a shard that cannot be done.
    """
    with working_in(out):
        num_rows = adopt(out, plan)
        for left in out.glob(f"{_WORK_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        finished = _finished(out)
        python = python_of()
        work = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=out))
        try:
            settings = Settings(
                str(work), tuple(plan.columns.as_kept), plan.rows_per_shard, num_threads, plan.size, limits
            )
            if num_rows is None or set(range(math.ceil(num_rows / plan.rows_per_shard))) - set(finished):
                with bar(num_rows, "fetching", "URLs") as progress:
                    jobs = _first_pass(plan, out, work, set(finished), progress)
                    _run(jobs, out, work, settings, num_processes, python, progress)
            elif retry != "none":
                codes, names = _outcomes(out, finished, num_rows)
                wanted = [name != FETCHED and (retry == "all" or may_pass(name)) for name in names]
                chosen = np.array([*wanted, False])[codes]
                with bar(int(chosen.sum()), "fetching again", "URLs") as progress:
                    jobs = _retry_pass(plan, out, work, finished, chosen)
                    _run(jobs, out, work, settings, num_processes, python, progress)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        codes, names = _outcomes(out, _finished(out), int(read_json(out / PLAN)["num_rows"]))
        return {name: int(n) for name, n in zip(names, np.bincount(codes, minlength=len(names)), strict=True) if n}


def _finished(out: Path) -> list[int]:
    tars = [path.stem for path in out.glob("*.tar") if re.fullmatch(r"\d{5,}", path.stem)]
    return sorted(int(stem) for stem in tars if all((out / f"{stem}{part}").is_file() for part in _PARTS))


def _first_pass(plan: Plan, out: Path, work: Path, finished: set[int], progress: Bar) -> Iterator[Job]:
    num_rows = 0
    for shard, table in enumerate(pieces(tables(plan.files, plan.columns), plan.rows_per_shard)):
        num_rows += table.num_rows
        if shard in finished:
            progress.advance(table.num_rows)
        else:
            yield _job(shard, table, work)
    write_json(out / PLAN, {**read_json(out / PLAN), "num_rows": num_rows})


def _retry_pass(plan: Plan, out: Path, work: Path, finished: list[int], chosen: NDArray[np.bool_]) -> Iterator[Job]:
    def rows() -> Iterator[pa.Table]:
        for shard in finished:
            table = pq.read_table(out / f"{shard:05d}.parquet", columns=plan.columns.as_kept)
            number = table["row"].to_numpy()
            yield table.filter(chosen[number])
            chosen[number] = False  # a line that failed twice is in two shards

    first = max(finished, default=-1) + 1
    for shard, table in enumerate(pieces(rows(), plan.rows_per_shard), start=first):
        yield _job(shard, table, work)


def _job(shard: int, table: pa.Table, work: Path) -> Job:
    path = work / f"{shard:05d}.arrow"
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return Job(shard, table.num_rows, path)


def _run(jobs: Iterator[Job], out: Path, work: Path, settings: Settings, num: int, python: Path, progress: Bar) -> None:
    with closing(run_jobs(jobs, num, python, settings, progress.advance)) as ended:
        for job in ended:
            _publish(job, work, out)


def _publish(job: Job, work: Path, out: Path) -> None:
    parts = [f"{job.shard:05d}{part}" for part in _PARTS]
    num_rows = pq.read_metadata(work / parts[0]).num_rows
    if num_rows != job.num_rows:
        raise RuntimeError(f"img2dataset accounts for {num_rows} of the {job.num_rows} lines of shard {job.shard}")
    for part in parts:
        with (work / part).open("rb") as file:
            os.fsync(file.fileno())
    for part in parts:
        (work / part).replace(out / part)
    sync_folder(out)


def _outcomes(out: Path, finished: Sequence[int], num_rows: int) -> tuple[NDArray[np.int32], list[str]]:
    """How each line ended the last time that it was tried: indices into names; "fetched" is one of them, 0."""
    names = {FETCHED: 0}
    codes = np.full(num_rows, -1, np.int32)
    for shard in finished:
        table = pq.read_table(out / f"{shard:05d}.parquet", columns=["row", "status", "error_message"])
        reason = pc.replace_substring_regex(table["error_message"].cast(pa.string()), "(?s):.*", "")
        ended = pc.if_else(pc.equal(table["status"], "success"), FETCHED, pc.coalesce(reason, "unexpected"))
        ended = ended.combine_chunks().dictionary_encode()
        known = np.array([names.setdefault(name, len(names)) for name in ended.dictionary.to_pylist()], np.int32)
        codes[table["row"].to_numpy()] = known[ended.indices.to_numpy()]
    return codes, list(names)


def _print_summary(out: Path, counts: dict[str, int]) -> None:
    num_urls = sum(counts.values())
    table = Table(title=f"{num_urls:,} URLs", title_justify="left")
    for name, style in (("outcome", ""), ("URLs", "right"), ("share", "right"), ("", "")):
        table.add_column(name, justify="right" if style else "left")
    for name, n in sorted(counts.items(), key=lambda item: (item[0] != FETCHED, -item[1], item[0])):
        table.add_row(name, f"{n:,}", f"{n / num_urls:.1%}", "may pass" if may_pass(name) else "")
    console = Console(highlight=False)
    console.print(table)
    if again := sum(n for name, n in counts.items() if may_pass(name)):
        console.print(f"The same command again tries the {again:,} that may pass.", soft_wrap=True)
    tars = shlex.quote(f"{out}/*.tar")
    console.print(Text(f"Next: python -m prep.build --input {tars} --out store/"), soft_wrap=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    say = argparse.ArgumentParser(
        prog="python -m prep.fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    say.add_argument("lists", nargs="+", type=Path, metavar="LIST", help=".parquet, .csv, .tsv, .jsonl (or .gz)")
    say.add_argument("--out", type=Path, required=True, help="the folder of the tars")
    say.add_argument("--url-column", metavar="NAME", help=f"default: one of {', '.join(URL_NAMES)}")
    say.add_argument("--caption-column", metavar="NAME", help=f"default: one of {', '.join(CAPTION_NAMES)}")
    say.add_argument("--columns", nargs="+", default=[], metavar="NAME", help="kept in each image's .json too")
    size_help = "shrink to this short side in pixels, JPEG q95 4:4:4 (355 serves 224 and its margin); default: as it is"
    say.add_argument("--size", type=int, metavar="PX", help=size_help)
    say.add_argument("--rows-per-shard", type=int, default=10_000, metavar="N", help="lines (%(default)s)")
    cores = len(os.sched_getaffinity(0))
    say.add_argument("--processes", type=int, default=cores, metavar="N", help="one shard each (%(default)s)")
    threads_help = "downloads a process (%(default)s); hostile servers can fill 2 x this x --max-bytes of memory"
    say.add_argument("--threads", type=int, default=32, metavar="N", help=threads_help)
    limits = Limits()
    say.add_argument("--timeout", type=float, default=limits.timeout, metavar="S", help="of silence (%(default)g s)")
    say.add_argument("--max-seconds", type=float, default=limits.max_seconds, metavar="S", help="a URL (%(default)g s)")
    say.add_argument("--max-bytes", type=int, default=limits.max_bytes, metavar="N", help="a URL (%(default)s)")
    say.add_argument("--retries", type=int, default=limits.retries, metavar="N", help="at once (%(default)s)")
    again = "what to try again when the list is through (%(default)s: what may pass)"
    say.add_argument("--retry", choices=("transient", "all", "none"), default="transient", help=again)
    say.add_argument("--allow-private", action="store_true", help="private addresses and proxies too")
    asked = say.parse_args(argv)
    for name in ("size", "rows_per_shard", "processes", "threads", "timeout", "max_seconds", "max_bytes", "retries"):
        value, least = getattr(asked, name), 0 if name == "retries" else 1
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}", f"wanted at least {least}, got {value}", "Give more.")
    return asked


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    asked = _parse(argv)
    plan = Plan(
        tuple(asked.lists),
        find_columns(asked.lists, asked.url_column, asked.caption_column, asked.columns),
        asked.rows_per_shard,
        asked.size,
    )
    limits = Limits(asked.timeout, asked.max_seconds, asked.max_bytes, asked.retries, asked.allow_private)
    if proxies := [] if asked.allow_private else sorted({"http", "https"} & set(urllib.request.getproxies())):
        Console(stderr=True).print(f"note: {' and '.join(proxies)} proxies are not used without --allow-private")
    counts = fetch_list(plan, asked.out, limits, asked.processes, asked.threads, asked.retry)
    if not counts.get(FETCHED):
        reasons = ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items())) or "the list is empty"
        raise UserError(str(asked.out), f"not one URL could be fetched: {reasons}", "Mend it, then: --retry all.")
    _print_summary(asked.out, counts)


if __name__ == "__main__":
    run_main(main)
