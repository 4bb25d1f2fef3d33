"""`prep.build` as `prep.bench` measures it: the work of one worker, and the whole program with one worker and two."""

import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep

from prep.bench_data import SIZES, make_captions, make_jpegs, write_tars
from prep.build import StartWorker
from prep.columns import captions_column, priorities_column, rows_column, tokens_column, view_columns
from prep.images import Encoding, ImageLimits
from prep.passes import Shard
from prep.sources import SourceOptions, list_parts
from prep.taggers import load_tagger
from prep.tokenizer import load_tokenizer
from prep.views import DEFAULT_MARGIN
from prep.work import Report, Slot

_OPTIONS = ("--res", "112", "160", "224")


def build_seconds(work: Path, jpegs: Sequence[bytes], captions: Sequence[str]) -> float:
    """Seconds that a worker takes for one shard of these pairs, files on the disk included, its start left out."""
    source = SourceOptions()
    (part,) = list_parts([write_tars(work / "tars", jpegs, captions, 1)], source)
    tokenizer, tagger = load_tokenizer(), load_tagger("spacy")
    columns = [
        rows_column(["original"]),
        captions_column("original", ""),
        tokens_column("original", "clip", tokenizer.identity()),
        priorities_column("original", "clip", "spacy", tagger.identity()),
        *view_columns((112, 160, 224), Encoding("jpeg"), DEFAULT_MARGIN, 0, 0),
    ]
    start_worker = StartWorker(str(work / "store"), source, ImageLimits(), ("clip",), ("spacy",))
    worker = start_worker(Report([0] * len(Slot)))
    start = perf_counter()
    records = worker.do(Shard(0, part, tuple(columns), has_rows=False), {})
    seconds = perf_counter() - start
    assert records[0].num_samples == len(captions), records[0]
    return seconds


def program_rates(work: Path, num_pairs: int, num_workers: Sequence[int], rounds: int) -> dict[int, float]:
    """Pairs a second of the program with so many workers, from 384-px sources: {workers: median of rounds, in turns}.

    From the difference between a build of one tar a worker and one of four, num_pairs each: it leaves out the start.
    """
    jpegs = make_jpegs(SIZES["384 px"], 64)
    rates: dict[int, list[float]] = {num: [] for num in num_workers}
    for number in range(rounds):
        for num in num_workers:
            took = [_program_seconds(work / f"{number}-{num}-{n}", jpegs, num_pairs, num * n, num) for n in (1, 4)]
            rates[num].append(3 * num_pairs * num / (took[1] - took[0]))
    return {num: statistics.median(found) for num, found in rates.items()}


def _program_seconds(work: Path, jpegs: Sequence[bytes], num_pairs: int, num_tars: int, num_workers: int) -> float:
    tars = write_tars(work / "tars", jpegs, make_captions(num_pairs * num_tars), num_tars)
    start = perf_counter()
    subprocess.run(_command(tars, work / "store", num_workers), check=True, stdout=subprocess.DEVNULL)
    seconds = perf_counter() - start
    shutil.rmtree(work)
    return seconds


def peak_bytes(work: Path, num_pairs: int) -> int:
    """The most memory, in bytes, that was resident in the worker of a build with one worker."""
    tars = write_tars(work / "tars", make_jpegs(SIZES["384 px"], 64), make_captions(num_pairs), 1)
    process = subprocess.Popen(_command(tars, work / "store", 1), stdout=subprocess.DEVNULL)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            with suppress(OSError, ValueError, IndexError):  # of a child that dies meanwhile
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                threads = Path(f"/proc/{process.pid}/task").iterdir()
                children += [child for task in threads for child in (task / "children").read_text().split()]
                for child in children:
                    status = Path(f"/proc/{child}/status").read_text()
                    peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) << 10)
            sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait() == 0
    watcher.join()
    return peak


def _command(tars: str, store: Path, num_workers: int) -> list[str]:
    program = [sys.executable, "-m", "prep.build", "--input", tars, "--out", str(store), *_OPTIONS]
    return [*program, "--workers", str(num_workers)]
