"""Tars: every member is accounted for, whatever its name, and a cut is noticed wherever it falls."""

import gzip
import io
import json
import tarfile
import tracemalloc
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.errors import UserError
from prep.pairs import Pair, Reason, Reject
from prep.sources import list_tars, read_tar

Members = list[tuple[str, bytes]]
PAIRS: Members = [("0.jpg", b"\xff\xd8 zero"), ("0.txt", b"zero"), ("1.png", b"\x89PNG one"), ("1.txt", b"one")]


def info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


def tar_of(members: Members, encoding: str = "utf-8", kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", encoding=encoding, format=kind, errors="surrogateescape") as archive:
        for name, body in members:
            archive.addfile(info(name, len(body)), io.BytesIO(body))
    return file.getvalue()


def raw(header: tarfile.TarInfo, body: bytes = b"") -> bytes:
    """One member, without an archive around it; GNU headers can hold what no archive should."""
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + body + bytes(-len(body) % 512)


@pytest.fixture
def read(tmp_path: Path) -> "Reader":
    return Reader(tmp_path / "pairs.tar")


class Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, data: bytes | Members, **limits: int) -> list[Pair | Reject]:
        self.path.write_bytes(data if isinstance(data, bytes) else tar_of(data))
        results = list(read_tar(self.path, **limits))
        for result in results:
            assert (result.key.isprintable(), result.source) == (True, self.path.name)
            assert isinstance(result, Pair) or result.detail.encode()  # fit for a column of UTF-8
        return results


def outline(results: list[Pair | Reject]) -> list[tuple[str, str]]:
    return [(r.key, r.reason.value if isinstance(r, Reject) else "pair") for r in results]


def test_pairs_come_in_order_with_their_bytes(read: Reader) -> None:
    assert read(PAIRS) == [
        Pair("0", b"\xff\xd8 zero", (b"zero",), "pairs.tar"),
        Pair("1", b"\x89PNG one", (b"one",), "pairs.tar"),
    ]


def test_webdatasets_own_writer_makes_whole_tars(read: Reader) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(read.path)) as writer:
        for i in range(3):
            writer.write({"__key__": f"{i:09d}", "jpg": b"image", "txt": f"caption {i}", "json": {"status": "success"}})
    results = read(read.path.read_bytes())
    assert results == [Pair(f"{i:09d}", b"image", (b"caption %d" % i,), "pairs.tar") for i in range(3)]


def test_an_empty_archive_is_empty(read: Reader) -> None:
    assert read([]) == []


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "JPG", "Png"])
def test_image_extensions(read: Reader, extension: str) -> None:
    assert outline(read([(f"a.{extension}", b"image"), ("a.TXT", b"caption")])) == [("a", "pair")]


def test_a_key_is_folder_and_name_up_to_the_first_dot(read: Reader) -> None:
    members = [("./x/a.jpg", b"1"), ("x/a.txt", b"1"), ("y/a.jpg", b"2"), ("y/a.txt", b"2"), ("y/b.v2.jpg", b"3")]
    assert outline(read(members)) == [("x/a", "pair"), ("y/a", "pair"), ("y/b", "image_missing")]


def test_other_members_are_other_columns(read: Reader) -> None:
    members = [("a.cls", b"7"), ("a.jpg", b"first"), ("a.mask.png", b"mask"), ("a.png", b"second"), ("a.txt", b"x")]
    assert read(members) == [Pair("a", b"first", (b"x",), "pairs.tar")]


def test_the_caption_is_the_txt_else_the_jsons(read: Reader) -> None:
    both = json.dumps({"caption": "from json"}).encode()
    members = [("a.jpg", b""), ("a.json", both), ("a.txt", b"from txt"), ("b.jpg", b""), ("b.json", both)]
    assert [r.captions for r in read(members) if isinstance(r, Pair)] == [(b"from txt",), (b"from json",)]


