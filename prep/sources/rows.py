"""What any table is to its reader: rows of the wanted columns, in parts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["key", "image", "caption"]


@dataclass(frozen=True, slots=True)
class Oversized:
    """In place of a value that is over its limit."""

    num_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row. number: in the table, from 0. values: of the wanted columns. damage: why there are none, if so."""

    number: int
    values: Mapping[str, object]
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows from `first` up to `last` (None: the end). offset: where in a table of text they begin, in bytes."""

    first: int
    last: int | None
    num_bytes: int
    offset: int = 0


class CutTableError(Exception):
    """The table ends or breaks where it must not."""


class Table(Protocol):
    """An open table. Whatever is wrong with it is a `CutTableError`.

    columns: their names. surrogates: the errors handler that makes its strings the bytes that they were.
    """

    columns: list[str]
    surrogates: str

    def misfit(self, column: str, role: Role) -> str | None:
        """What the column holds, when that cannot serve as keys, images or captions."""

    def spans(self, rows_per_shard: int) -> Iterator[Span]:
        """The table cut into parts."""

    def rows(self, span: Span, limits: Mapping[str, int]) -> Iterator[Row]:
        """The rows of a part. limits: the wanted columns, and the number of bytes that their values may have.

        Strings, binaries, whole numbers, lists and structs come as Python has them.
        """
