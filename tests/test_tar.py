"""Tars: a cut is noticed wherever it falls, and one made by an enemy costs no more than a reject."""

import gzip
import io
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.errors import UserError
from prep.pairs import Pair, Reason, Reject
from prep.sources import SourceOptions, read_part
from tests.tar_files import PAIRS, Members, info, outline, raw, read, tar_of, tar_part


def test_webdatasets_own_writer_makes_whole_tars(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "pairs.tar")) as writer:
        for i in range(3):
            writer.write({"__key__": f"{i:09d}", "jpg": b"image", "txt": f"caption {i}", "json": {"status": "success"}})
    results = read(tmp_path, (tmp_path / "pairs.tar").read_bytes())
    assert results == [Pair(f"{i:09d}", b"image", {"original": (b"caption %d" % i,)}, "pairs.tar") for i in range(3)]


def test_an_empty_archive_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path, []) == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V"]
)
def test_links_and_devices_are_rejects(tmp_path: Path, kind: bytes) -> None:
    link = info("a.jpg", kind=kind)
    link.linkname = "/etc/passwd"
    text = raw(info("a.txt", 1), b"x")
    assert outline(read(tmp_path, raw(link) + text + tar_of(PAIRS))) == [
        ("a", "not_a_file"),
        ("0", "pair"),
        ("1", "pair"),
    ]


def test_a_sparse_member_is_a_reject(tmp_path: Path) -> None:
    header = bytearray(raw(info("a.jpg", 512, tarfile.GNUTYPE_SPARSE)))
    header[386:410] = b"%011o\0%011o\0" % (1 << 30, 512)  # 512 bytes of data behind a hole of 1 GiB
    header[483:495] = b"%011o\0" % ((1 << 30) + 512)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    data = bytes(header) + bytes(512) + raw(info("a.txt", 1), b"x") + tar_of(PAIRS)
    assert outline(read(tmp_path, data)) == [("a", "not_a_file"), ("0", "pair"), ("1", "pair")]


def test_members_over_their_limit_never_enter_memory(tmp_path: Path) -> None:
    size = 200 << 20
    with (tmp_path / "pairs.tar").open("wb") as file:
        for name in ("a.jpg", "b.txt"):
            file.write(raw(info(name, size)))
            file.seek(size, io.SEEK_CUR)
            file.write(raw(info(name.replace("jpg", "md").replace("txt", "jpg"), 1), b"x"))
        file.write(tar_of(PAIRS))
    tracemalloc.start()
    try:
        results = list(read_part(tar_part(tmp_path / "pairs.tar"), SourceOptions()))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert outline(results) == [("a", "image_too_large"), ("b", "caption_too_long"), ("0", "pair"), ("1", "pair")]


@pytest.mark.parametrize("num_bytes", [0, 1, 512, 1300])
def test_times_before_members_are_passed_over_and_all_else_is_heard(tmp_path: Path, num_bytes: int) -> None:
    body = b"x" * num_bytes
    for fields, key in (({"mtime": "1.25"}, "a"), ({"mtime": "1.25", "path": "b.jpg"}, "b"), ({"path": "b.jpg"}, "b")):
        image = info("a.jpg", num_bytes)
        image.pax_headers = fields
        member = image.tobuf(tarfile.PAX_FORMAT) + body + bytes(-num_bytes % 512)
        results = read(tmp_path, member + raw(info(f"{key}.txt", 1), b"x") + tar_of(PAIRS))
        assert results[0] == Pair(key, body, {"original": (b"x",)}, "pairs.tar")
        assert outline(results[1:]) == [("0", "pair"), ("1", "pair")]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(tmp_path: Path, kind: int) -> None:
    for name in ("n" * 600, "folder/" * 200 + "x"):
        assert outline(read(tmp_path, tar_of([(f"{name}.jpg", b""), (f"{name}.txt", b"")], kind=kind))) == [
            (name, "pair")
        ]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_are_not_utf8_are_spelt_out(tmp_path: Path, kind: int) -> None:
    members = [("caf\udce9.jpg", b"1"), ("caf\udce9.txt", b"2")]
    assert read(tmp_path, tar_of(members, kind=kind)) == [Pair("caf\\xe9", b"1", {"original": (b"2",)}, "pairs.tar")]


def whole_at(cut: int, members: Members) -> list[str]:
    """The keys of PAIRS-like members whose bytes lie before the cut, when each takes a header and its padded body."""
    at, done = 0, Counter[str]()
    for name, body in members:
        at += 512
        if at + len(body) <= cut:
            done[name.split(".")[0]] += 1
        at += len(body) + -len(body) % 512
    return [key for key, count in done.items() if count == 2]


def test_every_cut_is_noticed_and_costs_no_whole_pair(tmp_path: Path) -> None:
    data = tar_of(PAIRS)
    end = 512 * 2 * len(PAIRS)
    # Every byte where something begins or ends, and every seventh between.
    for cut in (cut for cut in range(end + 1024) if cut % 7 == 0 or cut % 512 in (*range(16), 511)):
        results = read(tmp_path, data[:cut])
        keys = [r.key for r in results[:-1]]
        assert keys == whole_at(cut, PAIRS), cut
        assert all(isinstance(r, Pair) for r in results[:-1])
        assert isinstance(results[-1], Reject)
        assert results[-1].reason is Reason.SOURCE_CUT
    for cut in range(end + 1024, len(data) + 1, 511):
        assert outline(read(tmp_path, data[:cut])) == [("0", "pair"), ("1", "pair")]


