"""Retrieval from a real store's shards to the numbers, and eval.run from a run to its pictures."""

import json
import shutil
from functools import reduce
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import one_hot

from eval import retrieval
from eval.retrieval import check_finite
from eval.run import evaluate_run
from eval.run import main as eval_main
from pipelines.contract import TokenBudget
from pipelines.evaluation import batches
from prep.errors import UserError
from prep.store import Store
from train.run import main as train_main


def test_a_diverged_model_is_refused_not_scored() -> None:
    features = torch.ones(3, 2)
    features[1, 0] = torch.nan
    with pytest.raises(UserError, match="1 of 3 images") as caught:
        check_finite(features, "images")
    assert "diverged" in str(caught.value)


class MemoryModel(nn.Module):
    """Knows by heart which picture and which caption belong together."""

    def __init__(self, store: Path, budget: TokenBudget) -> None:
        super().__init__()
        self.rows: dict[bytes, int] = {}
        for batch in batches(store, budget, 7):
            for image, tokens, row in zip(batch.images, batch.tokens, batch.index.tolist(), strict=True):
                self.rows[image.numpy().tobytes()] = row
                self.rows.setdefault(tokens.numpy().tobytes(), row)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return one_hot(torch.tensor([self.rows[i.numpy().tobytes()] for i in images]), 1000).float()

    encode_text = encode_image


def test_a_model_that_knows_a_real_store_by_heart(store: Store) -> None:
    budget = TokenBudget(res=16, text_tokens=16)
    result = retrieval.evaluate(MemoryModel(store.path, budget), budget, store.path, batch_size=10)
    num = result.num_images
    assert num == result.num_captions == store.manifest.num_samples
    expected = result.num_distinct_captions / num
    assert expected > 0.9
    assert result.text_to_image[1] == result.image_to_text[1] == pytest.approx(expected)
    assert result.chance[5] == pytest.approx(5 / num)
    for example in result.examples:
        assert len(result.examples) == len(set(example.retrieved)) == 5
        assert (example.row == example.retrieved[0]) == (example.rank == 0)


TINY = """
log_every=1 checkpoint_every=2 model.embed_dim=16 model.vision.width=16 model.vision.depth=1 model.text.width=16
stages.0.samples=64 stages.0.batch_size=16 stages.0.warmup_samples=0 stages.1.samples=32 stages.1.batch_size=16
stages.1.warmup_samples=0 stages.0.budget.res=16 stages.0.budget.text_tokens=8 stages.1.budget.res=32
stages.1.budget.text_tokens=12
"""


@pytest.fixture(scope="module")
def few(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three pictures of six classes of each of the demo's zero-shot sets."""
    folders = {}
    for name in ("zeroshot", "zeroshot_shift"):
        to = tmp_path_factory.mktemp("few") / name
        for folder in sorted(path for path in (demo_data / name).iterdir() if path.is_dir())[:6]:
            (to / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:3]:
                shutil.copy(image, to / folder.name)
        folders[name] = str(to)
    return folders


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps in two stages."""
    out = tmp_path_factory.mktemp("eval") / "run"
    train_main(["demo", *TINY.split(), "--store", str(store.path), "--out", str(out), "--threads", "1"])
    return out


def test_a_run_is_evaluated_end_to_end(
    run: Path, store: Store, few: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, shifted, out = few["zeroshot"], few["zeroshot_shift"], tmp_path / "eval"
    eval_main(
        [
            str(run),
            "--zeroshot",
            data,
            "--zeroshot",
            shifted,
            "--retrieval",
            str(store.path),
            "--out",
            str(out),
            "--device",
            "cpu",
        ]
    )
    printed = capsys.readouterr().out
    report = json.loads((out / "eval.json").read_text())
    assert (report["samples_seen"], report["budget"]["res"], report["budget"]["text_tokens"]) == (96, 32, 12)
    assert report["model"]["embed_dim"] == 16
    pictures = ["curves.png", "zeroshot.png", "zeroshot-2.png", "retrieval.png"]
    assert [name for name in report["figures"] if "confusions" not in name] == pictures
    for name in pictures:
        with Image.open(out / name) as image:
            image.verify()
    first, second = report["zeroshot"]
    assert (first["folder"], second["folder"]) == (data, shifted)
    assert (first["num_classes"], first["num_images"]) == (6, 18)
    assert first["chance_top1"] == pytest.approx(1 / 6)
    low, high = first["top1_interval"]
    assert low <= first["top1"] <= high
    assert set(report["retrieval"]["text_to_image"]) == {"1", "5", "10"}
    assert all(text in printed for text in ("zero-shot top-1", "recall@10", str(out / "eval.json")))


def test_an_earlier_checkpoint_is_evaluated_at_its_own_budget(run: Path, store: Store, tmp_path: Path) -> None:
    report = evaluate_run(run, retrieval_store=store.path, checkpoint="64", out=tmp_path)
    assert (report["samples_seen"], report["budget"]["res"], report["budget"]["text_tokens"]) == (64, 16, 8)


def test_a_run_without_a_log_has_no_curves(run: Path, store: Store, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("metrics.jsonl"))
    assert evaluate_run(tmp_path / "run", retrieval_store=store.path)["figures"] == ["retrieval.png"]
    assert (tmp_path / "run" / "eval" / "eval.json").is_file()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("columns.tokens/original/clip.settings.tokenizer", {"name": "another"}, "wanted the token ids that"),
        ("columns.32.settings.res", 16, "wanted images at 32 px, but the store holds 16"),
        ("format_version", 99, "format version 99"),
    ],
)
def test_a_store_that_does_not_fit_is_named(
    run: Path, store: Store, tmp_path: Path, key: str, value: object, message: str
) -> None:
    shutil.copytree(store.path, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    *places, last = key.split(".")
    reduce(dict.__getitem__, places, manifest)[last] = value
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message):
        evaluate_run(run, retrieval_store=tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "found nothing"), (["--retrieval", "nowhere"], "nothing is there"),
        (["--zeroshot", "x"], "nothing is there"), (["--zeroshot", "x", "--templates", "simpel"], "no such list"),
        (["--zeroshot", "x", "--checkpoint", "5"], "no checkpoint 5"), (["--zeroshot", "x", "--device", "a"], "cannot"),
        (["--zeroshot", "x", "--batch-size", "0"], "wanted at least 1, found 0"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_named(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        eval_main([str(run), *arguments])


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wanted a run folder"):
        eval_main([str(tmp_path), "--zeroshot", str(tmp_path)])
