"""eval.run from end to end on every kind of labelled set, at every budget of the run, twice, and with warnings."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from eval import zeroshot
from eval.budgets import at_budget, budgets_of
from eval.evaluation import Evaluation, OpenedData
from eval.labelled import open_labelled
from eval.run import evaluate_run
from eval.run import main as eval_main
from prep.errors import UserError
from prep.store import Store
from train import checkpoint
from train.checkpoint import load_model
from train.model import CLIP
from train.run import main as train_main

from .labelled_sets import write_folders, write_tables, write_tars
from .played_trainer import SHORT


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages, 16 px and 6 text tokens, then 32 px and 12, with a checkpoint in each."""
    out = tmp_path_factory.mktemp("evaluated") / "run"
    train_main(["demo", *SHORT, "--keep", "9", "--store", str(store.path), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("sets") / "animals")


def scores(report: dict[str, Any]) -> list[Any]:
    keys = ("top1", "mean_class_top1", "num_images", "per_class", "confusions", "at_budgets")
    return [[result[key] for key in keys] for result in report["zeroshot"]]


def test_every_kind_of_set_gives_the_same_numbers(run: Path, animals: Path, tmp_path: Path) -> None:
    sets = [animals, write_tars(tmp_path / "tars"), write_tables(tmp_path / "tables")]
    first, *others = scores(evaluate_run(run, sets, out=tmp_path / "out"))
    assert others == [first, first]


def test_a_second_evaluation_reads_no_image(run: Path, animals: Path, tmp_path: Path) -> None:
    path = shutil.copytree(animals, tmp_path / "animals")
    first = evaluate_run(run, [path], out=tmp_path / "out")
    assert len(list((tmp_path / "out" / "features").iterdir())) == 2  # for 16 and for 32 px
    seen: list[int] = []
    kept = CLIP.encode_image

    def watched(self: CLIP, images: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(len(images))
        return kept(self, images, places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIP, "encode_image", watched)
        assert evaluate_run(run, [path], out=tmp_path / "out") == first
        assert seen == []
        assert scores(evaluate_run(run, [path], out=tmp_path / "other", keep_features=False)) == scores(first)
        assert sum(seen) == 24
        assert not (tmp_path / "other" / "features").exists()
        evaluate_run(run, [path], out=tmp_path / "out", preprocess="square")
        assert sum(seen) == 48
        evaluate_run(run, [path], out=tmp_path / "out", checkpoint="144")
        assert sum(seen) == 72


def test_captions_are_encoded_once_and_a_store_keeps_its_own_preprocessing(
    run: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate_run(run, retrieval_store=store.path, out=tmp_path / "plain", keep_features=False)
    assert not (tmp_path / "plain" / "features").exists()
    first = evaluate_run(run, retrieval_store=store.path, out=tmp_path / "out")
    assert len(list((tmp_path / "out" / "features").iterdir())) == 1
    monkeypatch.setattr(CLIP, "encode_image", None)
    monkeypatch.setattr(CLIP, "encode_text", None)
    options = ["--retrieval", str(store.path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    eval_main([str(run), *options])
    assert "are not seen" not in capsys.readouterr().out
    again = json.loads((tmp_path / "out" / "eval.json").read_text())["retrieval"]
    assert again == json.loads(json.dumps(first["retrieval"])) == json.loads(json.dumps(plain["retrieval"]))
    eval_main([str(run), *options, "--preprocess", "square"])
    assert capsys.readouterr().out.count("are not seen square: a store's are cut at the centre") == 1
    square = json.loads((tmp_path / "out" / "eval.json").read_text())["retrieval"]
    assert (square["preprocess"], square["preprocess_asked"]) == ("centre", "square")


@pytest.mark.parametrize("positions", ["fixed", "learned"])
def test_a_model_is_judged_at_each_budget_it_was_trained_at(
    run: Path, animals: Path, positions: str, tmp_path: Path
) -> None:
    """Against a model that is built at the last budget and handed over to the other, as between stages."""
    shutil.copytree(run, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    assert recipe.read_text().count('image_positions = "fixed"') == 2
    recipe.write_text(recipe.read_text().replace('image_positions = "fixed"', f'image_positions = "{positions}"'))
    loaded = load_model(tmp_path / "run")
    short, full = budgets_of(loaded)
    assert [(short.res, short.text_tokens), (full.res, full.text_tokens)] == [(16, 6), (32, 12)]
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    found = Evaluation((animals,), each_budget=True).of(loaded, OpenedData((open_labelled(animals),)))[0][0].at_budgets
    after = loaded.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert loaded.model.budget == full
    model = CLIP(loaded.recipe.model, full, positions)
    model.load_state_dict(before)
    model.eval().set_budget(short, positions)
    wanted = [zeroshot.evaluate(m, b, animals).at_budget() for m, b in ((model, short), (loaded.model, full))]
    assert list(found) == wanted
    with at_budget(loaded, short):
        images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
        assert torch.equal(loaded.model.encode_image(images), model.encode_image(images))


def test_a_checkpoint_of_the_first_stage_is_judged_at_its_own_budget_alone(run: Path, animals: Path) -> None:
    loaded = load_model(run, str(int(checkpoint.found(run)[0].name)))
    assert [(budget.res, budget.text_tokens) for budget in budgets_of(loaded)] == [(16, 6)]


def test_your_own_two_folders_need_nothing_else(
    run: Path, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    for name in ("dog", "polar_bear"):
        shutil.copytree(animals / name, mine / name)
    (mine / "dog" / "notes.txt").write_text("no image")
    eval_main([str(run), "--zeroshot", str(mine), "--out", str(tmp_path / "out"), "--device", "cpu"])
    said = capsys.readouterr().out
    assert "mine: 8 images, 2 classes" in said
    assert "top-1 at 16 px, 6 text tokens" in said
    assert "notes.txt (image_format" in said
    report = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert report["tables"] == ["per_class.csv"]
    rows = list(csv.DictReader((tmp_path / "out" / "per_class.csv").open()))
    assert [(row["class"], row["images"]) for row in rows] == [("dog", "4"), ("polar bear", "4")]
    right = sum(int(row["right"]) for row in rows)
    assert right == round(8 * report["zeroshot"][0]["top1"])
    assert ("confusions.png" in report["figures"]) == (right < 8)
    for name in report["figures"]:
        with Image.open(tmp_path / "out" / name) as image:
            image.verify()
    assert "most confused pairs" in (tmp_path / "out" / "report.html").read_text() or right == 8


def test_short_prompts_and_strange_labels_are_told(
    run: Path, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "seven toed very hairy hound of the baskervilles"
    (tmp_path / "names.txt").write_text(f"dog\t{long}\npolar_bear\tpolar bear\n")
    common = ["--out", str(tmp_path / "out"), "--device", "cpu", "--templates", "imagenet"]
    eval_main([str(run), "--zeroshot", str(animals), "--classes", str(tmp_path / "names.txt"), *common])
    said = capsys.readouterr().out
    assert "4 images of" in said
    assert "not judged: 'black_cat' (4)" in said
    assert f"of them lost the class's name or a part of it: '{long}'" in said
    result = json.loads((tmp_path / "out" / "eval.json").read_text())["zeroshot"][0]
    assert (result["num_without_class"], result["unmatched"], result["num_images"]) == (4, {"black_cat": 4}, 8)
    assert (result["preprocess"], result["templates"]) == ("centre", "imagenet")
    assert "lost the class" in (tmp_path / "out" / "report.html").read_text()


def test_mistakes_are_told_before_a_model_runs(run: Path, animals: Path, tmp_path: Path) -> None:
    for options, message in (
        (["--classes", "imagenett"], "no such list of classes"),
        (["--templates", "x"], "no such list"),
        (["--images", str(tmp_path)], "wanted --retrieval"),
        (["--zeroshot", str(tmp_path / "nothing")], "nothing is there"),
    ):
        with pytest.raises(UserError, match=message):
            eval_main([str(run), "--zeroshot", str(animals), *options, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
