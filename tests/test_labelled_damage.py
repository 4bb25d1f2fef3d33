"""Labelled sets that are damaged, hostile or no sets at all: no mistake is lost in silence, and each is named."""

import gzip
import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eval.class_names import ClassList
from eval.labelled import open_labelled
from eval.preprocess import Preprocess
from prep.errors import UserError

from .labelled_sets import (
    NAMES,
    PER_CLASS,
    STRUCT,
    all_pictures,
    members,
    pixels,
    png,
    read_all,
    table,
    write_folders,
    write_tables,
    write_tars,
)
from .tar_files import info, raw, tar_of

NUM = len(NAMES) * PER_CLASS


def test_damage_in_a_tar_is_counted_and_named(tmp_path: Path) -> None:
    whole = png(0, 0)
    bad = [
        ("a.cls", b"0"), ("a.png", whole[: len(whole) // 2]),  # damaged
        ("b.cls", b"3"), ("b.png", whole),  # out of range
        ("c.cls", b"-1"), ("c.png", whole),
        ("d.cls", b"1"), ("d.jpg", b"no image"),
        ("e.cls", b"1"),  # no image
        ("f.png", whole),  # no label
        ("g.cls", b"9" * 5000), ("g.png", whole),  # too long a label
        ("../h.cls", b"1"), ("../h.png", whole),
        ("._i.png", whole),
        ("s00.cls", b"1"), ("s00.png", whole),  # comes again
        ("k.cls", b"1"), ("k.png", whole), ("k.png", whole),
    ]  # fmt: skip
    (tmp_path / "x.tar").write_bytes(tar_of([*members(), *bad]))
    (tmp_path / "classnames.txt").write_text("\n".join(NAMES))
    opened = open_labelled(tmp_path)
    assert opened.unmatched == {"class 3": 1, "-1": 1, "no label": 1}
    faults = {str(fault.path).rpartition(": ")[2]: fault.problem for fault in opened.faults}
    assert faults.keys() == {"e", "g", "../h", "._i.png", "s00", "k"}
    assert "5,000 bytes" in faults["g"]
    _, index, unreadable = read_all(opened, Preprocess(8))
    assert index == list(range(NUM))
    assert [problem.split(":")[0] for problem in unreadable] == ["image_damaged", "image_format"]
    assert len(index) + len(unreadable) + sum(opened.unmatched.values()) == len(opened.labels)


def test_links_and_devices_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    link = info("l.png", kind=tarfile.SYMTYPE)
    link.linkname = "/etc/passwd"
    data = raw(info("l.cls", 1), b"0") + raw(link) + tar_of(members())
    (tmp_path / "x.tar").write_bytes(data)
    (tmp_path / "classnames.txt").write_text("\n".join(NAMES))
    opened = open_labelled(tmp_path)
    assert [fault.problem for fault in opened.faults] == ["l.png is a link, a device or sparse"]
    assert len(read_all(opened, Preprocess(8))[1]) == NUM


def test_a_cut_tar_keeps_what_was_whole(tmp_path: Path) -> None:
    whole = tar_of(members())
    (tmp_path / "classnames.txt").write_text("\n".join(NAMES))
    wanted = [how for how in (whole, gzip.compress(whole)) for _ in range(2)]
    for number, data in enumerate(wanted):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(data[: len(data) * 3 // 5] if number % 2 else data)
        opened = open_labelled(path)
        assert bool(opened.faults) == bool(number % 2)
        images, index, bad = read_all(opened, Preprocess(8))
        assert (len(images), bad) == (len(opened.labels), [])
        assert len(index) == NUM if not opened.faults else 2 < len(index) < NUM
        assert torch.equal(images, torch.stack([Preprocess(8).apply(pixels(*all_pictures()[i])) for i in index]))


def test_a_tar_that_changed_since_it_was_listed(tmp_path: Path) -> None:
    path = write_tars(tmp_path / "t") / "test" / "0.tar"
    opened = open_labelled(tmp_path / "t")
    path.write_bytes(tar_of(members()[:4]))
    with pytest.raises(UserError, match="changed since it was listed"):
        read_all(opened, Preprocess(8))


def test_rows_of_a_table_without_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1, 1))
    images = [{"bytes": b"no image", "path": None}, {"bytes": None, "path": "a.png"}, {"bytes": None, "path": None}]
    images += [{"bytes": None, "path": "/etc/passwd"}, None, {"bytes": png(2, 2), "path": "/gone"}]
    labels = pa.array([0, 1, 2, 3, None, 2], pa.int64())
    rows = pa.table({"image": pa.array(images, STRUCT), "label": labels})
    pq.write_table(rows.replace_schema_metadata(table().schema.metadata), tmp_path / "x.parquet")
    opened = open_labelled(tmp_path / "x.parquet")
    assert (opened.labels.tolist(), opened.unmatched) == ([0, 1, 2, -1, -1, 2], {"class 3": 1, "no label": 1})
    images_read, index, bad = read_all(opened, Preprocess(8))
    assert index == [1, 5]
    assert torch.equal(images_read[0], Preprocess(8).apply(pixels(1, 1)))
    assert (bad[0][:12], bad[1]) == ("image_format", "there is no image in this row")


def test_no_file_outside_the_folder_of_a_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(png(0, 0))
    (tmp_path / "in").mkdir()
    images = pa.array([{"bytes": None, "path": path} for path in ("../out.png", "/etc/hostname")], STRUCT)
    rows = pa.table({"image": images, "label": pa.array(["a", "b"])})
    pq.write_table(rows, tmp_path / "in" / "x.parquet")
    (batch,) = open_labelled(tmp_path / "in").read(Preprocess(8), 4)
    assert ["leads out of the folder" in entry.problem for entry in batch.unreadable] == [True, True]


def test_a_table_that_breaks_keeps_its_rows(tmp_path: Path) -> None:
    path = write_tables(tmp_path / "h", "arrow") / "data-00000-of-00001.arrow"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    opened = open_labelled(tmp_path / "h")
    assert "breaks after" in opened.faults[0].problem
    assert 0 < len(read_all(opened, Preprocess(8))[1]) == len(opened.labels) < NUM


def _mistakes(folder: Path) -> dict[str, tuple[Path, str]]:
    """What is wrong with a set, and what must be said."""
    names = ("bare", "one", "splits", "lines", "none", "column", "dict", "two")
    paths = {name: folder / name for name in names}
    for path in paths.values():
        path.mkdir(parents=True)
    (paths["bare"] / "x.tar").write_bytes(tar_of(members()))
    pq.write_table(table(names=()), paths["one"] / "x.parquet")
    for split in ("train", "test"):
        pq.write_table(table(), paths["splits"] / f"{split}-00000-of-00001.parquet")
        (paths["two"] / split).mkdir()
        (paths["two"] / split / "0.tar").write_bytes(tar_of(members()))
    (paths["lines"] / "x.tar").write_bytes(tar_of(members()))
    (paths["lines"] / "classnames.txt").write_text("cat\n\ndog\n")
    (paths["none"] / "x.tar").write_bytes(tar_of([("a.txt", b"a")]))
    pq.write_table(pa.table({"picture": pa.array([b"x"]), "label": pa.array(["a"])}), paths["column"] / "x.parquet")
    (paths["dict"] / "dataset_dict.json").write_text("{}")
    return {
        "bare": (paths["bare"], r"labels are numbers, and there is no classnames\.txt.*\n.*--classes"),
        "one": (paths["one"], r"no ClassLabel\)\n.*--classes"),
        "splits": (paths["splits"], "several splits"),
        "lines": (paths["lines"], r"classnames\.txt, line 2: wanted a class name"),
        "none": (paths["none"], r"there are none in it; .*a: no image: found only txt"),
        "column": (paths["column"], r"a column for the image \(.*found picture, label"),
        "dict": (paths["dict"], "has splits"),
        "two": (paths["two"], "tars in several folders: test, train"),
        "missing": (folder / "nowhere.tar", "nothing matches"),
    }


def test_every_mistake_is_named(tmp_path: Path) -> None:
    for name, (path, message) in _mistakes(tmp_path).items():
        with pytest.raises(UserError, match=message):
            pytest.fail(f"{name}: {open_labelled(path).class_names}")


def test_captions_are_no_class_names(tmp_path: Path) -> None:
    many: list[tuple[str, bytes]] = []
    for number in range(101):
        many += [(f"{number:04d}.txt", b"caption %d" % number), (f"{number:04d}.png", b"?")]
    (tmp_path / "x.tar").write_bytes(tar_of(many))
    with pytest.raises(UserError, match=r"101 images have 101 different ones\n.*free text"):
        open_labelled(tmp_path)


def test_a_list_that_fits_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of its 12 images .* labels are black_cat, dog, .*\n.*begins x, y"):
        open_labelled(write_folders(tmp_path / "f"), ClassList(("x", "y"), ("x", "y")))


def test_notes_of_a_table_that_are_no_notes(tmp_path: Path) -> None:
    wrong = (b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": 1}}}', b"[" * 10_000)
    for number, notes in enumerate(wrong):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table(names=()).replace_schema_metadata({b"huggingface": notes}), path)
        with pytest.raises(UserError, match="ClassLabel"):
            open_labelled(path)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {"label": {"names": list(NAMES)}}}))
    assert Counter(open_labelled(path).labels.tolist()) == dict.fromkeys(range(3), PER_CLASS)
