"""The columns of a store: what their folders are called and what their files hold. `prep/FORMAT.md` is the full page.

Arrow IPC files, uncompressed, ROWS_PER_BATCH rows a record batch (only the last may hold fewer), nothing null. Row i is
the same pair in every folder, and says so by its key. `hash` is `prep.row_hash` over the rest of the row.
"""

from typing import Any

import pyarrow as pa

FORMAT_VERSION = 2
ROWS_PER_BATCH = 1024
CONTEXT_LENGTH = 77

KINDS = ("rows", "captions", "tokens", "priorities", "view")
ROWS_FOLDER = "rows"


def _schema(*columns: tuple[str, Any]) -> pa.Schema:
    ends = (("key", pa.string()), ("hash", pa.uint64()))
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in (*columns, *ends)])


def _list(kind: Any) -> Any:
    return pa.list_(pa.field("item", kind, nullable=False))


def _fixed(kind: Any, size: int) -> Any:
    return pa.list_(pa.field("item", kind, nullable=False), size)


_VIEW = (("image", pa.large_binary()), ("width", pa.uint16()), ("height", pa.uint16()))
ROWS_SCHEMA = _schema(
    ("source", pa.string()),
    ("original_format", pa.string()),
    ("original_width", pa.uint32()),
    ("original_height", pa.uint32()),
)
CAPTIONS_SCHEMA = _schema(("captions", _list(pa.string())), ("cut", _list(pa.bool_())))
TOKENS_SCHEMA = _schema(("tokens", _list(_fixed(pa.uint16(), CONTEXT_LENGTH))), ("num_tokens", _list(pa.uint8())))
PRIORITIES_SCHEMA = _schema(("priorities", _list(_fixed(pa.uint8(), CONTEXT_LENGTH))))
VIEW_SCHEMA = _schema(*_VIEW)
CROP_SCHEMA = _schema(*_VIEW, ("box", _fixed(pa.uint32(), 4)))
FIRST_VIEW_SCHEMA = pa.schema(
    [
        *(VIEW_SCHEMA.field(name) for name in ("image", "width", "height")),
        pa.field("tokens", pa.list_(pa.uint16(), CONTEXT_LENGTH), nullable=False),
        pa.field("priorities", pa.list_(pa.uint8(), CONTEXT_LENGTH), nullable=False),
        pa.field("num_tokens", pa.uint8(), nullable=False),
        VIEW_SCHEMA.field("key"),
    ]
)
FIRST_TEXT_SCHEMA = pa.schema(
    [
        VIEW_SCHEMA.field("key"),
        pa.field("caption", pa.string(), nullable=False),
        *(field for field in ROWS_SCHEMA if field.name not in ("key", "hash")),
        pa.field("caption_cut", pa.bool_(), nullable=False),
    ]
)
REJECT_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("key", "reason", "detail", "source")]
)


def schema_of(kind: str, settings: dict[str, Any], format_version: int = FORMAT_VERSION) -> pa.Schema:
    """The schema of a column folder of one of KINDS; in format version 1 that of the file that held it."""
    if format_version == 1:
        return FIRST_TEXT_SCHEMA if kind in ("rows", "captions") else FIRST_VIEW_SCHEMA
    if kind == "view":
        return CROP_SCHEMA if "crop" in settings else VIEW_SCHEMA
    return {
        "rows": ROWS_SCHEMA,
        "captions": CAPTIONS_SCHEMA,
        "tokens": TOKENS_SCHEMA,
        "priorities": PRIORITIES_SCHEMA,
    }[kind]


def shard_file(folder: str, shard: int) -> str:
    """The path of a shard's file inside the store; folder: of a column, or "rejects" or "records/<column>"."""
    top = folder.split("/", maxsplit=1)[0]
    ending = {"rejects": "parquet", "records": "json"}.get(top, "arrow")
    return f"{folder}/{shard:05d}.{ending}"
