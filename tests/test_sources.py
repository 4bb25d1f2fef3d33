"""Tars as sources of pairs: every member is accounted for, and captions are looked for where the options say."""

import json
import tarfile
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.errors import UserError
from prep.pairs import Pair, Reject
from prep.sources import SourceOptions
from tests.tar_files import PAIRS, captions_of, info, original, outline, raw, read, tar_of


def test_pairs_come_in_order_with_their_bytes(tmp_path: Path) -> None:
    assert read(tmp_path, PAIRS) == [
        Pair("0", b"\xff\xd8 zero", original(b"zero"), "pairs.tar"),
        Pair("1", b"\x89PNG one", original(b"one"), "pairs.tar"),
    ]


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "JPG", "Png"])
def test_image_extensions(tmp_path: Path, extension: str) -> None:
    assert outline(read(tmp_path, [(f"a.{extension}", b"image"), ("a.TXT", b"caption")])) == [("a", "pair")]


def test_a_key_is_folder_and_name_up_to_the_first_dot(tmp_path: Path) -> None:
    members = [("./x/a.jpg", b"1"), ("x/a.txt", b"1"), ("y/a.jpg", b"2"), ("y/a.txt", b"2"), ("y/b.v2.jpg", b"3")]
    assert outline(read(tmp_path, members)) == [("x/a", "pair"), ("y/a", "pair"), ("y/b", "image_missing")]


def test_other_members_are_other_columns(tmp_path: Path) -> None:
    members = [("a.cls", b"7"), ("a.jpg", b"first"), ("a.mask.png", b"mask"), ("a.png", b"second"), ("a.txt", b"x")]
    assert read(tmp_path, members) == [Pair("a", b"first", original(b"x"), "pairs.tar")]


def test_the_caption_is_the_txt_else_the_jsons(tmp_path: Path) -> None:
    both = json.dumps({"caption": "from json"}).encode()
    members = [("a.jpg", b""), ("a.json", both), ("a.txt", b"from txt"), ("b.jpg", b""), ("b.json", both)]
    assert captions_of(read(tmp_path, members)) == [
        original(b"from txt"),
        original(b"from json"),
    ]


def test_a_lone_surrogate_in_a_json_is_left_to_be_refused_as_utf8(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, [("a.jpg", b""), ("a.json", rb'{"caption": "\ud800"}')])
    assert isinstance(pair, Pair)
    with pytest.raises(UnicodeDecodeError):
        pair.captions["original"][0].decode()


def test_captions_of_several_sources_keep_their_order_and_leave_out_what_is_missing(tmp_path: Path) -> None:
    facts = json.dumps({"caption": "unasked", "synthetic": ["s1", "s2", 7, None], "alt": "a1"}).encode()
    members = [
        ("a.jpg", b""),
        ("a.txt", b"t"),
        ("a.Long.TXT", b"l"),
        ("a.json", facts),
        ("b.jpg", b""),
        ("b.txt", b"t"),
    ]
    members += [("c.jpg", b""), ("c.json", b'{"caption": "unasked", "synthetic": []}')]
    fields = (("original", "TXT"), ("original", ".long.txt"), ("synthetic", "json:synthetic"), ("alt", "json:alt"))
    results = read(tmp_path, members, SourceOptions(captions=fields))
    assert captions_of(results) == [
        {"original": (b"t", b"l"), "synthetic": (b"s1", b"s2"), "alt": (b"a1",)},
        original(b"t"),
    ]
    assert outline(results)[2] == ("c", "caption_missing")


def test_a_caption_that_is_too_long_is_left_out_beside_another(tmp_path: Path) -> None:
    members = [("a.jpg", b""), ("a.txt", b"12345"), ("a.json", b'{"x": 1}'), ("b.jpg", b""), ("b.txt", b"12345")]
    members += [("b.alt", b"ok"), ("c.jpg", b""), ("c.txt", b"12345"), ("c.json", b"{}")]
    options = SourceOptions(captions=(("original", "txt"), ("alt", "alt")), max_caption_bytes=4)
    results = read(tmp_path, members, options)
    assert outline(results) == [("a", "caption_too_long"), ("b", "pair"), ("c", "caption_too_long")]
    assert captions_of(results) == [{"alt": (b"ok",)}]


@pytest.mark.parametrize("field", [".", "json", "json:", "xml:caption", "jpg", "../txt"])
def test_a_field_that_cannot_hold_captions_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(UserError, match="--captions"):
        read(tmp_path, PAIRS, SourceOptions(captions=(("original", field),)))


