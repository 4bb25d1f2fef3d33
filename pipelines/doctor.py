"""Which loaders work on this host, found out by running each on every view; and which decode path ran.

    python -m pipelines.doctor [STORE] [--res R] [--device cuda] [--beton F.beton]

Without a store a small one is made of drawn pictures, with all four views: margin copies and a crop bank, as JPEG and
as raw pixels. Each loader's pixels are held against the reference's.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import simplejpeg
import torch
from rich.console import Console
from rich.table import Table

from pipelines.choose import LOADERS, Host, make_loader
from pipelines.contract import Batch, Draws, TokenBudget
from pipelines.store_view import ImageView
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError, run_main
from prep.store import Store, open_store

VIEWS = {
    "margin, JPEG": ("online", "jpeg"),
    "margin, raw": ("online", "raw"),
    "crop bank, JPEG": ("bank", "jpeg"),
    "crop bank, raw": ("bank", "raw"),
}
"""How `Draws` asks for each: (crops, encoding)."""

_NUM_PAIRS, _RES, _BATCH_SIZE, _NUM_BATCHES = 64, 64, 32, 4


def make_store(folder: Path) -> Path:
    """A store of _NUM_PAIRS drawn pictures with all four views at _RES pixels, made by prep's own programs."""
    rows, columns = np.mgrid[0:160, 0:200]
    with tarfile.open(folder / "pairs.tar", "w") as tar:
        for number in range(_NUM_PAIRS):
            wave = np.sin(rows * (0.02 + 0.002 * number) + columns * 0.05)
            pixels = np.stack([128 + 90 * wave, 255 - rows, columns], axis=2).clip(0, 255).astype(np.uint8)
            caption = f"a picture of {number} waves".encode()
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90)
            for name, data in ((f"{number}.jpg", jpeg), (f"{number}.txt", caption)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    command = [sys.executable, "-m", "prep.build", "--input", str(folder / "pairs.tar"), "--out", str(folder / "store")]
    command += ["--res", str(_RES), "--workers", "1", "--tagger", "textblob"]
    for options in ([], ["--crops", "1"], ["--encoding", "raw"], ["--crops", "1", "--encoding", "raw"]):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError("prep.build", f"could not make a small store: {done.stderr.strip()}", "Give a STORE.")
    return folder / "store"


def export_betons(store: Store, crops: str, encoding: str, folder: Path) -> tuple[Path, ...]:
    """FFCV's files of a small store's view, made by prep's own program."""
    betons = []
    for view in ImageView(store, _RES, crops == "bank", encoding).folders:
        betons.append(folder / f"{view}.beton")
        command = [sys.executable, "-m", "prep.export", str(store.path), "--ffcv", str(betons[-1]), "--view", view]
        subprocess.run(command, check=True, capture_output=True)
    return tuple(betons)


def check(name: str, draws: Draws, host: Host) -> str:
    """What came of running a loader: its rate and how far its pixels are from the reference's, or why it does not."""
    wanted = list(islice(TorchLoader(draws, 0), _NUM_BATCHES))
    try:
        batches = iter(make_loader(name, draws, host))
        found = [next(batches)]
        start = perf_counter()
        found += islice(batches, _NUM_BATCHES - 1)
        rate = (_NUM_BATCHES - 1) * draws.batch_size / (perf_counter() - start)
    except UserError as error:
        return f"no: {error.problem}"
    except Exception as error:  # a loader's own library may raise anything, which is what is to be found out
        return f"no: {type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    return f"{_difference(found, wanted)}, {rate:,.0f} img/s"


def _difference(found: list[Batch], wanted: list[Batch]) -> str:
    for a, b in zip(found, wanted, strict=True):
        if not (torch.equal(a.index.cpu(), b.index) and torch.equal(a.tokens.cpu(), b.tokens)):
            return "WRONG: other samples or tokens than the reference"
    apart = torch.stack(
        [(a.images.cpu().int() - b.images.int()).abs().float() for a, b in zip(found, wanted, strict=True)]
    )
    return "same pixels" if not apart.any() else f"pixels {apart.mean():.2f} levels apart (at most {apart.max():.0f})"


def _res_of(store: Store, res: int | None) -> int:
    if not store.manifest.resolutions:
        raise UserError(store.folder.url, "wanted images, but the store holds none", "Add some: prep.build --res R.")
    return res or min(store.manifest.resolutions)


def report(store: Store, res: int | None, host: Host, work: Path | None = None) -> Table:
    """The table: a row for each view that the store has, a column for each loader. work: where to export for FFCV."""
    res = _res_of(store, res)
    size = min(_BATCH_SIZE, store.manifest.num_samples)
    table = Table("view", *LOADERS, title=f"{store.folder.url} at {res} px on {host.device}", title_justify="left")
    for title, (crops, encoding) in VIEWS.items():
        draws = Draws((store,), TokenBudget(res, 8), size, 0, crops=crops, encoding=encoding)
        try:
            ImageView(store, res, crops == "bank", encoding)
        except UserError:
            continue
        here = host if work is None else replace(host, betons=export_betons(store, crops, encoding, work))
        table.add_row(title, *(check(name, draws, here) for name in LOADERS))
    if not table.row_count:
        ImageView(store, res)  # which says what is there
    return table


def _decode_path(device: str) -> str:
    try:
        from pipelines.dali_loader import decode_path

        path: str = decode_path(device)
        return path
    except UserError as error:
        return f"none: {error.problem}"


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", nargs="?", type=Path, help="a finished store (default: a small one is made)")
    parser.add_argument("--res", type=int, help="side in pixels (default: the store's smallest)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where DALI decodes")
    parser.add_argument("--threads", type=int, default=1, help="of each loader (default 1)")
    parser.add_argument(
        "--beton", type=Path, action="append", default=[], help="the exported view, for FFCV; repeat for a bank"
    )
    args = parser.parse_args(argv)
    host = Host(args.device, args.threads, tuple(args.beton))
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        if args.res and not args.store:
            raise UserError("--res", "wanted a STORE with it: the small one has only one resolution", "Leave it out.")
        work = None if args.store else Path(folder)
        console.print(report(open_store(make_store(work) if work else args.store), args.res, host, work))
    console.print(f"DALI decodes JPEG by: {_decode_path(args.device)}")


if __name__ == "__main__":
    run_main(main)
