"""Which columns of a table are the key, the image and the captions: those that are named, or those with usual names."""

from dataclasses import dataclass

from prep.errors import UserError
from prep.sources.names import readable
from prep.sources.parts import SourceOptions
from prep.sources.rows import Role, Table

USUAL_KEYS = ("key", "id", "__key__", "uid")
USUAL_IMAGES = (
    *("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes"),
    *("image_path", "path", "file_name", "filename", "filepath", "file"),
)
USUAL_CAPTIONS = ("caption", "text", "TEXT", "captions", "title", "txt", "description", "prompt", "alt_text")
# What downloaders note of an image that they have not.
TOLD = ("status", "error_message")
_URLS = ("url", "URL", "image_url", "urls")


@dataclass(frozen=True, slots=True)
class Columns:
    """key: None for the row's number. captions: (name, column) each. told: those of TOLD that are there."""

    key: str | None
    image: str
    captions: tuple[tuple[str, str], ...]
    told: tuple[str, ...]


def choose_columns(url: str, table: Table, options: SourceOptions) -> Columns:
    """The columns of a table that the options ask for.

    Raises `UserError` for a column that is not there, naming those that are, or whose type cannot serve.
    """
    key = options.key or _first(table, USUAL_KEYS)
    image = options.image or _first(table, USUAL_IMAGES)
    if image is None:
        if _first(table, _URLS) is not None:
            raise UserError(url, "this table holds URLs, not images", "Download them: python -m prep.fetch")
        raise _missing(url, table, "an image column", "--image-column")
    usual = _first(table, USUAL_CAPTIONS)
    captions = []
    for name, column in options.captions or (("original", ""),):
        if not column and usual is None:
            raise _missing(url, table, "a caption column", f"--captions {name}=COLUMN")
        captions.append((name, column or usual or ""))
    if key is not None:
        _check(url, table, key, "key", "--key-column")
    _check(url, table, image, "image", "--image-column")
    for _, column in captions:
        _check(url, table, column, "caption", "--captions NAME=COLUMN")
    told = tuple(name for name in TOLD if name in table.columns and table.misfit(name, "key") is None)
    return Columns(key, image, tuple(captions), told)


def _first(table: Table, usual: tuple[str, ...]) -> str | None:
    return next((name for name in usual if name in table.columns), None)


def _check(url: str, table: Table, column: str, role: Role, option: str) -> None:
    if column not in table.columns:
        raise _missing(url, table, f"a column {column!r}", option)
    if found := table.misfit(column, role):
        wanted = {"key": "strings or whole numbers", "image": "images, or their paths", "caption": "strings"}[role]
        problem = f"wanted {wanted} in the column {column!r}, found {found}"
        raise UserError(url, problem, f"Name another column: {option}")


def _missing(url: str, table: Table, wanted: str, option: str) -> UserError:
    columns = ", ".join(readable(column)[:60] or "''" for column in table.columns[:40])
    more = f" and {len(table.columns) - 40} more" if len(table.columns) > 40 else ""
    return UserError(url, f"wanted {wanted}; the columns are {columns}{more}", f"Name one: {option}")