def test_a_lone_surrogate_in_a_json_is_left_to_be_refused_as_utf8(read: Reader) -> None:
    (pair,) = read([("a.jpg", b""), ("a.json", rb'{"caption": "\ud800"}')])
    assert isinstance(pair, Pair)
    with pytest.raises(UnicodeDecodeError):
        pair.captions[0].decode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"caption": null}', "only jpg, json"),
        (b'{"caption": ["a"]}', "only jpg, json"),
        (b"{}", "only jpg, json"),
        (b"[1]", "found a list"),
        (b"{", "damaged"),
        (b"\xff\xfe\xfd", "damaged"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_a_caption_that_is_missing_says_what_was_found(read: Reader, body: bytes, told: str) -> None:
    results = read([("a.jpg", b""), ("a.json", body), *PAIRS])
    assert outline(results) == [("a", "caption_missing"), ("0", "pair"), ("1", "pair")]
    assert isinstance(results[0], Reject)
    assert told in results[0].detail


def test_a_failed_download_tells_its_status(read: Reader) -> None:
    facts = {"caption": "x", "status": "failed_to_download", "error_message": "HTTP Error 404: Not Found \ud800"}
    results = read([("a.json", json.dumps(facts).encode()), ("a.txt", b"x")])
    assert outline(results) == [("a", "image_missing")]
    assert isinstance(results[0], Reject)
    assert "failed_to_download" in results[0].detail
    assert "404" in results[0].detail


def test_stray_files_are_rejects_and_folders_are_not(read: Reader) -> None:
    folder = raw(info("x", kind=tarfile.DIRTYPE))
    stray = tar_of(
        [("stats.json", b"{}"), ("x/a.jpg", b""), ("x/a.txt", b""), ("part.parquet", b"PAR1"), ("README", b"")]
    )
    assert outline(read(folder + stray)) == [
        ("stats", "image_missing"),
        ("x/a", "pair"),
        ("part", "image_missing"),
        ("README", "image_missing"),
    ]


def test_hidden_twins_do_not_part_a_pair(read: Reader) -> None:
    members = [("x/._a.jpg", b"mac"), ("x/a.jpg", b"image"), ("x/._a.txt", b"mac"), ("x/a.txt", b"caption")]
    assert outline(read(members)) == [("x/._a.jpg", "image_missing"), ("x/._a.txt", "image_missing"), ("x/a", "pair")]


def test_a_key_that_comes_again_is_a_reject_each_time(read: Reader) -> None:
    again = [("0.jpg", b"another"), ("0.txt", b"another")]
    results = read([*PAIRS, *again, ("2.jpg", b""), ("2.txt", b""), *again])
    assert outline(results) == [
        ("0", "pair"),
        ("1", "pair"),
        ("0", "duplicate_key"),
        ("2", "pair"),
        ("0", "duplicate_key"),
    ]
    assert isinstance(results[0], Pair)
    assert results[0].captions == (b"zero",)


def test_an_extension_that_comes_again_is_a_reject_and_the_first_wins(read: Reader) -> None:
    results = read([("a.jpg", b"first"), ("a.JPG", b"second"), ("a.txt", b"x"), ("a.txt", b"y")])
    assert outline(results) == [("a", "duplicate_key"), ("a", "duplicate_key"), ("a", "pair")]
    assert results[2] == Pair("a", b"first", (b"x",), "pairs.tar")


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
def test_unsafe_names_are_one_reject_a_group_and_touch_nothing(read: Reader, name: str, key: str) -> None:
    around = sorted(read.path.parent.parent.rglob("*"))
    suffixes = [""] if name in ("..", "..\\..\\x") else [".jpg", ".txt"]
    results = read([*((name + suffix, b"x") for suffix in suffixes), *PAIRS])
    assert outline(results) == [(key, "unsafe_name"), ("0", "pair"), ("1", "pair")]
    assert sorted(read.path.parent.parent.rglob("*")) == sorted([*around, read.path])


def test_other_names_are_kept_as_they_are(read: Reader) -> None:
    for key in ("x/y z", "12:30", "b\\c", "é/日本"):
        assert outline(read([(f"{key}.jpg", b""), (f"{key}.txt", b"")])) == [(key, "pair")]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V"]
)
def test_links_and_devices_are_rejects(read: Reader, kind: bytes) -> None:
    link = info("a.jpg", kind=kind)
    link.linkname = "/etc/passwd"
    text = raw(info("a.txt", 1), b"x")
    assert outline(read(raw(link) + text + tar_of(PAIRS))) == [("a", "not_a_file"), ("0", "pair"), ("1", "pair")]


