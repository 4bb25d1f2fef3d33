"""The columns of a store against each other: that row i is the same pair in all, and its captions the same captions.

What `prep.verify_file` noted of each record batch is compared; only where that differs are two files opened again, to
name the row.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from prep.manifest import Column, Manifest
from prep.places import Folder
from prep.schemas import ROWS_FOLDER
from prep.verify_file import FileReport, Problem, read_file
from prep.verify_values import shared_by_row


def check_columns(folder: Folder, manifest: Manifest, reports: Mapping[str, FileReport]) -> Iterator[Problem]:
    """Files whose keys, captions or tokens are not those of the column that they follow. reports: by path."""
    for column in manifest.columns.values():
        for name, leader in _leaders(manifest, column):
            for mine, its in zip(column.files, leader.files, strict=False):
                if mine.path != its.path and mine.path in reports and its.path in reports:
                    yield from _compare(folder, name, reports[mine.path], reports[its.path])


def _leaders(manifest: Manifest, column: Column) -> Iterator[tuple[str, Column]]:
    """What must be the same as in which other column."""
    _, *names = column.folder.split("/")
    wanted = {"key": ROWS_FOLDER}
    if column.kind in ("tokens", "priorities"):
        wanted["number of captions"] = "/".join(["captions", *names[:1]])
    if column.kind == "priorities":
        wanted["number of tokens"] = "/".join(["tokens", *names[:2]])
    for name, leader in wanted.items():
        if leader in manifest.columns:
            yield name, manifest.columns[leader]


def _compare(folder: Folder, name: str, mine: FileReport, its: FileReport) -> Iterator[Problem]:
    pairs = enumerate(zip(mine.batches, its.batches, strict=False))
    differing = [number for number, (a, b) in pairs if a and b and name in a and name in b and a[name] != b[name]]
    if not differing:
        return
    batch = differing[0]
    a, b = (_batch(folder, report.path, batch) for report in (mine, its))
    rows_a, rows_b = shared_by_row(a).get(name, []), shared_by_row(b).get(name, [])
    row = next((row for row, pair in enumerate(zip(rows_a, rows_b, strict=False)) if pair[0] != pair[1]), None)
    more = f", and of {len(differing) - 1:,} batches more" if len(differing) > 1 else ""
    yield Problem(mine.path, f"the {name} is not that of the same row in {its.path}{more}", batch, row)


def _batch(folder: Folder, path: str, number: int) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.BufferReader(read_file(folder, path))).get_batch(number)