def test_every_cut_of_a_gzipped_tar_is_noticed(tmp_path: Path) -> None:
    data = gzip.compress(tar_of(PAIRS))
    assert outline(read(tmp_path, data)) == [("0", "pair"), ("1", "pair")]
    for cut in range(len(data)):
        reasons = [r.reason for r in read(tmp_path, data[:cut]) if isinstance(r, Reject)]
        assert reasons == [Reason.SOURCE_CUT], cut


def test_a_cut_tar_that_was_gzipped_whole_is_noticed(tmp_path: Path) -> None:
    data = tar_of(PAIRS)
    for cut in range(0, 512 * 8 + 1024, 103):
        results = read(tmp_path, gzip.compress(data[:cut], compresslevel=1))
        assert [r.key for r in results if isinstance(r, Pair)] == whole_at(cut, PAIRS), cut
        assert [r.reason for r in results if isinstance(r, Reject)] == [Reason.SOURCE_CUT], cut


def test_a_wrong_checksum_of_a_gzipped_tar_is_noticed(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(tar_of(PAIRS)))
    data[-6] ^= 1
    assert outline(read(tmp_path, bytes(data))) == [("0", "pair"), ("1", "pair"), ("", "source_cut")]


def test_a_cut_tells_where(tmp_path: Path) -> None:
    (pair, reject) = read(tmp_path, tar_of(PAIRS)[: 512 * 7])
    assert isinstance(pair, Pair)
    assert isinstance(reject, Reject)
    assert reject.key == "1"
    assert "byte 3,072" in reject.detail


@pytest.mark.parametrize("at", [0, 1, 99, 124, 148, 156, 257, 345])
def test_a_damaged_header_is_noticed(tmp_path: Path, at: int) -> None:
    data = bytearray(tar_of(PAIRS))
    data[512 * 4 + at] ^= 0x15
    assert outline(read(tmp_path, bytes(data))) == [("0", "pair"), ("", "source_cut")]


def test_a_whole_group_before_the_cut_is_kept_with_its_own_reason(tmp_path: Path) -> None:
    members = [("0.jpg", b""), ("0.txt", b""), ("0.json", b"{}")]
    assert outline(read(tmp_path, tar_of(members)[: 512 * 3 - 1])) == [("0", "pair"), ("", "source_cut")]
    members = [("0.jpg", b"12"), ("0.txt", b"1")]
    cut = tar_of(members)[: 512 * 2 + 100]
    (reject,) = read(tmp_path, cut, SourceOptions(max_image_bytes=2))
    assert outline([reject]) == [("0", "source_cut")]
    assert outline(read(tmp_path, cut, SourceOptions(max_image_bytes=1))) == [
        ("0", "image_too_large"),
        ("", "source_cut"),
    ]


def test_what_follows_the_end_is_noticed(tmp_path: Path) -> None:
    data, pairs = tar_of(PAIRS), [("0", "pair"), ("1", "pair")]
    end = 512 * 2 * len(PAIRS)
    assert outline(read(tmp_path, data + bytes(1 << 19))) == pairs
    for strange in (data + tar_of(PAIRS), data + b"x", data + bytes(2 << 20), data[:end] + bytes(512) + data):
        assert outline(read(tmp_path, strange)) == [*pairs, ("", "source_cut")]


@pytest.mark.parametrize("data", [b"", b"not a tar", b"x" * 2000, b"\x1f\x8b", gzip.compress(b"", mtime=0), bytes(512)])
def test_what_is_no_tar_is_a_cut(tmp_path: Path, data: bytes) -> None:
    assert outline(read(tmp_path, data)) == [("", "source_cut")]


@pytest.mark.parametrize("size", [-513, -1024, -1 << 40, 1 << 40, 1 << 62])
def test_impossible_sizes_end_in_a_cut_not_in_a_loop(tmp_path: Path, size: int) -> None:
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        for name in ("a.jpg", "a.cls"):
            results = read(tmp_path, tar_of(PAIRS)[: 512 * 4] + raw(info(name, size, kind)) + tar_of(PAIRS))
            assert outline(results)[0] == ("0", "pair")
            assert sum(r.reason is Reason.SOURCE_CUT for r in results if isinstance(r, Reject)) == 1


def test_a_header_that_grows_is_refused(tmp_path: Path) -> None:
    digits = b"1" * (1 << 20)  # older Pythons search it in quadratic time
    for header in (raw(info("x", len(digits), tarfile.XHDTYPE), digits), 500 * raw(info("x", 0, tarfile.XHDTYPE))):
        assert outline(read(tmp_path, header + tar_of(PAIRS))) == [("", "source_cut")]


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(raw(info("a.npy", 200 << 20)) + bytes(200 << 20), compresslevel=1)
    results = read(tmp_path, bomb)
    assert outline(results) == [("a", "source_cut")]
    assert isinstance(results[0], Reject)
    assert "100-fold" in results[0].detail


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 511), st.integers(0, 255)), min_size=1, max_size=6),
    is_sealed=st.booleans(),
)
def test_damage_ends_in_rejects(tmp_path: Path, changes: list[tuple[int, int, int]], is_sealed: bool) -> None:
    data = bytearray(tar_of(PAIRS))
    for block, at, value in changes:
        data[512 * block + at] = value
    if is_sealed:
        for start in range(0, 512 * 8, 1024):
            header = data[start : start + 512]
            data[start + 148 : start + 156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    assert len(read(tmp_path, bytes(data))) >= 1


def test_a_tar_that_cannot_be_opened_is_the_users_to_mend(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.tar", tmp_path):
        with pytest.raises(UserError, match=path.name):
            list(read_part(tar_part(path), SourceOptions()))
