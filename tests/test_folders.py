"""Folders of images: every file is a pair, part of one, or a reject; nothing outside the folder is read."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.errors import UserError
from prep.pairs import Pair, Reject
from prep.sources import SourceOptions, list_parts, read_part
from tests.tar_files import captions_of, held, original, outline


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def read(folder: Path, options: SourceOptions | None = None) -> list[Pair | Reject]:
    options = options or SourceOptions()
    parts = list_parts([str(folder)], options)
    assert {(part.kind, part.url, part.name) for part in parts} == {("folder", str(folder), folder.name)}
    return held((item for part in parts for item in read_part(part, options)), folder.name)


def test_pairs_come_in_order_a_folders_own_before_its_folders(tmp_path: Path) -> None:
    files = {f"{key}.{extension}": key.encode() for key in ("b/x", "b/a", "z", "a/1") for extension in ("jpg", "txt")}
    assert read(write(tmp_path / "cats", files)) == [
        Pair(key, key.encode(), original(key.encode()), "cats") for key in ("z", "a/1", "b/a", "b/x")
    ]


def test_what_belongs_to_an_image(tmp_path: Path) -> None:
    facts = json.dumps({"caption": "json", "synthetic": ["1", "2"]}).encode()
    files = {"a.b.jpg": b"", "a.b.txt": b"txt", "a.JPG": b"", "a.Txt": b"TXT", "a.other.npy": b"", "a.md": b""}
    files |= {"c.webp": b"", "c.json": facts, "d.png": b"", "d.json": b"{", "e.gif": b"", "e.Long.txt": b"long"}
    folder = write(tmp_path / "x", files)
    results = read(folder)
    assert outline(results) == [
        *[("a", "pair"), ("a.b", "pair"), ("c", "pair"), ("d", "caption_missing"), ("e", "caption_missing")]
    ]
    assert captions_of(results) == [original(b"TXT"), original(b"txt"), original(b"json")]
    assert isinstance(results[3], Reject)
    assert "the .json is damaged" in results[3].detail
    fields = (("original", "txt"), ("original", "json:caption"), ("synthetic", "json:synthetic"), ("l", "long.txt"))
    results = read(folder, SourceOptions(captions=fields))
    assert captions_of(results)[2:] == [
        {"original": (b"json",), "synthetic": (b"1", b"2")},
        {"l": (b"long",)},
    ]


def test_what_belongs_to_no_image_is_a_reject(tmp_path: Path) -> None:
    files = {name: b"" for name in ("a.jpg", "a.png", "a.txt", "gone.txt", "gone.json", "README", ".DS_Store")}
    files |= {"sub/.git/config": b"", "sub/.git/b.jpg": b"", "c\x1b.jpg": b"", "caf\udce9.txt": b""}
    results = read(write(tmp_path / "x", files))
    assert outline(results) == [
        (".DS_Store", "image_missing"),
        ("README", "image_missing"),
        ("a", "pair"),
        ("a", "duplicate_key"),
        ("c\\x1b.jpg", "unsafe_name"),
        ("caf\\xe9", "image_missing"),
        ("gone", "image_missing"),
        ("sub/.git", "image_missing"),
    ]
    details = [result.detail for result in results if isinstance(result, Reject)]
    assert details[-2] == "found only json, txt"


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    write(tmp_path, {"secret.jpg": b"secret", "secret.txt": b"secret"})
    folder = write(tmp_path / "x", {"a.jpg": b"a", "a.txt": b"a", "c.jpg": b"", "d.txt": b"", "deep/e.txt": b"e"})
    for name, target in {
        **{"b.jpg": "a.jpg", "b.txt": str(folder / "a.txt"), "c.txt": "../secret.txt", "d.jpg": "../secret.jpg"},
        **{"deep/e.jpg": "../a.jpg", "f.jpg": "nowhere", "f.txt": "a.txt", "loop": ".", "out": str(tmp_path)},
    }.items():
        (folder / name).symlink_to(target)
    assert outline(read(folder)) == [
        *[("a", "pair"), ("b", "pair"), ("c", "unsafe_name"), ("d", "unsafe_name"), ("f", "image_missing")],
        *[("loop", "not_a_file"), ("out", "not_a_file"), ("deep/e", "pair")],
    ]
    (tmp_path / "link").symlink_to(folder)
    assert len(read(tmp_path / "link")) == 8


def test_pipes_and_folders_with_names_of_images_are_not_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"a.txt": b"", "b.jpg": b"", "c.jpg/d.jpg": b"", "c.jpg/d.txt": b""})
    os.mkfifo(folder / "a.jpg")
    os.mkfifo(folder / "b.txt")
    assert outline(read(folder)) == [("a", "not_a_file"), ("b", "not_a_file"), ("c.jpg/d", "pair")]


def test_limits_are_inclusive(tmp_path: Path) -> None:
    files = {"a.jpg": b"12345", "a.txt": b"1234", "b.jpg": b"123456", "b.txt": b"1", "c.jpg": b"1", "c.txt": b"12345"}
    results = read(write(tmp_path / "x", files), SourceOptions(max_image_bytes=5, max_caption_bytes=4))
    assert outline(results) == [("a", "pair"), ("b", "image_too_large"), ("c", "caption_too_long")]


def test_a_folder_that_shrank_since_it_was_listed_is_the_users_to_mend(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {f"{i}.{extension}": b"" for i in range(3) for extension in ("jpg", "txt")})
    (part,) = list_parts([str(folder)], SourceOptions())
    assert part.num_bytes == 0
    (folder / "1.jpg").unlink()
    (folder / "1.txt").unlink()
    with pytest.raises(UserError, match="1 fewer"):
        list(read_part(part, SourceOptions()))


def test_a_folder_deeper_than_the_stack(tmp_path: Path) -> None:
    name, limit = "a/" * 400, sys.getrecursionlimit()
    folder = write(tmp_path / "x", {f"{name}b.jpg": b"", f"{name}b.txt": b""})
    sys.setrecursionlimit(350)
    try:
        results = read(folder)
    finally:
        sys.setrecursionlimit(limit)
    assert outline(results) == [(f"{name}b", "pair")]


names = st.tuples(
    st.sampled_from(["", "a/", "a/b/"]),
    st.sampled_from(["x", "x.y", ".x", "z"]),
    st.sampled_from(["jpg", "png", "txt", "json", "y.txt", "npy"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(names, min_size=1), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_image_is_one_item_and_parts_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, files: set[tuple[str, str, str]], size: int, random: object
) -> None:
    folder = tmp_path_factory.mktemp("x") / "x"
    write(folder, {f"{place}{stem}.{extension}": b"{}" for place, stem, extension in files})
    whole, parted = (read(folder, SourceOptions(rows_per_shard=n)) for n in (1000, size))
    assert parted == whole
    num_images = sum(extension in ("jpg", "png") and stem[0] != "." for _, stem, extension in files)
    of_images = [what for _, what in outline(whole) if what in ("pair", "caption_missing", "duplicate_key")]
    assert len(of_images) == num_images