def test_a_sparse_member_is_a_reject(read: Reader) -> None:
    header = bytearray(raw(info("a.jpg", 512, tarfile.GNUTYPE_SPARSE)))
    header[386:410] = b"%011o\0%011o\0" % (1 << 30, 512)  # 512 bytes of data behind a hole of 1 GiB
    header[483:495] = b"%011o\0" % ((1 << 30) + 512)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    data = bytes(header) + bytes(512) + raw(info("a.txt", 1), b"x") + tar_of(PAIRS)
    assert outline(read(data)) == [("a", "not_a_file"), ("0", "pair"), ("1", "pair")]


def test_members_over_their_limit_never_enter_memory(read: Reader) -> None:
    size = 200 << 20
    with read.path.open("wb") as file:
        for name in ("a.jpg", "b.txt"):
            file.write(raw(info(name, size)))
            file.seek(size, io.SEEK_CUR)
            file.write(raw(info(name.replace("jpg", "md").replace("txt", "jpg"), 1), b"x"))
        file.write(tar_of(PAIRS))
    tracemalloc.start()
    try:
        results = list(read_tar(read.path))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert outline(results) == [("a", "image_too_large"), ("b", "caption_too_long"), ("0", "pair"), ("1", "pair")]


def test_limits_are_inclusive_and_a_long_json_is_passed_over(read: Reader) -> None:
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
    assert outline(read(members, max_image_bytes=5, max_caption_bytes=4)) == [
        ("a", "pair"),
        ("b", "image_too_large"),
        ("c", "caption_too_long"),
        ("d", "pair"),
        ("e", "caption_missing"),
    ]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(read: Reader, kind: int) -> None:
    for name in ("n" * 600, "folder/" * 200 + "x"):
        assert outline(read(tar_of([(f"{name}.jpg", b""), (f"{name}.txt", b"")], kind=kind))) == [(name, "pair")]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_are_not_utf8_are_spelt_out(read: Reader, kind: int) -> None:
    members = [("caf\udce9.jpg", b"1"), ("caf\udce9.txt", b"2")]
    assert read(tar_of(members, kind=kind)) == [Pair("caf\\xe9", b"1", (b"2",), "pairs.tar")]


def whole_at(cut: int, members: Members) -> list[str]:
    """The keys of PAIRS-like members whose bytes lie before the cut, when each takes a header and its padded body."""
    at, done = 0, Counter[str]()
    for name, body in members:
        at += 512
        if at + len(body) <= cut:
            done[name.split(".")[0]] += 1
        at += len(body) + -len(body) % 512
    return [key for key, count in done.items() if count == 2]


def test_every_cut_is_noticed_and_costs_no_whole_pair(read: Reader) -> None:
    data = tar_of(PAIRS)
    end = 512 * 2 * len(PAIRS)
    # Every byte where something begins or ends, and every seventh between.
    for cut in (cut for cut in range(end + 1024) if cut % 7 == 0 or cut % 512 in (*range(16), 511)):
        results = read(data[:cut])
        keys = [r.key for r in results[:-1]]
        assert keys == whole_at(cut, PAIRS), cut
        assert all(isinstance(r, Pair) for r in results[:-1])
        assert isinstance(results[-1], Reject)
        assert results[-1].reason is Reason.SOURCE_CUT
    for cut in range(end + 1024, len(data) + 1, 511):
        assert outline(read(data[:cut])) == [("0", "pair"), ("1", "pair")]