def test_a_cut_before_all_captions_were_seen_costs_the_pair(tmp_path: Path) -> None:
    members = [("a.jpg", b""), ("a.txt", b""), ("a.json", b"{}")]
    cut = tar_of(members)[: 512 * 3]
    assert outline(read(tmp_path, cut)) == [("a", "pair"), ("", "source_cut")]
    options = SourceOptions(captions=(("original", "txt"), ("synthetic", "json:synthetic")))
    assert outline(read(tmp_path, cut, options)) == [("a", "source_cut")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"caption": null}', "only jpg, json"),
        (b'{"caption": [7, null]}', "only jpg, json"),
        (b"{}", "only jpg, json"),
        (b"[1]", "found a list"),
        (b"{", "damaged"),
        (b"\xff\xfe\xfd", "damaged"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_a_caption_that_is_missing_says_what_was_found(tmp_path: Path, body: bytes, told: str) -> None:
    results = read(tmp_path, [("a.jpg", b""), ("a.json", body), *PAIRS])
    assert outline(results) == [("a", "caption_missing"), ("0", "pair"), ("1", "pair")]
    assert isinstance(results[0], Reject)
    assert told in results[0].detail


def test_a_failed_download_tells_its_status(tmp_path: Path) -> None:
    facts = {"caption": "x", "status": "failed_to_download", "error_message": "HTTP Error 404: Not Found \ud800"}
    results = read(tmp_path, [("a.json", json.dumps(facts).encode()), ("a.txt", b"x")])
    assert outline(results) == [("a", "image_missing")]
    assert isinstance(results[0], Reject)
    assert "failed_to_download" in results[0].detail
    assert "404" in results[0].detail


def test_stray_files_are_rejects_and_folders_are_not(tmp_path: Path) -> None:
    folder = raw(info("x", kind=tarfile.DIRTYPE))
    stray = tar_of(
        [("stats.json", b"{}"), ("x/a.jpg", b""), ("x/a.txt", b""), ("part.parquet", b"PAR1"), ("README", b"")]
    )
    assert outline(read(tmp_path, folder + stray)) == [
        ("stats", "image_missing"),
        ("x/a", "pair"),
        ("part", "image_missing"),
        ("README", "image_missing"),
    ]


def test_hidden_twins_do_not_part_a_pair(tmp_path: Path) -> None:
    members = [("x/._a.jpg", b"mac"), ("x/a.jpg", b"image"), ("x/._a.txt", b"mac"), ("x/a.txt", b"caption")]
    assert outline(read(tmp_path, members)) == [
        ("x/._a.jpg", "image_missing"),
        ("x/._a.txt", "image_missing"),
        ("x/a", "pair"),
    ]


def test_a_key_that_comes_again_is_a_reject_each_time(tmp_path: Path) -> None:
    again = [("0.jpg", b"another"), ("0.txt", b"another")]
    results = read(tmp_path, [*PAIRS, *again, ("2.jpg", b""), ("2.txt", b""), *again])
    assert outline(results) == [
        ("0", "pair"),
        ("1", "pair"),
        ("0", "duplicate_key"),
        ("2", "pair"),
        ("0", "duplicate_key"),
    ]
    assert isinstance(results[0], Pair)
    assert results[0].captions == original(b"zero")


def test_an_extension_that_comes_again_is_a_reject_and_the_first_wins(tmp_path: Path) -> None:
    results = read(tmp_path, [("a.jpg", b"first"), ("a.JPG", b"second"), ("a.txt", b"x"), ("a.txt", b"y")])
    assert outline(results) == [("a", "duplicate_key"), ("a", "duplicate_key"), ("a", "pair")]
    assert results[2] == Pair("a", b"first", original(b"x"), "pairs.tar")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../../x", "../../x"),
        ("a/../../x", "a/../../x"),
        ("..", ".."),
        ("/etc/x", "/etc/x"),
        ("..\\..\\x", "..\\..\\x"),
        ("\\\\server\\x", "\\\\server\\x"),
        ("C:\\x", "C:\\x"),
        ("C:/x", "C:/x"),
        ("a\nb", "a\\nb"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("é\0b", "é\\x00b"),
        ("a\x9bb", "a\\x9bb"),
    ],
)
def test_unsafe_names_are_one_reject_a_group_and_touch_nothing(tmp_path: Path, name: str, key: str) -> None:
    around = sorted((tmp_path / "pairs.tar").parent.parent.rglob("*"))
    suffixes = [""] if name in ("..", "..\\..\\x") else [".jpg", ".txt"]
    results = read(tmp_path, [*((name + suffix, b"x") for suffix in suffixes), *PAIRS])
    assert outline(results) == [(key, "unsafe_name"), ("0", "pair"), ("1", "pair")]
    assert sorted((tmp_path / "pairs.tar").parent.parent.rglob("*")) == sorted([*around, (tmp_path / "pairs.tar")])


def test_other_names_are_kept_as_they_are(tmp_path: Path) -> None:
    for key in ("x/y z", "12:30", "b\\c", "é/日本"):
        assert outline(read(tmp_path, [(f"{key}.jpg", b""), (f"{key}.txt", b"")])) == [(key, "pair")]


def test_limits_are_inclusive_and_a_long_json_is_passed_over(tmp_path: Path) -> None:
    facts = json.dumps({"caption": "x" * 20}).encode()
    members = [("a.jpg", b"12345"), ("a.txt", b"1234"), ("b.jpg", b"123456"), ("b.txt", b"1"), ("c.jpg", b"1")]
    members += [
        ("c.txt", b"12345"),
        ("d.jpg", b"1"),
        ("d.json", facts),
        ("d.txt", b"1"),
        ("e.jpg", b""),
        ("e.json", facts),
    ]
    assert outline(read(tmp_path, members, SourceOptions(max_image_bytes=5, max_caption_bytes=4))) == [
        ("a", "pair"),
        ("b", "image_too_large"),
        ("c", "caption_too_long"),
        ("d", "pair"),
        ("e", "caption_missing"),
    ]


names = st.tuples(st.sampled_from("abc"), st.sampled_from(["jpg", "png", "txt", "json", "cls", ""]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names, max_size=20))
def test_every_group_ends_as_exactly_one_pair_or_reject(tmp_path: Path, members: list[tuple[str, str]]) -> None:
    groups = [(key, [extension for _, extension in group]) for key, group in groupby(members, lambda name: name[0])]
    results = read(tmp_path, [(f"{key}.{extension}", b"{}") for key, extension in members])
    wanted, seen = Counter[tuple[str, str]](), set[str]()
    for key, extensions in groups:
        wanted[key, "duplicate_key"] += len(extensions) - len(set(extensions))
        if key in seen:
            wanted[key, "duplicate_key"] += 1
        elif not {"jpg", "png"} & set(extensions):
            wanted[key, "image_missing"] += 1
        else:
            wanted[key, "pair" if "txt" in extensions else "caption_missing"] += 1
        seen.add(key)
    assert Counter(outline(results)) == +wanted
