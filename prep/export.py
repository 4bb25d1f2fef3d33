"""Export a store's rows, in their order, to the formats of other loaders. A program:

    python -m prep.export store/ --ffcv 112.beton --res 112
    python -m prep.export store/ --webdataset tars/ --view 112-crop0 --captions synthetic

The copies of one view are exported as they are, JPEG or raw; nothing is decoded. Interrupted, the same command goes on
after the last whole tar; a `.beton` has its name only when it is whole.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prep.beton import BetonRows, write_beton
from prep.errors import UserError, run_main
from prep.export_rows import Selection, Tally, choose, num_captions, one_each, read_batches
from prep.places import Folder
from prep.progress import Bar, bar
from prep.store import Store, open_store
from prep.webdataset_tars import write_tars


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m prep.export", description="Export a store's rows in their order.")
    parser.add_argument("store", help="a finished store: a folder or an fsspec URL")
    out = parser.add_mutually_exclusive_group(required=True)
    out.add_argument("--ffcv", metavar="OUT.beton", help="write one file for ffcv.loader.Loader")
    out.add_argument("--webdataset", metavar="FOLDER", help="write tars into a new folder, or go on in it")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--res", type=int, help="the side in pixels of the view to export, where one view has it")
    which.add_argument("--view", help="the folder of the view in the store, such as 112, 112-raw or 112-crop0")
    parser.add_argument("--captions", metavar="SOURCE", help="the caption source; default: original, or the only one")
    parser.add_argument(
        "--caption-number",
        type=int,
        default=0,
        help="which of an image's captions, from 0; an image with fewer gives another of its own (default 0)",
    )
    parser.add_argument("--tokenizer", default="clip", help="whose token ids (default clip)")
    parser.add_argument("--tagger", help="whose priorities; default: spacy, or the first by name")
    parser.add_argument("--rows-per-tar", type=int, default=10_000, help="samples in a tar (default 10,000)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Export a store."""
    args = _parser().parse_args(argv)
    for option, least in (("caption_number", 0), ("rows_per_tar", 1)):
        if getattr(args, option) < least:
            place = "--" + option.replace("_", "-")
            raise UserError(place, f"wanted at least {least}, found {getattr(args, option)}", "Give a larger number.")
    store = open_store(args.store)
    if not store.manifest.num_samples:
        raise UserError(store.folder.url, "wanted rows to export, but this store has none", "See its rejects/.")
    chosen = choose(store, args.res, args.view, args.captions, args.caption_number, args.tokenizer, args.tagger)
    with bar(store.manifest.num_samples, f"exporting {chosen.view.folder}", "rows") as progress:
        if args.ffcv:
            tally, out = _export_beton(store, chosen, args.ffcv, progress), args.ffcv
        else:
            out = Folder.of(args.webdataset).url
            tally = write_tars(store, chosen, Folder.of(args.webdataset), args.rows_per_tar, progress.advance)
    print(f"{out}: {store.manifest.num_samples:,} rows of the view {chosen.view.folder}, captions {chosen.source!r}")
    if tally.num_fewer or tally.num_without:
        print(
            f"of {tally.num_rows:,} images written now, {tally.num_fewer:,} have fewer captions than number "
            f"{chosen.caption} asks for and gave another; {tally.num_without:,} have none, and their text is empty"
        )


def _export_beton(store: Store, chosen: Selection, out: str, progress: Bar) -> Tally:
    parent, _, name = out.rpartition("/")
    folder = Folder.of(parent or ("/" if out.startswith("/") else "."))
    if not name:
        raise UserError("--ffcv", f"wanted a file's name, found {out!r}", "Name one that ends in .beton.")
    if folder.size(name) is not None or Path(out).exists():
        raise UserError(out, "there is something of this name already", "Delete it, or choose another name.")
    tally, view = Tally(), chosen.view
    with folder.written(name) as file:
        rows = _beton_rows(store, chosen, tally, progress)
        write_beton(file, rows, store.manifest.num_samples, view.settings["encoding"])
    return tally


def _beton_rows(store: Store, chosen: Selection, tally: Tally, progress: Bar) -> Iterator[BetonRows]:
    folders = [chosen.view.folder, chosen.tokens.folder, chosen.priorities.folder]
    for _, (view, tokens, priorities) in read_batches(store, folders):
        for count in num_captions(tokens, "tokens").tolist():
            tally.add(count, chosen.caption)
        widths, heights = (view.column(name).to_numpy() for name in ("width", "height"))
        yield BetonRows(
            [memoryview(image.as_buffer()) for image in view.column("image")],
            widths.astype(np.uint16),
            heights.astype(np.uint16),
            one_each(tokens, "tokens", chosen.caption),
            one_each(priorities, "priorities", chosen.caption),
        )
        progress.advance(len(view))


if __name__ == "__main__":
    run_main(main)