def test_every_cut_of_a_gzipped_tar_is_noticed(read: Reader) -> None:
    data = gzip.compress(tar_of(PAIRS))
    assert outline(read(data)) == [("0", "pair"), ("1", "pair")]
    for cut in range(len(data)):
        reasons = [r.reason for r in read(data[:cut]) if isinstance(r, Reject)]
        assert reasons == [Reason.SOURCE_CUT], cut


def test_a_cut_tar_that_was_gzipped_whole_is_noticed(read: Reader) -> None:
    data = tar_of(PAIRS)
    for cut in range(0, 512 * 8 + 1024, 103):
        results = read(gzip.compress(data[:cut], compresslevel=1))
        assert [r.key for r in results if isinstance(r, Pair)] == whole_at(cut, PAIRS), cut
        assert [r.reason for r in results if isinstance(r, Reject)] == [Reason.SOURCE_CUT], cut


def test_a_wrong_checksum_of_a_gzipped_tar_is_noticed(read: Reader) -> None:
    data = bytearray(gzip.compress(tar_of(PAIRS)))
    data[-6] ^= 1
    assert outline(read(bytes(data))) == [("0", "pair"), ("1", "pair"), ("", "source_cut")]


def test_a_cut_tells_where(read: Reader) -> None:
    (pair, reject) = read(tar_of(PAIRS)[: 512 * 7])
    assert isinstance(pair, Pair)
    assert isinstance(reject, Reject)
    assert reject.key == "1"
    assert "byte 3,072" in reject.detail


@pytest.mark.parametrize("at", [0, 1, 99, 124, 148, 156, 257, 345])
def test_a_damaged_header_is_noticed(read: Reader, at: int) -> None:
    data = bytearray(tar_of(PAIRS))
    data[512 * 4 + at] ^= 0x15
    assert outline(read(bytes(data))) == [("0", "pair"), ("", "source_cut")]


def test_a_whole_group_before_the_cut_is_kept_with_its_own_reason(read: Reader) -> None:
    members = [("0.jpg", b""), ("0.txt", b""), ("0.json", b"{}")]
    assert outline(read(tar_of(members)[: 512 * 3 - 1])) == [("0", "pair"), ("", "source_cut")]
    members = [("0.jpg", b"12"), ("0.txt", b"1")]
    cut = tar_of(members)[: 512 * 2 + 100]
    (reject,) = read(cut, max_image_bytes=2)
    assert outline([reject]) == [("0", "source_cut")]
    assert outline(read(cut, max_image_bytes=1)) == [("0", "image_too_large"), ("", "source_cut")]


def test_what_follows_the_end_is_noticed(read: Reader) -> None:
    data, pairs = tar_of(PAIRS), [("0", "pair"), ("1", "pair")]
    end = 512 * 2 * len(PAIRS)
    assert outline(read(data + bytes(1 << 19))) == pairs
    for strange in (data + tar_of(PAIRS), data + b"x", data + bytes(2 << 20), data[:end] + bytes(512) + data):
        assert outline(read(strange)) == [*pairs, ("", "source_cut")]


@pytest.mark.parametrize("data", [b"", b"not a tar", b"x" * 2000, b"\x1f\x8b", gzip.compress(b""), bytes(512)])
def test_what_is_no_tar_is_a_cut(read: Reader, data: bytes) -> None:
    assert outline(read(data)) == [("", "source_cut")]


@pytest.mark.parametrize("size", [-513, -1024, -1 << 40, 1 << 40, 1 << 62])
def test_impossible_sizes_end_in_a_cut_not_in_a_loop(read: Reader, size: int) -> None:
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        for name in ("a.jpg", "a.cls"):
            results = read(tar_of(PAIRS)[: 512 * 4] + raw(info(name, size, kind)) + tar_of(PAIRS))
            assert outline(results)[0] == ("0", "pair")
            assert sum(r.reason is Reason.SOURCE_CUT for r in results if isinstance(r, Reject)) == 1


