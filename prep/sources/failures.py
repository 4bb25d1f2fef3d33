"""What img2dataset could not download: beside each of its tars, 00000.parquet has a row for every URL it tried.

Rows without a pair in the tar become rejects. A parquet file without img2dataset's columns is none of its.
"""

from collections.abc import Iterator

from prep.pairs import Reason, Reject
from prep.places import open_input, size_of
from prep.sources.arrow_tables import ParquetTable
from prep.sources.fields import what_is_told
from prep.sources.names import readable
from prep.sources.rows import CutTableError, Span

_COLUMNS = ("key", "status")
_MAX_VALUE_BYTES = 1 << 20


def read_failures(url: str, seen: set[str], source: str) -> Iterator[Reject]:
    """Yield an IMAGE_MISSING for each row whose key is not in `seen`, in order; nothing when there is no such file.

    A file that is damaged is one SOURCE_CUT.
    """
    num_bytes = size_of(url)
    if num_bytes is None:
        return
    with open_input(url) as file:
        try:
            table = ParquetTable(file)
            if any(table.columns.count(column) != 1 for column in _COLUMNS):
                return
            wanted = [*_COLUMNS, *(column for column in ("error_message",) if column in table.columns)]
            for row in table.rows(Span(0, None, num_bytes), dict.fromkeys(wanted, _MAX_VALUE_BYTES)):
                key = readable(str(row.values["key"]))
                if key in seen:
                    continue
                seen.add(key)
                why = "img2dataset had it, but the tar does not"
                if row.values["status"] != "success":
                    why = f"not downloaded{what_is_told(row.values)}"
                yield Reject(key, Reason.IMAGE_MISSING, readable(why), source)
        except CutTableError as cut:
            yield Reject("", Reason.SOURCE_CUT, readable(f"{url.rpartition('/')[2]}: {cut}")[:500], source)
