"""Searching a store: the answers of a plain sort, features kept and checked, and the index above many vectors."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from eval.search import Hit, find_captions, find_pictures, image_query, key_of, main, print_hits, text_query
from eval.search_index import open_search_index
from pipelines.evaluation import batches
from prep.errors import UserError
from prep.store import Store
from train.checkpoint import LoadedModel, load_model

from .searched import encoded, loaded, own, run


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


def test_what_a_store_calls_its_rows_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_hits("a\x1b[31m", [Hit(1, "k\x1b]0;owned\x07", "a\x1b[2J dog", 0.5)])
    printed = capsys.readouterr().out
    assert "owned" in printed
    assert not set(printed) & {"\x1b", "\x07"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  \t "], "wanted some words"), ([""], "wanted some words"), ([], "found neither"),
        (["dog", "--image", "x"], "found both"), (["dog", "--pictures"], "wanted --image"),
        (["--image", "nowhere.png"], "wanted an image"), (["dog", "--top", "0"], "wanted at least 1"),
        (["dog", "--out", "x.jpg"], r"ends in \.png"), (["dog", "--checkpoint", "7"], "no checkpoint 7"),
        (["dog", "--device", "cuda:77"], "--device cuda:77: torch cannot use it"),
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
