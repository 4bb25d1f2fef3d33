"""The peers that `prep.bench` runs beside `prep.build`: img2dataset, in its own environment, and a Pillow loop."""

import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from prep.fetch_environment import ROOT, python_of

REQUIREMENTS = ROOT / "requirements-bench.txt"

# One process, as the bench gives it one core; the threads overlap what waits for the disk.
_PROGRAM = """
import json, sys
from img2dataset import download
urls, out, size, mode, rows = sys.argv[1:]
download(
    url_list=urls, input_format="parquet", url_col="url", caption_col="caption", output_folder=out,
    output_format="webdataset", processes_count=1, thread_count=4, image_size=int(size), resize_mode=mode,
    resize_only_if_bigger=True, encode_quality=95, number_sample_per_shard=int(rows), retries=0, enable_wandb=False,
)
"""


def img2dataset_seconds(
    work: Path, jpegs: Sequence[bytes], captions: Sequence[str], sizes: Sequence[int], mode: str
) -> float:
    """Seconds that img2dataset says its shard took, summed over one run for each size; it makes one size a run.

    Its input is files on the local disk, so nothing is waited for. mode: its resize_mode. Its start is not counted.
    """
    work.mkdir(parents=True)
    urls = []
    for i in range(len(captions)):
        path = work / f"{i:06d}.jpg"
        path.write_bytes(jpegs[i % len(jpegs)])
        urls.append(f"file://{path}")
    pq.write_table(pa.table({"url": urls, "caption": list(captions)}), work / "urls.parquet")
    seconds = 0.0
    for size in sizes:
        out = work / f"out-{size}"
        command = [str(python_of(REQUIREMENTS)), "-c", _PROGRAM, str(work / "urls.parquet"), str(out), str(size), mode]
        subprocess.run([*command, str(len(captions))], check=True, capture_output=True, cwd=work)
        stats = json.loads((out / "00000_stats.json").read_text())
        assert stats["successes"] == len(captions), stats
        seconds += float(stats["duration"])
    return seconds


def pillow_seconds(jpegs: Sequence[bytes], count: int, short_sides: Sequence[int]) -> float:
    """Seconds of a naive loop over `count` pictures: open, three bicubic resizes, three JPEGs (q95, 4:4:4). No text."""
    start = perf_counter()
    for i in range(count):
        with Image.open(io.BytesIO(jpegs[i % len(jpegs)])) as picture:
            image = picture.convert("RGB")
        for side in short_sides:
            scale = side / min(image.size)
            size = round(image.width * scale), round(image.height * scale)
            smaller = image.resize(size, Image.Resampling.BICUBIC)
            smaller.save(io.BytesIO(), "JPEG", quality=95, subsampling=0)
    return perf_counter() - start
