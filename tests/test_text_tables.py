"""CSV, TSV and JSON lines: what a writer wrote comes back, in parts or whole, and no row is lost in silence."""

import csv
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.errors import UserError
from prep.pairs import Pair, Reject
from prep.sources import Part, SourceOptions, list_parts, read_part
from tests.tar_files import captions_of, held, original, outline


def parts_of(path: Path, data: str | bytes, options: SourceOptions | None = None) -> list[Part]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list_parts([str(path)], options or SourceOptions())


def read(path: Path, data: str | bytes, options: SourceOptions | None = None) -> list[Pair | Reject]:
    """Everything in a table; images a.jpg and b.jpg lie beside it."""
    for name in ("a", "b"):
        (path.parent / f"{name}.jpg").write_bytes(name.encode())
    parts = parts_of(path, data, options)
    return held((item for part in parts for item in read_part(part, options or SourceOptions())), path.name)


CSV = "id,image,caption\n7,a.jpg,one\n8,b.jpg,two\n"
TSV = "caption\tpath\none\ta.jpg\ntwo\tb.jpg\n"
JSONL = (
    '{"key": "7", "file_name": "a.jpg", "text": "one"}\n\n{"key": 8, "file_name": "b.jpg", "text": ["two", "zwei"]}\n'
)


def test_each_kind_gives_its_pairs(tmp_path: Path) -> None:
    for data in (CSV, "\ufeff" + CSV, CSV.replace("\n", "\r\n"), CSV.rstrip(), CSV.replace("a.jpg", '"a.jpg"')):
        assert read(tmp_path / "x.csv", data) == [
            Pair("7", b"a", original(b"one"), "x.csv"),
            Pair("8", b"b", original(b"two"), "x.csv"),
        ]
    assert read(tmp_path / "x.tsv", TSV) == [
        Pair("x-000000000", b"a", original(b"one"), "x.tsv"),
        Pair("x-000000001", b"b", original(b"two"), "x.tsv"),
    ]
    assert read(tmp_path / "x.jsonl", JSONL) == [
        Pair("7", b"a", original(b"one"), "x.jsonl"),
        Pair("8", b"b", original(b"two", b"zwei"), "x.jsonl"),
    ]


