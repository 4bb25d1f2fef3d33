"""Search a store with a trained model: the best pictures for a text, the best captions for a picture.

    python -m eval.search RUN STORE "a red bus in the rain"
    python -m eval.search RUN STORE --image photo.jpg [--pictures]

Prints a table of rows, keys, captions and cosine similarities, and draws the pictures into RUN/search/<words>.png, with
the same table beside it as JSON. The store must have the res that the checkpoint was trained at last. The first search
encodes the store's images (or captions), which takes as long as an evaluation does; the features are kept in
RUN/search/ (eval.search_index), and a build that was cut short goes on where it ended. Below a million everything is
compared; from there on an index finds nearly all of the best in a fraction of the time (eval.neighbours).
"""

import argparse
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from eval.captioned_store import CaptionedStore
from eval.labelled_folder import read_pixels
from eval.preprocess import Preprocess, thumbnail
from eval.retrieval import check_finite
from eval.search_index import MANY, SearchIndex, open_search_index
from eval.search_sheet import SheetTile, draw_sheet
from prep.errors import UserError, run_main
from prep.files import write_json
from prep.images import ImageError
from prep.labelled_files import readable
from prep.store import Store, open_store, parse_manifest
from prep.tokenizer import load_tokenizer
from train.checkpoint import load_model
from train.machine import check_device
from train.text_tokens import num_too_long, tokens_of


@dataclass(frozen=True, slots=True)
class Hit:
    """row: in the store; key: its pair's. caption: the one that was found, or the picture's first."""

    row: int
    key: str
    caption: str
    similarity: float


def key_of(store: Store, row: int) -> str:
    """A row's key."""
    starts = np.cumsum([0, *(shard.num_samples for shard in store.manifest.shards)])
    place = int(np.searchsorted(starts, row, side="right")) - 1
    keys = store.open_shard("rows", store.manifest.shards[place].shard).read_all()["key"]
    return str(keys[row - int(starts[place])].as_py())


def _check_vocabulary(run: Path, found: dict[str, str], place: str) -> None:
    """Raise `UserError` when a run was trained on the ids of other tokenizers alone."""
    kept = run / "manifest.json"
    trained = (
        [column.settings["tokenizer"] for column in parse_manifest(kept).of_kind("tokens")] if kept.exists() else []
    )
    if trained and found not in trained:
        problem = f"wanted the token ids that the run was trained on ({trained[0]}), found those of {found}"
        raise UserError(place, problem, "Use the vocabulary, or a store, of the run's own tokenizer.")


def find_pictures(index: SearchIndex, query: torch.Tensor, count: int) -> list[Hit]:
    """The pictures most similar to a unit vector float [D], best first."""
    rows, scores = index.nearest("images", index.images(), query, count)
    words = CaptionedStore(index.store)
    return [
        Hit(row, key_of(index.store, row), words.captions(row)[0], score)
        for row, score in zip(rows, scores, strict=True)
    ]


def find_captions(index: SearchIndex, query: torch.Tensor, count: int) -> list[Hit]:
    """The captions most similar to a unit vector float [D], best first."""
    chunks, owners = index.captions()
    places, scores = index.nearest("captions", chunks, query, count)
    found, words = [], CaptionedStore(index.store)
    for place, score in zip(places, scores, strict=True):
        row = int(owners[place])
        own = place - int(np.searchsorted(owners, row))
        found.append(Hit(row, key_of(index.store, row), words.captions(row)[own], score))
    return found


def text_query(index: SearchIndex, run: Path, text: str) -> tuple[torch.Tensor, bool]:
    """The unit vector float [D] of a text, and whether the text was longer than the model's text tokens.

    Raises `UserError` when it holds no word, or the tokenizer is not the one that the run was trained on.
    """
    if not text.split():
        raise UserError("the query", f"wanted some words, found {text!r}", 'Say what to look for: "a red bus".')
    of_model = index.loaded.recipe.model.text
    _check_vocabulary(run, load_tokenizer(of_model.tokenizer).identity(), "the query")
    how = index.loaded.budget.text_tokens, of_model.tokenizer, of_model.end_token
    with torch.inference_mode():
        features = index.loaded.model.encode_text(tokens_of([text], *how).to(index.device))
    return check_finite(features, "texts")[0], num_too_long([text], *how) > 0


def image_query(index: SearchIndex, file: Path) -> torch.Tensor:
    """The unit vector float [D] of an image file, seen as the store's are. Raises `UserError` for what is none."""
    try:
        image = Preprocess(index.loaded.budget.res).apply(read_pixels(file))
    except (ImageError, OSError) as error:
        problem = f"{error.reason}: {error.detail}" if isinstance(error, ImageError) else str(error)
        raise UserError(f"--image {file}", f"wanted an image, but {problem}", "Name another file.") from error
    with torch.inference_mode():
        return check_finite(index.loaded.model.encode_image(image[None].to(index.device)), "images")[0]


