"""What decides the kind of a labelled set, and what its files are called and when they change."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eval.labelled import open_labelled
from eval.preprocess import Preprocess
from eval.zeroshot import evaluate
from eval.zeroshot_pictures import draw, draw_confusions
from pipelines.contract import TokenBudget
from prep.errors import UserError
from prep.labelled_files import kind_of_files, labelled_files
from prep.labelled_tables import list_labels, named_files

from .labelled_sets import (
    NAMES,
    STRUCT,
    all_pictures,
    png,
    read_all,
    table,
    write_folders,
    write_tables,
    write_tars,
)
from .test_zeroshot import CollapsedModel


@pytest.mark.parametrize("stray", ["dog/notes.parquet", "backup.tar", "notes.parquet", "old/backup.tar"])
def test_a_stray_file_does_not_make_another_kind_of_class_folders(stray: str, tmp_path: Path) -> None:
    path = write_folders(tmp_path / "animals")
    (path / stray).parent.mkdir(exist_ok=True)
    (path / stray).write_bytes(b"")
    assert kind_of_files(str(path)) == "folder"
    assert set(NAMES) <= set(open_labelled(path).class_names)


def test_a_table_of_labelled_images_beside_class_folders_is_not_sure(tmp_path: Path) -> None:
    path = write_folders(tmp_path / "animals")
    pq.write_table(table(), path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet, a table .* folders of images: black_cat.*\n.*directly, .*t\.p"):
        open_labelled(path)
    assert open_labelled(path / "t.parquet").num_judged == len(all_pictures())
    pq.write_table(pa.table({"class": list("ab"), "mean": [1, 2]}), path / "t.parquet")
    assert open_labelled(path).class_names == NAMES


def with_paths(folder: Path, kind: str = "struct") -> Path:
    """A table whose rows name files beside it."""
    folder.mkdir()
    names = [f"{label}{number}.png" for label, number in all_pictures()]
    for name, picture in zip(names, all_pictures(), strict=True):
        (folder / name).write_bytes(png(*picture))
    images: Any = pa.array([{"bytes": None, "path": name} for name in names], STRUCT)
    whole = table().set_column(0, "image", images if kind == "struct" or kind == "arrow" else pa.array(names))
    if kind == "arrow":
        with pa.ipc.new_stream(folder / "t.arrow", whole.schema) as writer:
            writer.write_table(whole, 5)
    else:
        pq.write_table(whole, folder / "t.parquet", row_group_size=5)
    return folder


def test_a_table_is_read_with_its_pictures_beside_it(tmp_path: Path) -> None:
    folder = with_paths(tmp_path / "t")
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    opened = open_labelled(folder)
    assert (opened.num_judged, read_all(opened, Preprocess(8))[2]) == (len(all_pictures()), [])
    pq.write_table(table(), folder / "u.parquet")
    with pytest.raises(UserError, match=r"several tables beside images: t\.parquet, u\.parquet\n.*Name one directly"):
        open_labelled(folder)


def test_the_layouts_of_the_hub_and_of_clip_benchmark(tmp_path: Path) -> None:
    hub = write_tables(tmp_path / "hub")
    (hub / "README.md").write_text("# Cats")
    (hub / "data" / "dataset_info.json").write_text("{}")
    (hub / "data" / ".lock").write_bytes(b"\0")
    (hub / "assets").mkdir()
    (hub / "assets" / "logo.png").write_bytes(png(0, 0))
    assert len(labelled_files(str(hub))) == 2
    assert open_labelled(hub).class_names == NAMES
    tars = write_tars(tmp_path / "tars")
    (tars / "test" / "nshards.txt").write_text("2")
    (tars / "test" / "0.tar.idx").write_text("")
    assert open_labelled(tars).class_names == NAMES


@pytest.mark.parametrize("kind", ["struct", "string", "arrow"])
def test_the_fingerprint_knows_the_files_that_a_table_names(kind: str, tmp_path: Path) -> None:
    folder = with_paths(tmp_path / "t", kind)
    (at,) = folder.glob("t.*")
    file, first = folder / "11.png", open_labelled(at).fingerprint
    assert open_labelled(at).fingerprint == first
    kept = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    changed = open_labelled(at).fingerprint
    file.unlink()
    gone = open_labelled(at).fingerprint
    assert len({first, changed, gone}) == 3


def test_no_file_outside_is_looked_at_and_no_embedded_image(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(png(0, 0))
    (tmp_path / "t").mkdir()
    images = pa.array([{"bytes": png(0, 0), "path": "in.png"}, {"bytes": None, "path": "../out.png"}], STRUCT)
    rows = pa.table({"image": images, "label": pa.array(["a", "b"])})
    pq.write_table(rows, tmp_path / "t" / "t.parquet")
    first = open_labelled(tmp_path / "t").fingerprint
    (tmp_path / "out.png").unlink()
    assert open_labelled(tmp_path / "t").fingerprint == first
    # A row that holds its image needs no file.
    pq.write_table(rows.slice(0, 1), tmp_path / "t" / "t.parquet")
    assert list(named_files(list_labels(str(tmp_path / "t" / "t.parquet")))) == []


def test_pictures_that_vanished_are_blank(tmp_path: Path) -> None:
    folder = with_paths(tmp_path / "t")
    opened = open_labelled(folder / "t.parquet")
    result = evaluate(CollapsedModel(), TokenBudget(res=16, text_tokens=8), opened)
    for file in folder.glob("*.png"):
        file.write_bytes(b"no image") if file.name.startswith("0") else file.unlink()
    draw(result, opened, tmp_path / "grid.png")
    assert draw_confusions(result, opened, tmp_path / "confusions.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_a_folder_of_no_encoding_is_spelt_out(tmp_path: Path) -> None:
    for name in (b"dog", b"\xff\xfe"):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)
        Path(os.fsdecode(folder + b"/\xfd.png")).write_bytes(png(0, 0))
    opened = open_labelled(tmp_path)
    assert opened.class_names == ("dog", r"\xff\xfe")
    result = evaluate(CollapsedModel(), TokenBudget(res=16, text_tokens=8), opened)
    assert [str(opened.named(place)).encode()[-8:] for place in range(2)] == [b"\\xfd.png"] * 2
    draw(result, opened, tmp_path.with_name("grid.png"))
    assert torch.equal(*read_all(opened, Preprocess(8))[0])
