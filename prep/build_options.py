"""What may be said to `prep.build` on the command line, and what it comes to: inputs, columns, an engine."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from prep.caption_tables import TablePlace
from prep.columns import (
    ColumnPlan,
    captions_column,
    priorities_column,
    rows_column,
    tokens_column,
    view_columns,
)
from prep.errors import UserError
from prep.images import Encoding, ImageLimits
from prep.nltk_tokens import NAME as NLTK_WORDS
from prep.nltk_tokens import TAGGER as NLTK_TAGGER
from prep.places import Folder
from prep.plan import Inputs, read_plan
from prep.sources import SourceOptions, list_parts
from prep.taggers import Tagger, load_tagger
from prep.tokenizer import load_tokenizer
from prep.views import DEFAULT_MARGIN
from prep.work import WorkerLimits

DEFAULT_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Engine:
    """Where the work is done: name "local" or "ray"; address of a Ray cluster; processes; a worker's limits."""

    name: str = "local"
    address: str | None = None
    num_workers: int | None = None
    limits: WorkerLimits = field(default_factory=WorkerLimits)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command line, checked. inputs: None when none were given. tables: of captions, by caption source."""

    folder: Folder
    inputs: Inputs | None
    source: SourceOptions
    tables: tuple[tuple[str, TablePlace], ...]
    columns: tuple[ColumnPlan, ...]
    engine: Engine


@cache
def tagger(name: str) -> Tagger:
    """The tagger of that name, loaded once a process: it takes seconds."""
    return load_tagger(name)


def parse(argv: list[str] | None, description: str) -> Asked:
    """Read a command line. Raises `UserError` naming the option at fault."""
    args = _parser(description).parse_args(argv)
    _check(args)
    folder = Folder.of(args.out)
    plan = read_plan(folder)
    fields = _caption_fields(args.captions, plan)
    limits = ImageLimits(
        max_bytes=args.max_bytes,
        max_pixels=args.max_pixels,
        max_aspect=args.max_aspect,
        min_side=args.min_side,
        max_memory=args.max_memory << 20,
    )
    source = SourceOptions(
        captions=tuple((name, place) for name, place in fields.items() if not TablePlace.parse(place)),
        key=args.key_column,
        image=args.image_column,
        rows_per_shard=args.rows_per_shard,
        max_image_bytes=args.max_bytes,
        max_caption_bytes=args.max_caption_bytes,
        image_root=args.image_root,
    )
    inputs = None
    if args.input:
        inputs = Inputs(tuple(list_parts(args.input, source)), limits, source.max_caption_bytes)
    memory_bytes = round(args.worker_memory * 2**30)
    worker = WorkerLimits(memory_bytes, args.pair_seconds, supervise=args.workers != 0)
    return Asked(
        folder,
        inputs,
        source,
        tuple(_tables(args.captions)),
        tuple(_columns(args, fields)),
        Engine(args.engine, args.ray_address, args.workers, worker),
    )


def _caption_fields(given: list[str] | None, plan: dict[str, object] | None) -> dict[str, str]:
    """{caption source: where the input holds it}, those that the store has already included; "" is the usual place."""
    columns = plan["columns"] if plan else {}
    assert isinstance(columns, dict)
    settings = [column["settings"] for column in columns.values() if column["kind"] == "captions"]
    fields = {str(s["source"]): str(s["field"]) for s in settings}
    for text in given or ():
        name, equals, place = text.partition("=")
        if not (name and equals and place):
            raise UserError("--captions", f"wanted NAME=FIELD, found {text}", "For example: --captions original=txt")
        fields[name] = place
    if all(TablePlace.parse(place) for place in fields.values()):
        return {"original": "", **fields}  # what decides which pairs there are must come with them
    return fields


def _tables(given: list[str] | None) -> Iterator[tuple[str, TablePlace]]:
    """The tables of captions on this command line: of those in a plan only the names are known."""
    for text in given or ():
        name, _, place = text.partition("=")
        if table := TablePlace.parse(place):
            yield name, table


def _columns(args: argparse.Namespace, fields: dict[str, str]) -> list[ColumnPlan]:
    columns = [rows_column(name for name, place in fields.items() if not TablePlace.parse(place))]
    tokenizer, identity = load_tokenizer(args.tokenizer), tagger(args.tagger).identity()
    for source, place in fields.items():
        columns += [
            captions_column(source, place),
            tokens_column(source, args.tokenizer, tokenizer.identity()),
            priorities_column(source, args.tokenizer, args.tagger, identity),
        ]
    encoding = Encoding(args.encoding, args.quality, args.subsampling)
    return columns + view_columns(args.res, encoding, args.margin, args.crops, args.crop_seed)


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prep.build", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input", nargs="+", metavar="PAIRS", help="tars, folders, tables; paths, patterns (in quotes) or URLs")
    add("--out", required=True, metavar="STORE", help="folder or URL of the store")
    add("--res", type=int, nargs="+", default=[], metavar="PX", help="sides of the square images to train on")
    _add_view_options(parser)
    _add_source_options(parser)
    work = parser.add_argument_group("where and how the work is done; decides no byte")
    add = work.add_argument
    add("--engine", choices=("local", "ray"), default="local", help="processes here, or a Ray cluster (default local)")
    add("--ray-address", metavar="ADDRESS", help="of the cluster (default: a Ray of its own on this machine)")
    add("--workers", type=int, help="processes (default: one a core); 0: this one, unguarded")
    add("--worker-memory", type=float, default=1.0, metavar="GIB", help="at most so much a worker (default 1)")
    add("--pair-seconds", type=float, default=60.0, metavar="S", help="a pair that takes longer hangs (default 60)")
    return parser


def _add_view_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("views: the copies of each image").add_argument
    add(
        "--margin",
        type=float,
        default=DEFAULT_MARGIN,
        help="stored short side / res (default 1.58: for 40%% crops)",
    )
    add(
        "--crops",
        type=int,
        default=0,
        metavar="K",
        help="instead, a bank of K random crops at exactly res",
    )
    add("--crop-seed", type=int, default=0, help="of the crop bank (default 0)")
    add("--encoding", choices=("jpeg", "raw"), default="jpeg", help="JPEG, or raw uint8 pixels (default jpeg)")
    add("--quality", type=int, default=DEFAULT_QUALITY, help="of JPEG, 1-100 (default 95)")
    add("--subsampling", choices=("444", "422", "420"), default="444", help="of JPEG's colours (default 444, none)")


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    limits = ImageLimits()
    add = parser.add_argument_group("what is read of a pair").add_argument
    add(
        "--captions",
        nargs="+",
        metavar="NAME=FIELD",
        help="caption sources: an extension, json:KEY, a column, or table:FILE#COLUMN with a column `key` "
        "(default: original, from the usual place)",
    )
    add("--tokenizer", default="clip", help="clip, bert, bert:FILE, or clip-nltk for syntax-torch (default clip)")
    add("--tagger", default="spacy", help="spacy, spacy:PIPELINE, nltk, textblob, vocabulary (default spacy)")
    add("--key-column", metavar="NAME", help="of a table (default: key or id, else the row's number)")
    add("--image-column", metavar="NAME", help="of a table (default: image, path ...)")
    add("--image-root", metavar="PLACE", help="folder or URL that a table's image paths start at (default: its own)")
    add("--rows-per-shard", type=int, default=SourceOptions().rows_per_shard, help="of tables, folders (%(default)s)")
    add("--max-bytes", type=int, default=limits.max_bytes, help="larger image files are rejected (default %(default)s)")
    add("--max-pixels", type=int, default=limits.max_pixels, help="larger images are rejected (default %(default)s)")
    add("--min-side", type=int, default=limits.min_side, help="narrower images are rejected (default %(default)s)")
    add("--max-memory", type=int, default=limits.max_memory >> 20, metavar="MIB", help="to decode one (%(default)s)")
    add("--max-caption-bytes", type=int, default=SourceOptions().max_caption_bytes, help="(default %(default)s)")
    add("--max-aspect", type=float, default=limits.max_aspect, help="longer images are rejected (default %(default)s)")


def _check(args: argparse.Namespace) -> None:
    if args.tokenizer == NLTK_WORDS and args.tagger != NLTK_TAGGER:
        problem = (
            f"wanted {NLTK_TAGGER} with --tokenizer {NLTK_WORDS}, whose ids are of NLTK's words; found {args.tagger}"
        )
        raise UserError("--tagger", problem, f"Add --tagger {NLTK_TAGGER}.")
    wrong = [
        ("--res", [r for r in args.res if not 8 <= r <= 4096], "8 to 4096 pixels"),
        ("--margin", [m for m in [args.margin] if not 1 <= m <= 8], "1 to 8"),
        ("--crops", [c for c in [args.crops] if not 0 <= c <= 1024], "0 to 1024"),
        ("--quality", [q for q in [args.quality] if not 1 <= q <= 100], "1 to 100"),
        ("--workers", [w for w in [args.workers] if w is not None and w < 0], "0 or more"),
        ("--rows-per-shard", [r for r in [args.rows_per_shard] if r < 1], "at least 1"),
        ("--worker-memory", [m for m in [args.worker_memory] if m <= 0], "more than 0"),
        ("--pair-seconds", [s for s in [args.pair_seconds] if s <= 0], "more than 0"),
    ]
    for option, values, wanted in wrong:
        if values:
            raise UserError(option, f"wanted {wanted}, found {values[0]}", "See python -m prep.build --help.")
