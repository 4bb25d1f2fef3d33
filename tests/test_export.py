"""Exports: webdataset tars read back by webdataset itself, what is chosen, and what cannot be."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep.errors import UserError
from prep.export import main
from prep.export_rows import choose, read_batches
from prep.store import Store, open_store
from prep.webdataset_tars import file_name

from .conftest import once
from .varied_store import HOSTILE_KEYS, NUM_ROWS, make_varied_store, num_synthetic

TOTAL = sum(NUM_ROWS)
GOLDEN_V1 = Path(__file__).parent / "golden" / "store-v1"


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(once(tmp_path_factory, "varied", lambda out: str(make_varied_store(out)))[0] / "store")


@pytest.fixture(scope="module")
def tars(varied: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars of the whole store."""
    out = tmp_path_factory.mktemp("export") / "tars"
    export(varied, "--webdataset", str(out), "--view", "16", "--rows-per-tar", "400", "--captions", "synthetic")
    return out


def export(store: Store, *options: str) -> None:
    main([str(store.path), *options])


def samples(folder: Path, monkeypatch: pytest.MonkeyPatch, decoder: str | None = None) -> list[dict[str, Any]]:
    """What webdataset makes of all the tars in a folder."""
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr("webdataset.utils.enforce_security", True)  # what WDS_SECURE=1 sets
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    found = webdataset.WebDataset(urls, shardshuffle=False)
    return list(found.decode(decoder) if decoder else found)


def rows_of(store: Store, folder: str) -> list[dict[str, Any]]:
    """A column's rows, by plain pyarrow."""
    return [
        row for shard in store.manifest.shards for row in store.open_shard(folder, shard.shard).read_all().to_pylist()
    ]


def test_webdataset_reads_every_row_in_order(varied: Store, tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = samples(tars, monkeypatch)
    names = ("16", "rows", "captions/original", "captions/synthetic", "tokens/synthetic/clip")
    columns = [rows_of(varied, name) for name in names]
    assert len(found) == len(columns[0]) == TOTAL
    assert [path.name for path in sorted(tars.iterdir())] == ["00000.tar", "00001.tar", "00002.tar", "export.json"]
    for index, (sample, view, fact, original, synthetic, tokens) in enumerate(zip(found, *columns, strict=True)):
        assert sample["__key__"] == file_name(index, view["key"])
        assert sample["jpg"] == view["image"]
        assert sample["txt"].decode() == next(iter(synthetic["captions"]), "")
        told = json.loads(sample["json"])
        assert (told["index"], told["key"], told["source"]) == (index, view["key"], fact["source"])
        assert (told["width"], told["height"]) == (view["width"], view["height"])
        assert told["captions"] == {"original": original["captions"], "synthetic": synthetic["captions"]}
        assert len(told["captions"]["synthetic"]) == num_synthetic(index)
        trimmed = [row[:n] for row, n in zip(tokens["tokens"], tokens["num_tokens"], strict=True)]
        assert told["tokens"]["synthetic"] == trimmed
        assert [len(row) for row in told["priorities"]["synthetic"]] == tokens["num_tokens"]


def test_the_same_export_is_the_same_bytes_and_goes_on(varied: Store, tars: Path, tmp_path: Path) -> None:
    out = shutil.copytree(tars, tmp_path / "tars")
    (out / "00001.tar").unlink()
    kept = (out / "00000.tar").stat().st_mtime_ns
    again = ("--webdataset", str(out), "--view", "16", "--rows-per-tar", "400")
    export(varied, *again, "--captions", "synthetic")
    assert all(path.read_bytes() == (tars / path.name).read_bytes() for path in out.iterdir())
    assert (out / "00000.tar").stat().st_mtime_ns == kept
    with pytest.raises(UserError, match=r"another export was begun .* caption_source was synthetic, is now original"):
        export(varied, *again)


def test_nothing_in_a_tar_is_of_the_moment_or_the_machine(tars: Path) -> None:
    with tarfile.open(tars / "00000.tar") as tar:
        members = tar.getmembers()
    facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members}
    assert facts == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}
    assert all(re.fullmatch(r"\d{9}[\w-]*\.(jpg|txt|json)", m.name, re.ASCII) for m in members)


@given(st.integers(0, 10**12), st.one_of(st.text(), st.sampled_from(HOSTILE_KEYS)))
def test_names_are_harmless_and_tell_rows_apart(row: int, key: str) -> None:
    name = file_name(row, key)
    assert re.fullmatch(r"[0-9]{9,}(-[A-Za-z0-9_][A-Za-z0-9_-]*)?", name)
    assert int(name.split("-")[0]) == row
    assert len(f"{name}.json") < 100
    assert name == file_name(row, key)


