"""Lists of URLs in every format, and the messages for those that do not fit."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep.errors import UserError
from prep.fetch_list import Columns, Plan, adopt, find_columns, pieces, tables

ROWS = [
    {"id": 7, "URL": "http://a.example/1.jpg", "TEXT": 'two\nlines, a comma and a "quote"', "score": "0.5"},
    {"id": 8, "URL": "http://a.example/2.jpg", "TEXT": "été 123", "score": "1"},
    {"id": 9, "URL": "http://a.example/3.jpg", "TEXT": "456", "score": "x"},
]


def write_list(path: Path, rows: list[dict[str, object]]) -> Path:
    """In the format that the name asks for."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if plain.suffix == ".jsonl":
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        options = pyarrow.csv.WriteOptions(delimiter="\t" if plain.suffix == ".tsv" else ",")
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), sink, options)
        data = sink.getvalue().to_pybytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.jsonl.gz"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    files = [write_list(tmp_path / name, ROWS), write_list(tmp_path / f"b{name[1:]}", ROWS[:1])]
    columns = find_columns(files, None, None, ["score"])
    assert columns == Columns("URL", "TEXT", ("score",))
    rows = pa.concat_tables(tables(files, columns)).to_pylist()
    wanted = [{"caption": row["TEXT"], "score": row["score"], "url": row["URL"]} for row in [*ROWS, ROWS[0]]]
    assert rows == [{"row": i, **row} for i, row in enumerate(wanted)]


def test_columns_are_found_by_their_usual_names_or_as_they_are_given(tmp_path: Path) -> None:
    path = write_list(tmp_path / "a.csv", [{"src": "s", "Image_URL": "u", "alt": "a", "caption": "c", "mine": "m"}])
    assert find_columns([path], None, None, []) == Columns("Image_URL", "caption")
    assert find_columns([path], "src", "mine", []) == Columns("src", "mine")


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_pieces_are_full_and_nothing_is_lost(sizes: list[int], num_rows: int) -> None:
    rows = iter(range(sum(sizes)))
    parts = [pa.table({"row": pa.array([next(rows) for _ in range(size)], pa.int64())}) for size in sizes]
    found = list(pieces(parts, num_rows))
    assert [row for piece in found for row in piece["row"].to_pylist()] == list(range(sum(sizes)))
    assert all(piece.num_rows == num_rows for piece in found[:-1])
    assert all(0 < piece.num_rows <= num_rows for piece in found)


def test_a_list_that_does_not_fit_is_refused_with_its_columns(tmp_path: Path) -> None:
    def refused(path: Path, *others: str, url: str | None = None) -> str:
        with pytest.raises(UserError) as caught:
            list(tables([path], find_columns([path], url, None, others)))
        return str(caught.value)

    headless = tmp_path / "headless.tsv"
    headless.write_text("a dog\thttp://a.example/1.jpg\n")
    assert "column of URLs (one of url," in (message := refused(headless))
    assert "found 'a dog', 'http://a.example/1.jpg'" in message
    assert "--url-column NAME" in message
    good = write_list(tmp_path / "a.parquet", ROWS)
    assert "column of URLs ('link'), found 'id', 'URL', 'TEXT', 'score'" in refused(good, url="link")
    assert "wanted a column 'size', found 'id'" in refused(good, "size")
    assert "'key' is a name that the output has for itself" in refused(good, "key")
    assert "no such file" in refused(tmp_path / "b.parquet")
    assert "ends in .parquet" in refused(write_list(tmp_path / "a.parquet", ROWS).rename(tmp_path / "a.arrow"))
    bytes_kept = write_list(tmp_path / "bytes.parquet", [{**ROWS[0], "thumb": b"\xff"}])
    assert "column 'thumb' is of type binary" in refused(bytes_kept, "thumb")
    several = write_list(tmp_path / "lists.parquet", [{**ROWS[0], "TEXT": ["a", "b"]}])
    assert "cannot be read" in refused(several)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.csv.gz"])
def test_a_damaged_list_is_refused(tmp_path: Path, name: str) -> None:
    path = write_list(tmp_path / name, ROWS)
    path.write_bytes(path.read_bytes()[:-9].replace(b"a.example/2", b"\xff.example\n2"))
    with pytest.raises(UserError, match="cannot be read"):
        list(tables([path], find_columns([path], None, None, [])))


def test_a_folder_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    path = write_list(tmp_path / "a.csv", ROWS)
    out = tmp_path / "out"
    out.mkdir()
    plan = Plan((path,), find_columns([path], None, None, []), 100, None)
    assert adopt(out, plan) is None
    larger = Plan(plan.files, plan.columns, 200, None)
    assert adopt(out, larger) is None  # nothing was fetched yet
    (out / "00000.tar").touch()
    with pytest.raises(UserError, match="rows_per_shard was 200, is now 100"):
        adopt(out, plan)
    write_list(path, ROWS[:2])
    with pytest.raises(UserError, match="inputs was"):
        adopt(out, larger)
    (tmp_path / "other" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match="new or empty folder"):
        adopt(tmp_path / "other", plan)
