"""Measure preparation on this machine: the bare kernels, `prep.build`, and its peers, on the same pictures in one run.

    python -m prep.bench [--json FILE]

Everything is held to one core, repeated in turns, and told as the median; what counts is the ratios. From 384-px and
from 2-megapixel JPEGs: decode, resize, encode, clean, tokenise, tag by themselves; `prep.build` with three
resolutions, token ids and priorities; img2dataset making one size, and three; a naive Pillow loop making three. Then
two workers against one, the memory of a worker against the size of the store, the text path against open_clip's, and a
table of what the copies have lost.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from prep import captions as captions_module
from prep.bench_build import build_seconds, peak_bytes, program_rates
from prep.bench_data import SIZES, make_captions, make_jpegs
from prep.bench_peers import img2dataset_seconds, pillow_seconds
from prep.bench_text import text_ratio
from prep.errors import run_main
from prep.files import write_json
from prep.image_quality import quality_rows
from prep.images import Encoding, ImageLimits, decode, encode, keep, resize
from prep.progress import bar
from prep.taggers import load_tagger
from prep.tokenizer import load_tokenizer
from prep.views import DEFAULT_MARGIN, stored_side

T = TypeVar("T")

RESOLUTIONS = (112, 160, 224)
SHORT_SIDES = tuple(stored_side(res, DEFAULT_MARGIN) for res in RESOLUTIONS)
SINGLE_SIZE = 256  # img2dataset's default
TARGETS = {
    "of the kernels' own limit": (0.85, 0.85),
    "x img2dataset, one size": (1.2, 3.0),
    "x Pillow loop": (3.5, 3.5),
}
"""What is wanted of `prep.build`, from small and from large sources."""


def kernel_seconds(jpegs: Sequence[bytes], texts: Sequence[str]) -> dict[str, float]:
    """Seconds per pair of each kernel alone, over as many pairs as there are texts."""
    limits, encoding = ImageLimits(), Encoding("jpeg")
    count, seconds = len(texts), dict.fromkeys(("decode", "keep", "resize", "encode"), 0.0)

    def timed(name: str, kernel: Callable[..., T], *arguments: object) -> T:
        start = perf_counter()
        result = kernel(*arguments)
        seconds[name] += (perf_counter() - start) / count
        return result

    for i in range(count):
        data = jpegs[i % len(jpegs)]
        decoded = timed("decode", decode, data, limits, max(SHORT_SIDES))
        for side in SHORT_SIDES:
            if timed("keep", keep, data, decoded, side, encoding) is None:
                pixels = timed("resize", resize, decoded.pixels, side, (decoded.width, decoded.height))
                timed("encode", encode, pixels, encoding)
    tokenizer, tagger = load_tokenizer(), load_tagger("spacy")
    seconds |= dict.fromkeys(("clean", "tokenise", "tag"), 0.0)
    cleaned = timed("clean", lambda: [captions_module.decode(text.encode()).text for text in texts])
    timed("tokenise", lambda: tokenizer.encode_texts([text.lower() for text in cleaned]))
    timed("tag", tagger.tag, cleaned)
    return seconds


def measure(size: tuple[int, int], num_pairs: int, rounds: int, work: Path) -> dict[str, Any]:
    """Rates in pairs a second on one core, and their ratios, for sources of one size; medians over rounds.

    A ratio is the median of each round's own ratio: a shared machine is a third slower in one minute than in the next.
    """
    jpegs = make_jpegs(size, min(num_pairs, 64))
    found: dict[str, list[float]] = {}
    kernels: list[dict[str, float]] = []
    for number in range(rounds):
        # New captions each time: no cache may know them.
        texts = make_captions(num_pairs, seed=number)
        folder = work / f"{size[0]}-{number}"
        kernels.append(kernel_seconds(jpegs, texts))
        for name, seconds in {
            "kernels": sum(kernels[-1].values()) * num_pairs,
            "prep.build": build_seconds(folder / "build", jpegs, make_captions(num_pairs, seed=10_000 + number)),
            "img2dataset, one size": img2dataset_seconds(folder / "one", jpegs, texts, [SINGLE_SIZE], "border"),
            "img2dataset, three sizes": img2dataset_seconds(folder / "three", jpegs, texts, SHORT_SIDES, "keep_ratio"),
            "Pillow loop, three sizes": pillow_seconds(jpegs, num_pairs, SHORT_SIDES),
        }.items():
            found.setdefault(name, []).append(num_pairs / seconds)

    def ratio(name: str) -> float:
        return statistics.median(ours / theirs for ours, theirs in zip(found["prep.build"], found[name], strict=True))

    return {
        "num_pairs": num_pairs,
        "kernel_rates": {k: 1 / statistics.median(run[k] for run in kernels) for k in kernels[0] if kernels[0][k]},
        "rates": {name: statistics.median(values) for name, values in found.items()},
        "ratios": {
            "of the kernels' own limit": ratio("kernels"),
            "x img2dataset, one size": ratio("img2dataset, one size"),
            "x img2dataset, three sizes": ratio("img2dataset, three sizes"),
            "x Pillow loop": ratio("Pillow loop, three sizes"),
        },
    }


def _print(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = Table("pairs a second on one core", *SIZES, title="speed", title_justify="left")
    kinds = [report["sources"][name] for name in SIZES]
    for kernel in kinds[0]["kernel_rates"]:
        table.add_row(f"  {kernel}", *(f"{kind['kernel_rates'].get(kernel, float('nan')):,.0f}" for kind in kinds))
    for name in kinds[0]["rates"]:
        table.add_row(name, *(f"{kind['rates'][name]:,.0f}" for kind in kinds))
    for number, name in enumerate(kinds[0]["ratios"]):
        wanted = TARGETS.get(name)
        cells = []
        for place, kind in enumerate(kinds):
            goal = (
                ""
                if wanted is None
                else f" (wanted {wanted[place]:g}: {_verdict(kind['ratios'][name], wanted[place])})"
            )
            cells.append(f"{kind['ratios'][name]:.2f}{goal}")
        table.add_row(f"prep.build {name}", *cells, end_section=number == -1)
    console.print(table)
    workers, memory, text = report["workers"], report["memory"], report["text"]
    console.print(f"two workers: {workers['ratio']:.2f} times one (wanted 1.9: {_verdict(workers['ratio'], 1.9)})")
    console.print(
        f"memory of a worker: {memory['small'] >> 20:,} MiB, with four times the store {memory['large'] >> 20:,} MiB"
    )
    console.print(
        f"text, tagger aside: {text['ratio']:.1f} times open_clip's path (wanted 5: {_verdict(text['ratio'], 5)})"
    )
    quality = Table(
        "source", "copies by", "short side", "dB", "q95 4:4:4", "q95 4:2:0", title="quality", title_justify="left"
    )
    for name in SIZES:
        for row in report["quality"][name]:
            encoded = (f"{value:.1f}" for value in row["encoded_db"].values())
            quality.add_row(name, row["way"], str(row["short_side"]), f"{row['copy_db']:.1f}", *encoded)
    console.print(quality)


def _verdict(value: float, wanted: float) -> str:
    return "reached" if value >= wanted else "missed"


def run(num_small: int, num_large: int, rounds: int) -> dict[str, Any]:
    """The whole report, as JSON values."""
    cores = sorted(os.sched_getaffinity(0))
    counts = dict(zip(SIZES, (num_small, num_large), strict=True))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, bar(len(SIZES) + 3, "measuring", "parts") as progress:
        work = Path(folder)
        os.sched_setaffinity(0, cores[:1])
        sources, quality = {}, {}
        for name, size in SIZES.items():
            sources[name] = measure(size, counts[name], rounds, work)
            progress.advance()
        for name, size in SIZES.items():
            quality[name] = [asdict(row) for row in quality_rows(make_jpegs(size, 4, seed=1), SHORT_SIDES)]
        progress.advance()
        text = text_ratio(make_captions(num_small, seed=99), rounds)
        small, large = (peak_bytes(work / f"memory-{times}", 1024 * times) for times in (2, 8))
        progress.advance()
        os.sched_setaffinity(0, cores)
        rates = program_rates(work, num_small, (1, 2), rounds)
        progress.advance()
    return {
        "cores": len(cores),
        "sources": sources,
        "workers": {"one": rates[1], "two": rates[2], "ratio": rates[2] / rates[1]},
        "memory": {"small": small, "large": large},
        "text": text,
        "quality": quality,
    }


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m prep.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here too")
    parser.add_argument("--pairs", type=int, default=512, help="384-px sources a round (default 512)")
    parser.add_argument("--large-pairs", type=int, default=96, help="2-megapixel sources a round (default 96)")
    parser.add_argument("--rounds", type=int, default=5, help="the median is told of so many (default 5)")
    args = parser.parse_args(argv)
    report = run(args.pairs, args.large_pairs, args.rounds)
    if args.json:
        write_json(args.json, report)
    _print(json.loads(json.dumps(report)))


if __name__ == "__main__":
    run_main(main)
