"""Folders and inputs on the local disk and on a filesystem of fsspec's: the same behaviour, and mistakes are named."""

import io
import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from prep import places
from prep.errors import UserError
from prep.places import Folder, expand, open_input


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder.of(tmp_path / "store")
    pytest.importorskip("fsspec")
    return Folder.of(f"memory:///{uuid4().hex}/store/")


def put(folder: Folder, name: str, data: bytes = b"x") -> None:
    with folder.written(name) as file:
        file.write(data)


def test_a_file_appears_whole_or_not_at_all(folder: Folder) -> None:
    with folder.written("deep/file") as file:
        file.write(b"first")
        assert folder.size("deep/file") is None
        assert folder.names("deep") == []
    with pytest.raises(TypeError), folder.written("deep/file") as file:
        file.writelines([b"second", "no bytes"])  # type: ignore[list-item]
    assert (folder.read_bytes("deep/file"), folder.size("deep/file")) == (b"first", 5)
    put(folder, "deep/file", b"third")
    assert (folder.read_bytes("deep/file"), folder.names("deep")) == (b"third", ["file"])


def test_names_and_sizes(folder: Folder) -> None:
    assert (folder.names(""), folder.sizes("deep"), folder.size("x")) == ([], {}, None)
    for name, size in (("b", 1), ("a", 2), ("deep/c", 3), (".b.17.tmp", 4), ("deep/.c.17.tmp", 5)):
        put(folder, name, bytes(size))
    assert (folder.sizes(), folder.sizes("deep")) == ({"a": 2, "b": 1, "deep": None}, {"c": 3})
    assert (folder.size("deep"), folder.size("deep/c"), folder.size(".b.17.tmp")) == (None, 3, 4)
    folder.remove_half_written()
    assert (folder.size(".b.17.tmp"), folder.size("deep/.c.17.tmp"), folder.size("b")) == (None, None, 1)


def test_json(folder: Folder) -> None:
    folder.write_json("a.json", {"x": 1, "y": [2]})
    folder.write_json("b.json", {"y": [2], "x": 1})
    assert folder.read_bytes("a.json") == folder.read_bytes("b.json")
    assert folder.read_json("a.json") == {"x": 1, "y": [2]}
    for damaged, said in ((b"{", "wanted a JSON object"), (b"[1]", "found a list"), (b"\xff", "wanted a JSON object")):
        put(folder, "a.json", damaged)
        with pytest.raises(UserError, match=said):
            folder.read_json("a.json")
    with pytest.raises(UserError):
        folder.read_json("missing.json")


def test_reading_anywhere_in_a_file(folder: Folder) -> None:
    data = bytes(range(256)) * 1000
    put(folder, "x", data)
    with folder.open("x") as file:
        assert file.seek(0, io.SEEK_END) == len(data)
        for at in (7, 200_000, 3):
            file.seek(at)
            assert (file.read(10), file.tell()) == (data[at : at + 10], at + 10)
        file.seek(0)
        assert b"".join(iter(lambda: file.read(999), b"")) == data
    for name in ("missing", "deep"):
        with pytest.raises(UserError), folder.open(name):
            pass


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x"])
def test_no_name_leads_out(folder: Folder, name: str) -> None:
    for call in (folder.size, folder.read_bytes, folder.written, folder.names):
        with pytest.raises(UserError, match="leads out"):
            call(name)


def test_a_second_program_in_the_folder_is_told(folder: Folder) -> None:
    code = "import sys, prep.places\nwith prep.places.Folder.of(sys.argv[1]).working(): print('in')"
    command = [sys.executable, "-c", code, folder.url]
    with folder.working():
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another program is at work in this folder" in second.stderr
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"


def test_expand_in_natural_order_each_once(folder: Folder) -> None:
    for name in ("10.tar", "2.tar", "02.tar", "a/1.tar", "a/11.tar", "b.tar", "x.txt", "[abc].tar"):
        put(folder, name, name.encode())
    root = folder.url
    found = expand([f"{root}/b*.tar", f"{root}/*.tar", f"{root}/2.tar"])
    names = ("02.tar", "2.tar", "10.tar", "[abc].tar", "b.tar")
    assert [(url.rpartition("/")[2], size) for url, size in found] == [(name, len(name)) for name in names]
    found = expand([f"{root}/a", f"{root}/**/1*.tar"])
    assert [url.removeprefix(found[0][0].removesuffix("10.tar")) for url, _ in found] == [
        *("10.tar", "a", "a/1.tar", "a/11.tar")
    ]
    assert found[1][1] is None
    for url, size in expand([f"{root}/*.tar"]):
        with open_input(url) as file:
            assert len(file.read()) == size
    assert expand([f"{root}/[abc].tar"]) == [(f"{root}/[abc].tar", 9)]
    with pytest.raises(UserError, match="nothing matches"):
        expand([f"{root}/*.tgz"])
    with pytest.raises(UserError):
        expand([f"{root}/missing.tar"])


def test_the_home_folder_and_names_with_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[abc].tar").write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in (str(tmp_path / "[abc].tar"), "~/*.tar", f"file://{tmp_path}/*.tar"):
        assert expand([pattern]) == [(str(tmp_path / "[abc].tar"), 0)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nope://bucket/x", "nope is not known"),
        ("simplecache::memory://x", "a chain"),
        ("memory://x/y::file:///etc/passwd", "a chain"),
    ],
)
def test_urls_that_cannot_be(url: str, said: str) -> None:
    pytest.importorskip("fsspec")
    for call in (Folder.of, places.size_of, lambda url: expand([url])):
        with pytest.raises(UserError, match=said):
            call(url)


def test_a_protocol_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match="gcsfs") as caught:
        Folder.of("gs://bucket/x")
    assert "Install" in caught.value.remedy


def test_fsspec_is_imported_for_urls_alone(tmp_path: Path) -> None:
    code = f"""
import sys
from prep.places import Folder, expand
from prep.sources import SourceOptions, list_parts
folder = Folder.of({str(tmp_path)!r})
folder.write_json("x.json", {json.dumps({})})
folder.read_json("x.json"), folder.sizes(), expand([folder.url])
print([name for name in ("fsspec", "s3fs", "datasets") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
