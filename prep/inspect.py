"""What is in a store: its manifest as tables, and a contact sheet of some of its rows.

    python -m prep.inspect store/

The sheet shows the stored copies at one scale, the crops that training draws from them in its first epochs, the crops
of a bank, and the captions with the words that each text mask keeps at 8 and 16 text tokens.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console

from prep.contact_sheet import Sheet, draw_sheet
from prep.errors import UserError, run_main
from prep.manifest import DEFAULT_TOKENIZER
from prep.manifest_tables import summary, tables
from prep.places import Folder
from prep.sheet_rows import choose_rows, read_rows
from prep.store import Store, open_store
from prep.tokenizer import load_tokenizer


def contact_sheet(
    store: Store,
    path: Path,
    num_rows: int,
    seed: int,
    tokenizer: str = DEFAULT_TOKENIZER,
    tagger: str | None = None,
) -> set[str]:
    """Draw `num_rows` rows, chosen by the seed, as a PNG; the seed is also that of crops and masks.

    Returns the characters that no font of this machine has. Raises `UserError` for a row that is damaged.
    """
    total = store.manifest.num_samples
    rows = choose_rows(total, num_rows, seed)
    subtitle = f"{len(rows):,} of {total:,} rows, drawn by seed {seed}, as are crops and masks"
    sheet = Sheet(_name(store), subtitle, load_tokenizer(tokenizer), seed)
    draw_sheet(sheet, list(read_rows(store, rows, seed, tokenizer, tagger)), path)
    return sheet.missing


def _name(store: Store) -> str:
    url = store.folder.path.resolve().as_posix() if store.folder.is_local else store.folder.url
    return url.rstrip("/").rpartition("/")[2] or "store"


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m prep.inspect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("store", help="folder or URL of a store")
    add("--out", type=Path, metavar="PNG", help="the contact sheet (default: STORE-contact-sheet.png, here)")
    add("--rows", type=int, default=6, metavar="N", help="rows on the sheet; 0 draws none (default 6)")
    add("--seed", type=int, default=0, help="of the choice of rows, and of crops and masks (default 0)")
    add("--tokenizer", default=DEFAULT_TOKENIZER, help=f"whose tokens (default {DEFAULT_TOKENIZER})")
    add("--tagger", help="whose priorities (default: spacy's if there are any, else the first)")
    add("--json", action="store_true", help="print JSON instead of tables; draws only with --out")
    args = parser.parse_args(argv)
    if not 0 <= args.rows <= 100:
        raise UserError("--rows", f"wanted 0 to 100, found {args.rows}", "Draw several sheets with other --seed.")
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parse(argv)
    store = open_store(Folder.of(args.store).url)
    console = Console(highlight=False)
    if args.json:
        print(json.dumps(summary(store), indent=1, sort_keys=True))
    else:
        for table in tables(store):
            console.print(table)
    if not store.manifest.num_samples or not args.rows or (args.json and args.out is None):
        return
    path = args.out or Path(f"{_name(store)}-contact-sheet.png")
    missing = contact_sheet(store, path, args.rows, args.seed, args.tokenizer, args.tagger)
    if args.json:
        return
    console.print(f"Contact sheet: {path}", markup=False, soft_wrap=True)
    if missing:
        some = "".join(sorted(missing)[:20])
        text = f"No font of this machine has {len(missing)} of its characters ({some}); Noto's fonts have most."
        console.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_main(main)