def print_hits(title: str, hits: list[Hit]) -> None:
    """The hits as a table."""
    table = Table(title=readable(title), title_justify="left")
    for name in ("", "row", "key", "similarity", "caption"):
        table.add_column(name, justify="left" if name in ("key", "caption") else "right", overflow="fold")
    for place, hit in enumerate(hits, start=1):
        table.add_row(str(place), f"{hit.row:,}", readable(hit.key), f"{hit.similarity:.3f}", readable(hit.caption))
    Console(markup=False, highlight=False, emoji=False).print(table)


def draw_hits(index: SearchIndex, hits: list[Hit], title: str, out: Path, query: Path | None = None) -> None:
    """The hits' pictures as a PNG at `out`, after the picture that was searched with."""
    pixels = CaptionedStore(index.store).pixels([hit.row for hit in hits])
    tiles = [SheetTile(thumbnail(read_pixels(query), 256), "searched with", query.name, True)] if query else []
    tiles += [
        SheetTile(thumbnail(image, 256), f"{place} · {hit.similarity:.3f} · row {hit.row:,}", hit.caption)
        for place, (image, hit) in enumerate(zip(pixels, hits, strict=True), start=1)
    ]
    seen = f"{index.loaded.samples_seen:,} samples seen, {index.loaded.budget.res} px"
    among = f"{index.store.manifest.num_samples:,} pictures of {index.store.path.name}"
    draw_sheet(tiles, title, f"the best of {among}; cosine similarity; {seen}", out)


def _search(index: SearchIndex, args: argparse.Namespace) -> dict[str, list[Hit]]:
    """Hits by what they are: "pictures", "captions"."""
    if args.image is None:
        query, is_cut = text_query(index, args.run, args.query)
        if is_cut:
            print(f"The query is longer than the {index.loaded.budget.text_tokens} text tokens and lost its end.")
        return {"pictures": find_pictures(index, query, args.top)}
    _check_vocabulary(args.run, index.vocabulary, str(args.store))
    query = image_query(index, args.image)
    found = {"captions": find_captions(index, query, args.top)}
    return found | ({"pictures": find_pictures(index, query, args.top)} if args.pictures else {})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run folder that train.run wrote")
    add("store", type=Path, metavar="STORE", help="a store that prep.build wrote, at the run's last res")
    add("query", nargs="?", help="what to look for, in words")
    add("--image", type=Path, metavar="FILE", help="look for captions of this picture instead")
    add("--pictures", action="store_true", help="with --image: look for similar pictures too")
    add("--top", type=int, default=12, help="how many to find (default: 12)")
    add("--out", type=Path, metavar="FILE", help="the sheet, a PNG (default: RUN/search/<words>.png)")
    add("--checkpoint", default="latest", help="samples seen of a checkpoint (default: latest)")
    add("--ema", action="store_true", help="the averaged weights, of a run trained with --ema")
    add("--batch-size", type=int, default=128, help="images, or captions, at a time (default: 128)")
    add("--device", help="cuda or cpu (default: cuda if there)")
    add("--approximate-above", type=int, default=MANY, metavar="N", help="from N vectors on use faiss (default: 1M)")
    return parser


def _checked(args: argparse.Namespace) -> argparse.Namespace:
    if (args.query is None) == (args.image is None):
        found = "neither" if args.query is None else "both"
        raise UserError("eval.search", f"wanted a query in words or --image, found {found}", "Give one of the two.")
    if args.pictures and args.image is None:
        raise UserError("--pictures", "wanted --image beside it, found a query in words", "Leave it out.")
    for option, value in (
        ("--top", args.top),
        ("--batch-size", args.batch_size),
        ("--approximate-above", args.approximate_above),
    ):
        if value < 1:
            raise UserError(option, f"wanted at least 1, found {value}", "Leave it out for the default.")
    if args.out is not None and args.out.suffix != ".png":
        raise UserError(f"--out {args.out}", "wanted a file that ends in .png", "Name it so.")
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _checked(_parser().parse_args(argv))
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    loaded = load_model(args.run, args.checkpoint, device, ema=args.ema)
    how = {"ema": args.ema, "batch_size": args.batch_size, "device": device, "many": args.approximate_above}
    index = open_search_index(args.run, loaded, open_store(args.store), **how)
    asked = args.query if args.image is None else args.image.name
    words = re.sub(r"[^a-z0-9]+", "-", asked.lower()).strip("-")[:60] or "query"
    out, told = args.out or args.run / "search" / f"{words}.png", dict[str, Any]()
    for what, hits in _search(index, args).items():
        title = asked if args.image is None else f"{what.capitalize()} for {asked}"
        print_hits(title, hits)
        sheet = out if not told else out.with_name(f"{out.stem}-{what}.png")
        draw_hits(index, hits, title, sheet, args.image)
        told[what] = [asdict(hit) for hit in hits]
        print(sheet)
    write_json(out.with_suffix(".json"), {"asked": asked, "store": str(args.store), **told})


if __name__ == "__main__":
    run_main(main)
