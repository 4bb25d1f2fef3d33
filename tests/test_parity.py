"""Our towers give open_clip's numbers: the same random weights in both, features and logits compared in float32.

Configurations are open_clip's own JSON, made shallow and narrow, and read by the function that the importer uses.
FULL_SIZE=1 builds ViT-L-14-CLIPA as it is as well.
"""

import os
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from pipelines.contract import TokenBudget
from prep.errors import UserError
from tests.open_clip_models import assert_same, batch, our_model, reduced, their_model, with_numerics
from train.model import CLIP, PIXEL_STATISTICS
from train.models import MODELS
from train.open_clip_config import config_of, shipped_config, to_open_clip_config
from train.open_clip_weights import from_open_clip, load_into, own_budget, to_open_clip

CLIPA = [f"ViT-{size}-14-CLIPA{res}" for size in ("L", "H", "bigG") for res in ("", "-336")]


@pytest.mark.parametrize("numerics", [None, ("tanh", 1e-6)], ids=["as-it-is", "as-in-jax"])
@pytest.mark.parametrize("name", [*CLIPA, "ViT-B-16", "ViT-S-16-alt"])
def test_features_and_logits_are_open_clips(name: str, numerics: tuple[str, float] | None) -> None:
    model = reduced(name)
    model = with_numerics(model, *numerics) if numerics else model
    theirs = their_model(model)
    ours = our_model(model, theirs)
    assert_same(ours, theirs, *batch(ours))
    back = to_open_clip(ours.state_dict(), ours.config)
    assert back.keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        assert torch.equal(back[key], value), key


@pytest.mark.skipif("FULL_SIZE" not in os.environ, reason="3 GB of weights; FULL_SIZE=1 runs it")
def test_features_and_logits_are_open_clips_at_full_size() -> None:
    model = shipped_config("ViT-L-14-CLIPA")
    assert model is not None
    theirs = their_model(model)
    ours = our_model(model, theirs)
    assert_same(ours, theirs, *batch(ours))


@pytest.mark.parametrize("key", ["act_kwargs", "norm_kwargs"])
def test_the_two_would_differ_without_the_numerics(key: str) -> None:
    """The comparison sees what tells CLIPA's JAX code from open_clip's defaults."""
    model = with_numerics(reduced("ViT-L-14-CLIPA"), "tanh", 1e-2)
    theirs = their_model(model)
    for part in ("vision_cfg", "text_cfg"):
        model[part].pop(key)
    ours = our_model(model, theirs)
    with pytest.raises(AssertionError):
        assert_same(ours, theirs, *batch(ours))


@torch.no_grad()
@pytest.mark.parametrize("res_factor", [1, 2])
def test_mean_with_the_class_token_is_v1s(res_factor: int) -> None:
    """open_clip has no such pooling any more: its tower's tokens, averaged and normed by hand."""
    model = reduced("ViT-B-16")
    model["vision_cfg"]["image_size"] *= res_factor
    theirs = their_model(model)
    state = theirs.state_dict()
    config = config_of(model)
    config = replace(config, vision=replace(config.vision, pool="mean_with_class"))
    ours_state = from_open_clip(state, config, "test")
    ours = CLIP(config, own_budget(ours_state, config, "test"), "learned").eval()
    load_into(ours, ours_state, "test")
    images, _ = batch(ours)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in PIXEL_STATISTICS["openai"])
    tower = theirs.visual
    tokens = tower.transformer(tower._embeds((images / 255 - mean) / std))
    wanted = normalize(tower.ln_post(tokens.mean(dim=1)) @ tower.proj, dim=-1)
    torch.testing.assert_close(ours.encode_image(images), wanted, atol=1e-5, rtol=0)
    patches_only = normalize(tower.ln_post(tokens[:, 1:].mean(dim=1)) @ tower.proj, dim=-1)
    assert (ours.encode_image(images) - patches_only).abs().max() > 1e-3


SIZES = [*((f"ViT-{size}-14-CLIPA", f"{size.lower()}14_v2") for size in ("L", "H", "bigG")), ("ViT-B-16", "b16_v1")]


@pytest.mark.parametrize(("theirs", "ours"), SIZES)
def test_models_have_open_clips_sizes(theirs: str, ours: str) -> None:
    shipped = shipped_config(theirs)
    assert shipped is not None
    wanted, found = config_of(shipped), MODELS[ours]
    assert (found.embed_dim, found.text.vocabulary_size) == (wanted.embed_dim, wanted.text.vocabulary_size)
    for a, b in ((found.vision, wanted.vision), (found.text, wanted.text)):
        for key in ("width", "depth", "num_heads", "mlp_ratio"):
            assert getattr(a, key) == getattr(b, key), key
    for key in ("patch_size", "class_token", "pre_norm", "pool", "patch_bias"):
        assert getattr(found.vision, key) == getattr(wanted.vision, key), key
    for key in ("tokenizer", "causal", "pool", "end_token"):
        assert getattr(found.text, key) == getattr(wanted.text, key), key


@pytest.mark.parametrize(
    ("name", "total", "vision", "text"),
    # In millions, from open_clip's docs/model_profile.csv.
    [("l14_v2", 414.21, 304.0, 110.3), ("h14_v2", 968.24, 632.1, 336.2), ("bigg14_v2", 2517.22, 1844.9, 672.3)],
)
def test_parameters_are_as_many_as_published(name: str, total: float, vision: float, text: float) -> None:
    with torch.device("meta"):
        model = CLIP(MODELS[name], TokenBudget(224, 32))
    found = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.vision, model.text)]
    assert found == [pytest.approx(total, abs=0.01), pytest.approx(vision, abs=0.1), pytest.approx(text, abs=0.1)]


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.vision.pool != "mean_with_class"])
def test_a_model_comes_back_from_open_clips_json(name: str) -> None:
    model = MODELS[name]
    back = config_of(to_open_clip_config(model, 224, 32))
    vision = replace(back.vision, positions=model.vision.positions, init=model.vision.init)
    assert replace(back, vision=vision, clamp_logit_scale=model.clamp_logit_scale) == model


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ViT-B-16-quickgelu", "quick_gelu"),
        ("ViT-B-16-SigLIP", "init_logit_bias"),
        ("RN50", "vision_cfg.layers"),
        ("ViT-M-16-alt", "vision_cfg.ls_init_value"),
        ("convnext_base", "vision_cfg.timm_model_name"),
        ("ViT-H-14-worldwide", "text_cfg.pool_type"),
    ],
)
def test_what_our_towers_cannot_do_is_refused_by_name(name: str, key: str) -> None:
    shipped = shipped_config(name)
    assert shipped is not None
    with pytest.raises(UserError, match=key):
        config_of(shipped)


@pytest.mark.parametrize(("name", "key"), [("l16_v1", "vision.pool")])
def test_what_open_clip_cannot_do_is_refused_by_name(name: str, key: str) -> None:
    with pytest.raises(UserError, match=key):
        to_open_clip_config(MODELS[name], 224, 32)
    headless = replace(MODELS["s16_v2"], vision=replace(MODELS["s16_v2"].vision, class_token=False))
    with pytest.raises(UserError, match=r"vision\.class_token"):
        to_open_clip_config(headless, 224, 32)
