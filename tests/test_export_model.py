"""Runs as folders of other libraries: they load with the ordinary call and give our numbers, or there is no folder."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pipelines.contract import TokenBudget
from prep.errors import UserError
from train import certificate, checkpoint, export_open_clip
from train.certificate import Loaded, images_of
from train.checkpoint import State, load_model
from train.config import to_toml
from train.export import export, main
from train.import_weights import import_weights, recipe_for
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.models import MODELS
from train.text_tokens import tokens_of


def narrow(model: ModelConfig) -> ModelConfig:
    vision = replace(model.vision, width=64, depth=2, num_heads=4)
    return replace(model, embed_dim=32, vision=vision, text=replace(model.text, width=48, depth=2, num_heads=3))


B16 = narrow(MODELS["b16_v1"])
MODELS_HERE = {
    "v1": B16,
    "v1-tanh-imagenet": replace(B16, vision=replace(B16.vision, gelu="tanh", norm_eps=1e-6), pixels="imagenet"),
    "v1-patch-bias": replace(B16, vision=replace(B16.vision, patch_bias=True)),
    "v1-mean-with-class": narrow(MODELS["l16_v1"]),
    "v2": narrow(MODELS["l14_v2"]),
    "v2-patch-bias": replace(
        narrow(MODELS["l14_v2"]), vision=replace(narrow(MODELS["l14_v2"]).vision, patch_bias=True)
    ),
    "study": narrow(MODELS["h14_study"]),
    "demo": ModelConfig(32, VisionConfig(8, 64, 2, 2), TextConfig(48, 2, 3)),
}
TAKES = {
    "open_clip": ("v1", "v1-tanh-imagenet", "v1-patch-bias", "v2", "v2-patch-bias", "study"),
    "timm": tuple(MODELS_HERE),
    "hf": ("v1", "v1-tanh-imagenet", "v1-patch-bias"),
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run folder of a model with random weights, none of them neutral, and a trained model's temperature."""

    def make(name: str) -> Path:
        run = base / name
        if run.exists():
            return run
        config = MODELS_HERE[name]
        budget = TokenBudget(4 * config.vision.patch_size, 12, "truncate")
        torch.manual_seed(0)
        model = CLIP(config, budget)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
            model.logit_scale.fill_(4.0)
        checkpoint.save(run, State(0, 0.0, 0.0), model, None)
        (run / "recipe.toml").write_text(to_toml(recipe_for(name, config, budget, "fixed")))
        return run

    base = tmp_path_factory.mktemp("runs")
    return make