def test_columns_that_are_named(tmp_path: Path) -> None:
    data = "id,image,caption,who,where,long\n1,x,unasked,me,a.jpg,longer\n2,x,unasked,you,b.jpg,\n"
    fields = (("original", "id"), ("original", "who"), ("synthetic", "long"))
    results = read(tmp_path / "x.csv", data, SourceOptions(captions=fields, key="who", image="where"))
    assert outline(results) == [("me", "pair"), ("you", "pair")]
    assert captions_of(results) == [
        {"original": (b"1", b"me"), "synthetic": (b"longer",)},
        {"original": (b"2", b"you"), "synthetic": (b"",)},
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (SourceOptions(image="photo"), "wanted a column 'photo'; the columns are id, image, caption"),
        (SourceOptions(key="photo"), "'photo'"),
        (SourceOptions(captions=(("original", "photo"),)), "'photo'"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, options: SourceOptions, wanted: str
) -> None:
    with pytest.raises(UserError, match=wanted):
        parts_of(tmp_path / "x.csv", CSV, options)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("picture,caption\na.jpg,x\n", "an image column; the columns are picture, caption"),
        ("image,words\na.jpg,x\n", "a caption column"),
        ("url,caption\nhttp://x/a.jpg,x\n", "prep.fetch"),
        ("image,caption\nhttps://x/a.jpg,x\n", "prep.fetch"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, data: str, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        parts_of(tmp_path / "x.csv", data)


def test_paths_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "a.jpg").write_bytes(b"outside")
    (folder / "link.jpg").symlink_to("../a.jpg")
    paths = [
        "../a.jpg",
        str(tmp_path / "a.jpg"),
        "link.jpg",
        "http://x/a.jpg",
        "none.jpg",
        "",
        ".",
        "a\x1b.jpg",
        "x" * 300,
    ]
    rows = [{"image": path, "text": "x"} for path in ["./a.jpg", "x/../b.jpg", str(folder / "a.jpg"), *paths, "\ud800"]]
    data = "\n".join(map(json.dumps, rows))
    found = [what for _, what in outline(read(folder / "x.jsonl", data))]
    assert found == [
        *("pair", "pair", "pair", "unsafe_name", "unsafe_name", "unsafe_name"),
        *(
            "image_missing",
            "image_missing",
            "image_missing",
            "not_a_file",
            "unsafe_name",
            "image_missing",
            "unsafe_name",
        ),
    ]
    rooted = read(folder / "x.jsonl", '{"image": "in/a.jpg", "text": "x"}', SourceOptions(image_root=str(tmp_path)))
    assert [what for _, what in outline(rooted)] == ["pair"]


def test_keys_that_are_missing_or_come_again(tmp_path: Path) -> None:
    keys: list[object] = [None, "", True, 1.5, [1], 7, "7", "a\nb", "a\\nb", "\ud800"]
    data = "\n".join(json.dumps({"key": key, "image": "a.jpg", "text": "x"}) for key in keys)
    missing = [(f"x-00000000{i}", "key_missing") for i in range(5)]
    wanted = [("7", "pair"), ("7", "duplicate_key"), ("a\\nb", "pair"), ("a\\nb", "duplicate_key"), ("\\ud800", "pair")]
    assert outline(read(tmp_path / "x.jsonl", data)) == missing + wanted


def test_limits(tmp_path: Path) -> None:
    rows = [("a.jpg", ["1234"]), ("a.jpg", ["12345", "1"]), ("a.jpg", ["12345"]), ("a.jpg", []), ("big.jpg", ["1"])]
    (tmp_path / "big.jpg").write_bytes(b"12")
    data = "\n".join(json.dumps({"image": image, "text": text}) for image, text in rows)
    results = read(tmp_path / "x.jsonl", data, SourceOptions(max_image_bytes=1, max_caption_bytes=4))
    assert [what for _, what in outline(results)] == [
        *("pair", "pair", "caption_too_long", "caption_missing", "image_too_large")
    ]
    assert captions_of(results) == [original(b"1234"), original(b"1")]


def test_bytes_that_are_not_utf8_stay_what_they_are(tmp_path: Path) -> None:
    (pair,) = read(tmp_path / "x.csv", b"key,image,text\ncaf\xe9,a.jpg,caf\xe9\n")
    assert pair == Pair("caf\\xe9", b"a", original(b"caf\xe9"), "x.csv")
    assert outline(read(tmp_path / "x.jsonl", b'{"image": "a.jpg", "text": "x"}\n{"image": "caf\xe9"}')) == [
        ("x-000000000", "pair"),
        ("x-000000001", "row_damaged"),
    ]


def test_a_damaged_row_costs_itself_alone(tmp_path: Path) -> None:
    rows = ["a.jpg,x", "a.jpg", "a.jpg,x,y", 'a.jpg,"open', 'a.jpg,"closed" twice', 'a.jpg,"in\nside"', "a.jpg,x"]
    found = outline(read(tmp_path / "x.csv", "image,text\n" + "\n".join(rows)))
    kept = ["pair", "row_damaged", "row_damaged", "pair", "pair", "pair", "pair"]
    assert [what for _, what in found] == kept
    lines = ["[1]", "{", "{}", "[" * 100_000, '{"image": "a.jpg", "text": "x"}']
    found = outline(read(tmp_path / "x.jsonl", "\n".join([lines[-1], *lines])))
    assert [what for _, what in found] == [
        *("pair", "row_damaged", "row_damaged", "image_missing", "row_damaged", "pair")
    ]
    quoted = 'text\timage\n"open\ta.jpg\n"Nice!"\ta.jpg\nmid "dle\ta.jpg\nend"\ta.jpg\n'
    texts = [b'"open', b"Nice!", b'mid "dle', b'end"']
    assert captions_of(read(tmp_path / "x.tsv", quoted)) == [original(text) for text in texts]


def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path: Path) -> None:
    for rows_per_shard in (5000, 300):
        options = SourceOptions(rows_per_shard=rows_per_shard)
        rows = ['a.jpg,"never closed', *(f"b.jpg,{i} {'x' * 40}" for i in range(2000))]
        assert len(captions_of(read(tmp_path / "x.csv", "image,text\n" + "\n".join(rows), options))) == 2001


def test_a_huge_line_never_enters_memory(tmp_path: Path) -> None:
    huge = b"a.jpg," + b"x" * (40 << 20) + b"\na.jpg,x\n"
    tracemalloc.start()
    try:
        path = tmp_path / "x.csv"
        results = outline(read(path, b"image,text\n" + huge))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        list(read_part(Part("table", str(path), "x.csv", 0), SourceOptions()))
        assert tracemalloc.get_traced_memory()[1] - before < 24 << 20
    finally:
        tracemalloc.stop()
    assert [what for _, what in results] == ["row_damaged", "pair"]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfe", b"[1]\n", b"\0" * 5000])
def test_what_is_no_table_is_a_cut_or_a_message(tmp_path: Path, data: bytes) -> None:
    assert outline(read(tmp_path / "x.jsonl", data)) == [("", "source_cut")]
    if not data.strip():
        assert outline(read(tmp_path / "x.csv", data)) == [("", "source_cut")]
        return
    with pytest.raises(UserError, match="an image column"):
        read(tmp_path / "x.csv", data)


def test_a_table_that_shrank_since_it_was_listed_is_the_users_to_mend(tmp_path: Path) -> None:
    (part,) = parts_of(tmp_path / "x.csv", CSV)
    (tmp_path / "x.csv").write_text(CSV[: CSV.index("8,")])
    with pytest.raises(UserError, match="found 1 of them"):
        list(read_part(part, SourceOptions()))


fields = st.text(st.sampled_from('ab,\t"\n\r \x00é'), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(fields, min_size=1, max_size=12), st.integers(1, 5))
def test_what_pythons_csv_writes_comes_back_in_parts_and_whole(tmp_path: Path, texts: list[str], size: int) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([("image", "text"), *(("a.jpg", text) for text in texts)])
    data = file.getvalue().encode()
    whole, parted = (read(tmp_path / "x.csv", data, SourceOptions(rows_per_shard=n)) for n in (1000, size))
    assert captions_of(whole) == [original(text.encode()) for text in texts]
    assert parted == whole
    assert len(parts_of(tmp_path / "x.csv", data, SourceOptions(rows_per_shard=size))) == -(-len(texts) // size)