def test_a_header_that_grows_is_refused(read: Reader) -> None:
    digits = b"1" * (1 << 20)  # older Pythons search it in quadratic time
    for header in (raw(info("x", len(digits), tarfile.XHDTYPE), digits), 500 * raw(info("x", 0, tarfile.XHDTYPE))):
        assert outline(read(header + tar_of(PAIRS))) == [("", "source_cut")]


def test_a_gzip_bomb_is_refused(read: Reader) -> None:
    bomb = gzip.compress(raw(info("a.npy", 200 << 20)) + bytes(200 << 20), compresslevel=1)
    results = read(bomb)
    assert outline(results) == [("a", "source_cut")]
    assert isinstance(results[0], Reject)
    assert "100-fold" in results[0].detail


names = st.tuples(st.sampled_from("abc"), st.sampled_from(["jpg", "png", "txt", "json", "cls", ""]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names, max_size=20))
def test_every_group_ends_as_exactly_one_pair_or_reject(read: Reader, members: list[tuple[str, str]]) -> None:
    groups = [(key, [extension for _, extension in group]) for key, group in groupby(members, lambda name: name[0])]
    results = read([(f"{key}.{extension}", b"{}") for key, extension in members])
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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 511), st.integers(0, 255)), min_size=1, max_size=6),
    is_sealed=st.booleans(),
)
def test_damage_ends_in_rejects(read: Reader, changes: list[tuple[int, int, int]], is_sealed: bool) -> None:
    data = bytearray(tar_of(PAIRS))
    for block, at, value in changes:
        data[512 * block + at] = value
    if is_sealed:
        for start in range(0, 512 * 8, 1024):
            header = data[start : start + 512]
            data[start + 148 : start + 156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    assert len(read(bytes(data))) >= 1


def test_a_tar_that_cannot_be_opened_is_the_users_to_mend(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.tar", tmp_path):
        with pytest.raises(UserError, match=path.name):
            list(read_tar(path))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_list_tars_in_natural_order_each_once(tmp_path: Path) -> None:
    touch(tmp_path, "10.tar", "2.tar", "02.tar", "a/1.tar", "a/11.tar", "a/9.tar", "b.tar", "x.txt", ".hidden.tar")
    top = ["02.tar", "2.tar", "10.tar", "b.tar"]
    found = list_tars([f"{tmp_path}/b*.tar", f"{tmp_path}/*.tar", tmp_path / "2.tar"])
    assert [path.name for path in found] == top
    found = list_tars(f"{tmp_path}/**/*.tar")
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "02.tar", "2.tar", "10.tar", "a/1.tar", "a/9.tar", "a/11.tar", "b.tar"
    ]  # fmt: skip


def test_list_tars_takes_a_name_with_brackets_and_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "[abc].tar")
    assert list_tars(tmp_path / "[abc].tar") == [tmp_path / "[abc].tar"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list_tars("~/*.tar") == [tmp_path / "[abc].tar"]


def test_list_tars_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "dangling.tar").symlink_to("nowhere")
    for pattern, problem in [
        (f"{tmp_path}/*.tgz", "nothing matches"),
        (f"{tmp_path}/missing.tar", "nothing matches"),
        (str(tmp_path), "a folder"),
        (f"{tmp_path}/f*.tar", "folder.tar is a folder"),
        (f"{tmp_path}/d*.tar", "dangling.tar is not a file"),
    ]:
        with pytest.raises(UserError) as caught:
            list_tars(pattern)
        assert pattern in str(caught.value)
        assert problem in str(caught.value)
        assert caught.value.remedy
    with pytest.raises(UserError, match="got none"):
        list_tars([])
