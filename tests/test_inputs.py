"""What an input is: files and folders of every kind are told apart, in natural order, and mistakes are named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.errors import UserError
from prep.pairs import Pair
from prep.sources import SourceOptions, list_parts, read_part

ROWS = {"image": pa.array([{"bytes": b"1", "path": None}]), "text": pa.array(["one"], pa.string())}


def parquet(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(ROWS), path)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def listed(*inputs: Path | str) -> list[tuple[str, str]]:
    return [(part.kind, part.name) for part in list_parts([str(place) for place in inputs], SourceOptions())]


def test_files_in_natural_order_each_once(tmp_path: Path) -> None:
    touch(tmp_path, "10.tar", "2.tar", "02.tar", "a/1.TAR", "a/11.tgz", "a/9.tar.gz", "x.csv")
    parquet(tmp_path / "3.parquet")
    found = listed(f"{tmp_path}/*", f"{tmp_path}/*.tar", tmp_path / "2.tar", tmp_path / "a")
    tars = [("tar", name) for name in ("1.TAR", "9.tar.gz", "11.tgz")]
    assert found == [
        ("tar", "02.tar"),
        ("tar", "2.tar"),
        ("table", "3.parquet"),
        ("tar", "10.tar"),
        *tars,
        ("table", "x.csv"),
    ]


def test_parts_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x.tar", "y/a.jpg")
    monkeypatch.chdir(tmp_path)
    urls = [part.url for part in list_parts(["x.tar", "./y/", f"file://{tmp_path}/x.tar"], SourceOptions())]
    assert urls == [str(tmp_path / "x.tar"), str(tmp_path / "y")]


@pytest.mark.parametrize(
    "layout", ["{}-00000-of-00002.parquet", "data/{}-00000-of-00002.parquet", "en/{}/0000.parquet"]
)
def test_the_hubs_layouts(tmp_path: Path, layout: str) -> None:
    names = [
        layout.format("train"),
        layout.format("train").replace("0.parquet", "1.parquet").replace("00000-", "00001-"),
    ]
    touch(tmp_path, "README.md", ".gitattributes")
    for name in names:
        parquet(tmp_path / name)
    assert listed(tmp_path) == [("table", name.rpartition("/")[2]) for name in names]
    parquet(tmp_path / layout.format("test"))
    with pytest.raises(UserError, match=r"several splits: \S*test, \S*train"):
        listed(tmp_path)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "captions.csv"])
def test_a_table_and_its_images(tmp_path: Path, name: str) -> None:
    row = '{"file_name": "images/a.jpg", "text": "x"}\n' if name.endswith("l") else "file_name,text\nimages/a.jpg,x\n"
    touch(tmp_path, "images/a.jpg")
    (tmp_path / name).write_text(row)
    assert listed(tmp_path) == [("table", name)]
    touch(tmp_path, "b.jpg")
    assert listed(tmp_path) == [
        ("table" if name.startswith("metadata") else "folder", name if name[0] == "m" else tmp_path.name)
    ]


def test_what_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    pictures = [image.new("RGB", (4, 4), (value, 0, 0)) for value in range(5)]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    columns = {"image": [str(tmp_path / f"{i}.png") for i in range(5)], "text": [f"t{i}" for i in range(5)]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict(columns, features=features)
    dataset.save_to_disk(tmp_path / "saved", num_shards=2)
    touch(tmp_path, "saved/cache-0123.arrow")
    options = SourceOptions(rows_per_shard=2)
    parts = list_parts([str(tmp_path / "saved")], options)
    assert [(part.kind, part.name[:10], part.first) for part in parts] == [
        *[("arrow", "data-00000", 0), ("arrow", "data-00000", 2), ("arrow", "data-00001", 0)]
    ]
    results = [item for part in parts for item in read_part(part, options)]
    assert [item.image for item in results if isinstance(item, Pair)] == [
        (tmp_path / f"{i}.png").read_bytes() for i in range(5)
    ]
    (tmp_path / "saved" / parts[-1].name).unlink()
    with pytest.raises(UserError, match="missing"):
        list_parts([str(tmp_path / "saved")], options)
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "both")
    with pytest.raises(UserError, match="has splits: test, train"):
        listed(tmp_path / "both")
    assert len(listed(tmp_path / "both" / "test")) == 1


@pytest.mark.parametrize("state", ['{"_data_files": [{"filename": "../x.arrow"}]}', "{}", '{"_data_files": 7}', "["])
def test_a_damaged_state_is_named(tmp_path: Path, state: str) -> None:
    touch(tmp_path, "data.arrow", "../x.arrow")
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UserError, match=r"state\.json"):
        listed(tmp_path)


def test_mistakes_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "x.zip", "x.tar")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling.tar").symlink_to("nowhere")
    for pattern, problem in [
        (f"{tmp_path}/*.tgz", "nothing matches"),
        (f"{tmp_path}/missing.tar", "nothing matches"),
        (f"{tmp_path}/x.zip", "wanted a tar"),
        (f"{tmp_path}/d*.tar", "dangling.tar is not a file"),
        (f"{tmp_path}/empty", "there are none in it"),
        ("nope://bucket/x.tar", "nope is not known"),
    ]:
        with pytest.raises(UserError) as caught:
            listed(pattern)
        assert pattern.split("*")[0] in str(caught.value)
        assert problem in str(caught.value)
        assert caught.value.remedy
    with pytest.raises(UserError, match="got none"):
        listed()
