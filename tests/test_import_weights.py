"""open_clip's checkpoints into a run folder, in every wrapping they come in."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prep.errors import UserError, run_main
from tests.open_clip_models import assert_same, batch, reduced, their_model, write_config
from train import checkpoint
from train.checkpoint import load_model
from train.config import load_recipe
from train.import_weights import import_weights, main

State = dict[str, torch.Tensor]


def custom_text(state: State) -> State:
    from open_clip.model import convert_to_custom_text_state_dict

    converted: State = convert_to_custom_text_state_dict(dict(state))
    return converted


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "plain": dict,
    "training": lambda state: {"epoch": 3, "name": "x", "state_dict": {f"module.{k}": v for k, v in state.items()}},
    "compiled": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "custom-text": custom_text,
    "openai-extras": lambda state: state | {"context_length": torch.tensor(32), "attn_mask": torch.zeros(32, 32)},
    "scale-of-one-element": lambda state: state | {"logit_scale": state["logit_scale"].reshape(1)},
}


@pytest.fixture(scope="module")
def small() -> tuple[dict[str, Any], Any]:
    """A small ViT-L-14-CLIPA: its JSON, and open_clip's model of it."""
    model = reduced("ViT-L-14-CLIPA")
    return model, their_model(model)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_every_wrapping_gives_the_same_model(
    small: tuple[dict[str, Any], Any], wrapping: str, suffix: str, tmp_path: Path
) -> None:
    model, theirs = small
    torch.save(WRAPPINGS[wrapping](theirs.state_dict()), tmp_path / f"weights{suffix}")
    main([str(tmp_path / f"weights{suffix}"), write_config(tmp_path, model), "--out", str(tmp_path / "run")])
    loaded = load_model(tmp_path / "run")
    assert (loaded.samples_seen, loaded.budget.res, loaded.budget.text_tokens) == (0, 56, 32)
    assert_same(loaded.model, theirs, *batch(loaded.model))


def test_safetensors_of_half_precision_in_a_folder(small: tuple[dict[str, Any], Any], tmp_path: Path) -> None:
    """The folder says itself which model it is, and whose pixels."""
    model, theirs = small
    folder = tmp_path / "theirs"
    folder.mkdir()
    save_file(
        {k: v.half().contiguous() for k, v in theirs.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    pixels = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": pixels}))
    recipe = import_weights(folder, tmp_path / "run", None)
    assert recipe.model.pixels == "imagenet"
    ours, halved = load_model(tmp_path / "run").model, copy.deepcopy(theirs).half().float()
    assert_same(ours, halved, *batch(ours))


def test_another_res_and_length_is_what_open_clip_makes_of_them(
    small: tuple[dict[str, Any], Any], tmp_path: Path
) -> None:
    from open_clip.factory import load_checkpoint

    model, theirs = small
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    config = write_config(tmp_path, model)
    main([str(tmp_path / "weights.pt"), config, "--res", "84", "--text-tokens", "12", "--out", str(tmp_path / "run")])
    larger = copy.deepcopy(model)
    larger["vision_cfg"]["image_size"], larger["text_cfg"]["context_length"] = 84, 12
    resized = their_model(larger, seed=1)
    load_checkpoint(resized, str(tmp_path / "weights.pt"))
    ours = load_model(tmp_path / "run").model
    assert_same(ours, resized, *batch(ours))


def changed(state: State, name: str, value: torch.Tensor | None) -> State:
    return {k: v for k, v in state.items() if k != name} | ({name: value} if value is not None else {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("visual.ln_pre.weight", torch.zeros(64), "visual.ln_pre.weight: the model has no such tensor"),
        ("logit_bias", torch.zeros(()), "logit_bias: the model has no such tensor"),
        ("visual.proj", torch.zeros(64, 31), r"visual.proj: wanted the shape \[64, 32\], found \[64, 31\]"),
        ("visual.conv1.weight", torch.zeros(64, 3, 16, 16), r"visual.conv1.weight: .*14, 14\], found .*16, 16\]"),
        ("ln_final.bias", None, "ln_final.bias: wanted this tensor"),
        (
            "visual.positional_embedding",
            torch.zeros(19, 64),
            "visual.positional_embedding: wanted positions of a square",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    small: tuple[dict[str, Any], Any], name: str, value: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    model, theirs = small
    torch.save(changed(theirs.state_dict(), name, value), tmp_path / "weights.pt")
    with pytest.raises(UserError, match=message):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", write_config(tmp_path, model))
    assert not (tmp_path / "run").exists()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "weights.pt")
    with pytest.raises(SystemExit) as stopped:
        run_main(lambda: main([str(tmp_path / "weights.pt"), "b16_v1", "--out", str(tmp_path / "run")]))
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert "wanted tensors" in told.err
    assert "executed" not in told.out


@pytest.mark.parametrize(
    ("content", "suffix"), [(b"", ".pt"), (b"no weights", ".bin"), (b"no weights", ".safetensors"), (b"{}", ".pth")]
)
def test_a_file_that_is_none_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(content)
    with pytest.raises(UserError, match="wanted tensors"):
        import_weights(tmp_path / f"weights{suffix}", tmp_path / "run", "b16_v1")


def test_mistakes_are_told(small: tuple[dict[str, Any], Any], tmp_path: Path) -> None:
    model, theirs = small
    weights, run = tmp_path / "weights.pt", tmp_path / "run"
    torch.save(theirs.state_dict(), weights)
    config = write_config(tmp_path, model)
    with pytest.raises(UserError, match="which model"):
        import_weights(weights, run, None)
    with pytest.raises(UserError, match="wanted a recipe"):
        import_weights(weights, run, "b17")
    with pytest.raises(UserError, match="not a multiple of the patch size"):
        import_weights(weights, run, config, res=60)
    with pytest.raises(UserError, match="first stage"):
        import_weights(weights, run, "demo", res=64)
    with pytest.raises(UserError, match="overrides are for recipes"):
        import_weights(weights, run, config, ["seed=1"])
    with pytest.raises(UserError, match="there is none"):
        import_weights(tmp_path / "none.pt", run, config)
    assert not run.exists()
    import_weights(weights, run, config)
    assert checkpoint.found(run)
    assert load_recipe(str(run / "recipe.toml")).stages[0].image_positions == "learned"
    with pytest.raises(UserError, match="new or empty"):
        import_weights(weights, run, config)
