"""What img2dataset could not download: every row of the parquet file beside a tar is a pair or a reject, once."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.pairs import Reject
from prep.sources import SourceOptions, list_parts, read_part
from tests.tar_files import PAIRS, outline, read, tar_of, tar_part

FAILED = {
    "key": ["0", "7", "1", "8", "9", "9"],
    "status": ["success", "failed_to_download", "success", "failed_to_resize", "success", "success"],
    "error_message": [None, "HTTP Error 404: Not\nFound", None, "image too small", None, None],
    "url": ["http://x/"] * 6,
}


def test_what_img2dataset_could_not_download_is_rejected_once(tmp_path: Path) -> None:
    pq.write_table(pa.table(FAILED), tmp_path / "pairs.parquet")
    gone = ("8.json", b'{"status": "failed_to_resize", "error_message": "image too small"}')
    results = read(tmp_path, [*PAIRS, gone])
    failed = [("8", "image_missing"), ("7", "image_missing"), ("9", "image_missing")]
    assert outline(results) == [("0", "pair"), ("1", "pair"), *failed]
    details = [result.detail for result in results if isinstance(result, Reject)]
    assert "image too small" in details[0]
    assert "failed_to_download" in details[1]
    assert "404: Not\\nFound" in details[1]
    assert "the tar does not" in details[2]


def test_a_cut_tars_lost_pairs_are_known_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table(FAILED), tmp_path / "pairs.parquet")
    cut = read(tmp_path, tar_of(PAIRS)[: 512 * 4])
    assert outline(cut)[:2] == [("0", "pair"), ("", "source_cut")]
    assert sorted(outline(cut)[2:]) == [(key, "image_missing") for key in "1789"]


def test_a_parquet_file_beside_a_tar_that_is_not_img2datasets(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["7"], "caption": ["x"]}), tmp_path / "pairs.parquet")
    assert outline(read(tmp_path, PAIRS)) == [("0", "pair"), ("1", "pair")]
    whole = (tmp_path / "pairs.parquet").read_bytes()
    for damaged in (b"", b"PAR1", whole[:-9], bytes(len(whole))):
        (tmp_path / "pairs.parquet").write_bytes(damaged)
        assert outline(read(tmp_path, PAIRS)) == [("0", "pair"), ("1", "pair"), ("", "source_cut")]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_the_failures_of_a_gzipped_tar(tmp_path: Path, suffix: str) -> None:
    pq.write_table(pa.table(FAILED), tmp_path / "pairs.parquet")
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(gzip.compress(tar_of(PAIRS)))
    assert len(list(read_part(tar_part(path), SourceOptions()))) == 5


def test_it_is_no_table_beside_its_tar(tmp_path: Path) -> None:
    pq.write_table(pa.table(FAILED), tmp_path / "pairs.parquet")
    read(tmp_path, PAIRS)
    for pattern in ("*.tar", "*"):
        (part,) = list_parts([str(tmp_path / pattern)], SourceOptions())
        assert (part.kind, part.name, part.url) == ("tar", "pairs.tar", str(tmp_path / "pairs.tar"))