def test_raw_crops_come_out_as_they_are_with_their_boxes(
    varied: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(varied, "--webdataset", str(tmp_path / "tars"), "--view", "16-raw-crop1")
    found = samples(tmp_path / "tars", monkeypatch, "rgb8")
    for sample, view in zip(found, rows_of(varied, "16-raw-crop1"), strict=True):
        assert sample["ppm"].shape == (16, 16, 3)
        assert sample["ppm"].tobytes() == view["image"]
        assert sample["json"]["box"] == view["box"]


def test_an_image_with_fewer_captions_gives_another_and_is_counted(
    varied: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--captions", "synthetic", "--caption-number", "1")
    export(varied, "--webdataset", str(tmp_path / "tars"), "--res", "20", *options)
    for sample, row in zip(samples(tmp_path / "tars", monkeypatch), rows_of(varied, "captions/synthetic"), strict=True):
        captions = row["captions"]
        assert sample["txt"].decode() == (captions[1 % len(captions)] if captions else "")
    fewer, none = (sum(num_synthetic(row) == n for row in range(TOTAL)) for n in (1, 0))
    assert f"of {TOTAL:,} images written now, {fewer} have fewer captions" in capsys.readouterr().out.replace("\n", " ")
    assert none > 0


def test_reading_starts_at_the_batch_of_a_row(varied: Store) -> None:
    for start, first in ((0, 0), (1023, 0), (1024, 1024), (1029, 1024), (1030, 1030), (TOTAL - 1, 1030)):
        rows = [row for row, _ in read_batches(varied, ["rows"], start)]
        assert rows == [row for row in (0, 1024, 1030) if row >= first]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--res", "17"], "wanted a view at 17 px, but the store has 16, 16-raw-crop0, 16-raw-crop1, 20"),
        (["--view", "15"], "wanted the view '15', but the store has 16"),
        (["--res", "16"], "there are several views that fit: 16, 16-raw-crop0, 16-raw-crop1"),
        ([], "there are several views that fit: "),
        (["--res", "20", "--captions", "alt"], "wanted captions from 'alt', but the store has original, synthetic"),
        (["--res", "20", "--tokenizer", "bert"], "wanted the tokens of 'original' captions by 'bert', but the store"),
        (["--res", "20", "--tagger", "nltk"], "wanted the priorities of 'original' captions by 'nltk', but the store"),
        (["--res", "20", "--caption-number", "-1"], "--caption-number: wanted at least 0, found -1"),
        (["--res", "20", "--rows-per-tar", "0"], "--rows-per-tar: wanted at least 1, found 0"),
    ],
)
@pytest.mark.parametrize("kind", ["--ffcv", "--webdataset"])
def test_what_is_not_there_is_said(varied: Store, tmp_path: Path, kind: str, options: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=re.escape(problem)):
        export(varied, kind, str(tmp_path / "out"), *options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_may_go_to_a_url(varied: Store, tars: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for place in (str(tmp_path), "memory://elsewhere"):
        export(varied, "--ffcv", f"{place}/a.beton", "--res", "20")
    assert memory.cat("/elsewhere/a.beton") == (tmp_path / "a.beton").read_bytes()
    options = ("--webdataset", "memory://tars", "--view", "16", "--rows-per-tar", "400", "--captions", "synthetic")
    for _ in range(2):
        export(varied, *options)
    assert {path.name: path.read_bytes() for path in tars.iterdir()} == {
        name.rpartition("/")[2]: memory.cat(name) for name in memory.ls("/tars", detail=False)
    }


def test_what_lies_there_is_not_written_over(varied: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("dear diary")
    for kind, place in (("--ffcv", tmp_path / "mine"), ("--ffcv", tmp_path), ("--webdataset", tmp_path)):
        with pytest.raises(UserError):
            export(varied, kind, str(place), "--res", "20")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "dear diary"


def test_a_damaged_row_is_named_and_nothing_is_left(varied: Store, tmp_path: Path) -> None:
    folder = shutil.copytree(varied.path, tmp_path / "store")
    victim = varied.open_shard("20", 0).get_batch(1).column("image")[3].as_py()
    path = folder / "20" / "00000.arrow"
    data = path.read_bytes()
    where = data.index(victim) + len(victim) // 2
    path.write_bytes(data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :])
    for kind, out in (("--ffcv", tmp_path / "out.beton"), ("--webdataset", tmp_path / "tars")):
        with pytest.raises(UserError, match=r"20/00000\.arrow, batch 1, row 3 of the batch: .*hash does not fit"):
            export(open_store(folder), kind, str(out), "--res", "20")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "tars"]
    assert [path.name for path in (tmp_path / "tars").iterdir()] == ["export.json"]


def test_a_store_of_version_1_is_exported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(GOLDEN_V1)
    export(store, "--webdataset", str(tmp_path / "tars"))
    images = [row["image"] for row in rows_of(store, "16")]
    found = samples(tmp_path / "tars", monkeypatch)
    assert [sample["jpg"] for sample in found] == images
    told = [json.loads(sample["json"]) for sample in found]
    captions = [caption for shard in store.manifest.shards for caption in store.captions("original", shard.shard)]
    assert [one["captions"]["original"] for one in told] == captions
    chosen = choose(store, 16, None, None)
    assert [len(row[0]) for row in (one["tokens"]["original"] for one in told)] == [
        n for row in rows_of(store, chosen.tokens.folder) for n in np.atleast_1d(row["num_tokens"])
    ]
    assert io.BytesIO(images[0]).read(2) == b"\xff\xd8"
