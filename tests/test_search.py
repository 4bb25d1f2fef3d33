"""Searching a store: the answers of a plain sort, features kept and checked, and the index above many vectors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.search import find_captions, find_pictures, image_query, key_of, main, text_query
from eval.search_index import SearchIndex, open_search_index
from pipelines.evaluation import batches
from prep.errors import UserError
from prep.store import Store, open_store
from train.checkpoint import LoadedModel, load_model
from train.run import main as train_main

TINY = """
model.embed_dim=16 model.vision.width=16 model.vision.depth=1 model.text.width=16
stages.0.samples=32 stages.0.batch_size=16 stages.0.warmup_samples=0 stages.0.budget.res=16
stages.0.budget.text_tokens=8 stages.1.samples=16 stages.1.batch_size=16 stages.1.warmup_samples=0
stages.1.budget.res=32 stages.1.budget.text_tokens=12
"""


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search") / "run"
    train_main(["demo", *TINY.split(), "--store", str(store.path), "--out", str(out), "--threads", "1"])
    return out


@pytest.fixture(scope="module")
def loaded(run: Path) -> LoadedModel:
    return load_model(run)


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """The run, with nothing searched yet."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("search"))
    return tmp_path / "run"


def encoded(loaded: LoadedModel, store: Store) -> tuple[torch.Tensor, torch.Tensor]:
    """Every image's features and every first caption's, plainly."""
    with torch.inference_mode():
        found = [
            (loaded.model.encode_image(batch.images), loaded.model.encode_text(batch.tokens))
            for batch in batches(store.path, loaded.budget, 32)
        ]
    images, texts = zip(*found, strict=True)
    return torch.cat(images), torch.cat(texts)


def test_pictures_for_a_text_are_those_of_a_plain_sort(own: Path, loaded: LoadedModel, store: Store) -> None:
    index = open_search_index(own, loaded, store, chunk_rows=40)
    query, is_cut = text_query(index, own, "a red mug on a table")
    assert not is_cut
    scores = encoded(loaded, store)[0] @ query
    found = find_pictures(index, query, 9)
    assert [hit.row for hit in found] == scores.argsort(descending=True, stable=True)[:9].tolist()
    assert [hit.similarity for hit in found] == pytest.approx(
        scores.sort(descending=True).values[:9].tolist(), abs=1e-5
    )
    rows = store.open_shard("rows", 0).read_all()["key"].to_pylist()
    assert [hit.key for hit in found] == [rows[hit.row] for hit in found]
    assert found[0].caption == store.captions("original", 0)[found[0].row][0]
    assert text_query(index, own, "a red mug " * 20)[1]


def test_captions_for_a_picture_are_those_of_a_plain_sort(
    own: Path, loaded: LoadedModel, store: Store, tmp_path: Path
) -> None:
    index = open_search_index(own, loaded, store, chunk_rows=40)
    # A picture of the model's own size is seen as it is.
    batch = next(iter(batches(store.path, loaded.budget, 8)))
    Image.fromarray(batch.images[5].permute(1, 2, 0).numpy()).save(tmp_path / "five.png")
    query = image_query(index, tmp_path / "five.png")
    images, texts = encoded(loaded, store)
    assert torch.allclose(query, images[5], atol=1e-5)
    found = find_captions(index, query, 7)
    scores = texts @ query
    assert [hit.similarity for hit in found] == pytest.approx(
        scores.sort(descending=True).values[:7].tolist(), abs=1e-5
    )
    assert all(scores[hit.row] == pytest.approx(hit.similarity, abs=1e-5) for hit in found)
    assert find_pictures(index, query, 1)[0].row == 5


def test_the_program_leaves_a_sheet_and_a_table(
    own: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(own), str(store.path), "A $red$ mug, [bold]!", "--top", "5", "--device", "cpu"])
    printed = capsys.readouterr().out
    sheet = own / "search" / "a-red-mug-bold.png"
    told = json.loads(sheet.with_suffix(".json").read_text())
    assert (str(sheet) in printed, len(told["pictures"])) == (True, 5)
    assert all(hit["key"] == key_of(store, hit["row"]) and hit["key"] in printed for hit in told["pictures"])
    Image.new("RGB", (50, 40), (200, 10, 10)).save(tmp_path / "red.png")
    out = tmp_path / "found.png"
    main(
        [str(own), str(store.path), "--image", str(tmp_path / "red.png"), "--pictures", "--top", "3", "--out", str(out)]
    )
    assert set(json.loads(out.with_suffix(".json").read_text())) == {"asked", "store", "captions", "pictures"}
    for path in (sheet, out, tmp_path / "found-pictures.png"):
        with Image.open(path) as image:
            image.verify()


class Counting:
    """The model, counting the images that it encodes; it breaks down after `last` of them."""

    def __init__(self, model: Any, last: int = 1 << 30) -> None:
        self.model, self.last, self.num = model, last, 0

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        if self.num + len(images) > self.last:
            raise KeyboardInterrupt
        self.num += len(images)
        return self.model.encode_image(images)  # type: ignore[no-any-return]


