"""Sources: whatever pairs come in, as `Pair | Reject`; nothing is dropped without a typed reason.

    list_parts(["pairs/*.tar"], options)    the parts of the input, each of which becomes one shard
    read_part(part, options)                every pair of a part, or a reject in its place

An input is a webdataset tar (`tars`), a folder of images (`folders`), or a table (`tables`): CSV, TSV, JSON lines,
parquet, or what Hugging Face `datasets` saved; on the local disk or at an fsspec URL. The same part and options give
the same pairs and rejects in the same order. Memory is flat in the size of the input. Nothing that an input holds is
extracted, unpickled or run.
"""

from collections.abc import Iterator

from prep.pairs import Pair, Reject
from prep.sources.folders import read_folder
from prep.sources.inputs import list_parts
from prep.sources.parts import Part, SourceOptions
from prep.sources.tables import read_table
from prep.sources.tars import read_tar

__all__ = ["Part", "SourceOptions", "list_parts", "read_part"]

_READERS = {"tar": read_tar, "folder": read_folder, "table": read_table, "arrow": read_table}


def read_part(part: Part, options: SourceOptions) -> Iterator[Pair | Reject]:
    """Yield a pair or a reject for everything in a part, in its order.

    Raises `UserError` when the part cannot be read at all, is no longer what was listed, or lacks a named column.
    """
    return _READERS[part.kind](part, options)