@pytest.mark.parametrize(("library", "name"), [(library, name) for library in TAKES for name in TAKES[library]])
def test_the_library_loads_it_and_gives_our_numbers(
    library: str, name: str, run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    main([str(run_of(name)), "--to", library, "--out", str(tmp_path / "out")])
    told = json.loads((tmp_path / "out" / "certificate.json").read_text())
    wanted = {"image_features"} if library == "timm" else {"image_features", "text_features", "logits"}
    assert told["max_difference"].keys() == wanted
    assert max(told["max_difference"].values()) <= told["tolerance"] == 1e-4
    assert told["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("library", "name", "message"),
    [
        ("open_clip", "v1-mean-with-class", r"model.vision.pool: .*leaves the class token out\n  Use --to timm"),
        ("open_clip", "demo", r"model.vision.class_token: .*always has a class token\n  Use --to timm"),
        ("hf", "v2", r"model.vision.pool: .*pools a class token\n  Use --to open_clip .* or --to timm"),
        ("hf", "study", r"model.vision.pre_norm: .*norm before the blocks\n  Use --to open_clip"),
        ("hf", "demo", r"model.vision.pool: .*\n  Use --to timm"),
    ],
)
def test_what_a_library_cannot_express_is_refused(
    library: str, name: str, message: str, run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        export(run_of(name), library, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@torch.inference_mode()
def test_open_clips_folder_by_its_own_calls(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """What a user writes, not our loader: real text, an image that must be resized, logits."""
    import open_clip

    export(run_of("v2"), "open_clip", tmp_path / "out")
    name = f"local-dir:{tmp_path / 'out'}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    tokenizer = open_clip.get_tokenizer(name)
    ours = load_model(run_of("v2"))
    texts = ["A dog on the Street.", "watermelon", "naïve café"]
    tokens = tokenizer(texts)
    assert torch.equal(tokens, tokens_of(texts, 12, "bert", False))
    assert tokens[0].tolist()[:3] == [101, 1037, 3899]
    assert 102 not in tokens
    torch.testing.assert_close(
        model.encode_text(tokens, normalize=True), ours.model.encode_text(tokens), atol=1e-5, rtol=0
    )
    assert preprocess(images_of(100, 80, 1)[0]).shape == (3, 56, 56)
    square = images_of(56, 56, 1)[0]
    found = model.encode_image(preprocess(square)[None], normalize=True)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
    torch.testing.assert_close(found, ours.model.encode_image(pixels), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_timms_folder_gives_features_without_the_head_too(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    import timm

    export(run_of("demo"), "timm", tmp_path / "out")
    whole = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    bare = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    ours = load_model(run_of("demo")).model
    pixels = torch.randn(2, 3, 32, 32)
    projected = normalize(bare(pixels) @ ours.vision.head.weight.T, dim=-1)
    torch.testing.assert_close(projected, normalize(whole(pixels), dim=-1), atol=1e-5, rtol=0)


def test_what_was_exported_can_be_imported(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("v1-patch-bias", "v2"):
        export(run_of(name), "open_clip", tmp_path / name)
        import_weights(tmp_path / name, tmp_path / f"{name}-run", None)
        before, after = load_model(run_of(name)), load_model(tmp_path / f"{name}-run")
        assert after.budget == before.budget
        text = before.recipe.model.text
        pictures = torch.randint(0, 256, (2, 3, before.budget.res, before.budget.res), dtype=torch.uint8)
        tokens = tokens_of(["a dog", "two cats"], 12, text.tokenizer, text.end_token)
        with torch.inference_mode():
            for a, b in zip(after.model(pictures, tokens), before.model(pictures, tokens), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def other_image(loaded: Loaded) -> Loaded:
    return replace(loaded, encode_image=lambda pictures: -loaded.encode_image(pictures))


def not_a_number(loaded: Loaded) -> Loaded:
    return replace(loaded, encode_image=lambda pictures: loaded.encode_image(pictures) * float("nan"))


def other_text(loaded: Loaded) -> Loaded:
    assert loaded.encode_text is not None
    encode = loaded.encode_text
    return replace(loaded, encode_text=lambda tokens: encode(tokens).roll(1, 0))


def other_scale(loaded: Loaded) -> Loaded:
    assert loaded.logit_scale is not None
    return replace(loaded, logit_scale=loaded.logit_scale * 1.01)


def other_ids(loaded: Loaded) -> Loaded:
    assert loaded.tokenize is not None
    tokenize = loaded.tokenize
    return replace(loaded, tokenize=lambda texts: tokenize([f"the {text}" for text in texts]))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (other_image, "image_features"),
        (not_a_number, "image_features"),
        (other_text, "text_features"),
        (other_scale, "logits"),
        (other_ids, "tokenizer"),
    ],
)
def test_another_model_gets_no_folder(
    damage: Callable[[Loaded], Loaded],
    what: str,
    run_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = export_open_clip.load
    monkeypatch.setattr(export_open_clip, "load", lambda folder: damage(load(folder)))
    with pytest.raises(UserError, match=what):
        export(run_of("v1"), "open_clip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_bert_text_that_is_too_long_is_told(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """CLIPA's JAX code keeps L - 1 pieces, open_clip L - 2: the certificate counts, and the reference is as it says."""
    told = export(run_of("v2"), "open_clip", tmp_path / "out")
    assert told["num_longer_texts_with_other_ids"] == told["num_longer_texts"] > 0
    assert told["num_odd_texts_with_other_ids"] == 0
    theirs = export_open_clip.load(tmp_path / "out")
    assert theirs.tokenize is not None
    text = [" ".join(["dog"] * 20)]
    assert int((theirs.tokenize(text) > 0).sum()) == 11
    assert int((tokens_of(text, 12, "bert", False) > 0).sum()) == 12
    assert export(run_of("v1"), "open_clip", tmp_path / "v1")["num_longer_texts_with_other_ids"] == 0


def test_something_else_of_that_name_is_left_alone(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(run_of("v1"), "timm", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match="new or empty"):
        export(run_of("demo"), "timm", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(UserError, match="no checkpoint 5"):
        export(run_of("v1"), "timm", tmp_path / "new", "5")


@pytest.mark.parametrize(("library", "missing"), [("hf", "transformers"), ("open_clip", "open_clip")])
def test_a_missing_library_is_named_with_its_command(
    library: str, missing: str, run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match="pip install open_clip_torch"):
        export(run_of("v1"), library, tmp_path / "out")


def test_the_fixed_batch_is_fixed() -> None:
    """Four pictures, no two alike, the same ones every time."""
    first, second = ([picture.tobytes() for picture in images_of(40, 30)] for _ in range(2))
    assert first == second
    assert len(set(first)) == certificate.NUM_IMAGES