def counting(own: Path, loaded: LoadedModel, store: Store, last: int = 1 << 30) -> tuple[SearchIndex, Counting]:
    model = Counting(loaded.model, last)
    index = open_search_index(own, loaded, store, chunk_rows=40, batch_size=20)
    return replace(index, loaded=replace(loaded, model=model)), model  # type: ignore[arg-type]


def test_features_are_made_once_and_a_build_goes_on(own: Path, loaded: LoadedModel, store: Store) -> None:
    cut, _ = counting(own, loaded, store, last=60)
    with pytest.raises(KeyboardInterrupt):
        cut.images()
    assert len(list(cut.folder.glob("images-*.npy"))) == 1
    index, model = counting(own, loaded, store)
    features = np.concatenate(index.images())
    assert model.num == store.manifest.num_samples - 40
    index.images()
    assert model.num == store.manifest.num_samples - 40
    assert np.allclose(features, encoded(loaded, store)[0].numpy(), atol=1e-5)
    assert not list(index.folder.glob(".*"))


def test_damaged_features_are_told_and_made_anew(
    own: Path, loaded: LoadedModel, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = counting(own, loaded, store)
    before = np.concatenate(index.images())
    second = sorted(index.folder.glob("images-*.npy"))[1]
    data = bytearray(second.read_bytes())
    data[-3] ^= 1
    second.write_bytes(data)
    model.num = 0
    assert np.array_equal(np.concatenate(index.images()), before)
    assert model.num == 40
    assert f"{second}: is not what was written" in capsys.readouterr().err


def test_another_checkpoint_or_store_has_its_own_folder(
    own: Path, loaded: LoadedModel, store: Store, tmp_path: Path
) -> None:
    shutil.copytree(store.path, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["columns"]["32"]["files"][0]["xxh3"] = "0" * 16
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    folders = {
        open_search_index(own, loaded, store).folder,
        open_search_index(own, load_model(own, "32"), store).folder,
        open_search_index(own, loaded, open_store(tmp_path / "other")).folder,
    }
    assert len(folders) == 3


def test_many_are_asked_of_an_index_that_is_only_read_when_it_is_ours(
    own: Path, loaded: LoadedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss = pytest.importorskip("faiss")
    exactly, many = open_search_index(own, loaded, store), open_search_index(own, loaded, store, many=1)
    query, _ = text_query(many, own, "two dogs")
    wanted = find_pictures(exactly, query, 6)
    assert not list(many.folder.glob("*.faiss"))
    found = find_pictures(many, query, 6)
    # So few vectors are in two cells, and both are visited.
    assert [hit.row for hit in found] == [hit.row for hit in wanted]
    assert [hit.row for hit in find_pictures(many, query, 1000)] == [
        hit.row for hit in find_pictures(exactly, query, 96)
    ]
    read: list[str] = []
    whole = faiss.read_index

    def noted(path: str) -> object:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(faiss, "read_index", noted)
    assert [hit.row for hit in find_pictures(many, query, 6)] == [hit.row for hit in wanted]
    assert len(read) == 1
    path = many.folder / "images.faiss"
    for spoil in (
        lambda: path.write_bytes(path.read_bytes()[:-1] + b"\x07"),
        lambda: path.with_name("images.faiss.json").unlink(),
        lambda: path.write_bytes(b"IwFl" + bytes(100)),
    ):
        spoil()
        assert [hit.row for hit in find_pictures(many, query, 6)] == [hit.row for hit in wanted]
    assert len(read) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  \t "], "wanted some words"), ([""], "wanted some words"), ([], "found neither"),
        (["dog", "--image", "x"], "found both"), (["dog", "--pictures"], "wanted --image"),
        (["--image", "nowhere.png"], "wanted an image"), (["dog", "--top", "0"], "wanted at least 1"),
        (["dog", "--out", "x.jpg"], r"ends in \.png"), (["dog", "--checkpoint", "7"], "no checkpoint 7"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_named(run: Path, store: Store, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([str(run), str(store.path), *arguments])


def test_a_file_that_is_no_image_is_named(run: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="image_format"):
        main([str(run), str(store.path), "--image", str(tmp_path / "text.png")])


def test_a_store_of_another_tokenizer_or_without_the_res_is_named(own: Path, store: Store, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "black.png")
    other = tmp_path / "other"
    shutil.copytree(store.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["columns"]["tokens/original/clip"]["settings"]["tokenizer"] = {"name": "another"}
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="wanted the token ids that the run was trained on"):
        main([str(own), str(other), "--image", str(tmp_path / "black.png")])
    main([str(own), str(other), "dog", "--top", "2"])  # its captions are only shown
    manifest["columns"]["32"]["settings"]["res"] = 24
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="wanted images at 32 px"):
        main([str(own), str(other), "dog"])
    shutil.copy(other / "manifest.json", own / "manifest.json")
    with pytest.raises(UserError, match="the query: wanted the token ids"):
        main([str(own), str(store.path), "dog"])
