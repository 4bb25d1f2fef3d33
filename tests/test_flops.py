"""FLOPs, parameters and memory against torch's own accounts of the real models, and against published figures."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipelines.contract import TokenBudget
from train.config import load_recipe, shipped_recipes
from train.flops import forward_flops, image_tokens, spared_flops
from train.memory import activation_bytes, num_parameters
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.models import MODELS
from train.sweep import load_sweep

SHIPPED = [load_recipe(name) for name in shipped_recipes()]


def shallow(model: ModelConfig) -> ModelConfig:
    """The same with two blocks a tower: FLOPs and parameters grow by the block."""
    return replace(model, vision=replace(model.vision, depth=2), text=replace(model.text, depth=2))


def on_meta(model: ModelConfig, budget: TokenBudget) -> CLIP:
    """A model of any size, which takes no memory."""
    with torch.device("meta"):
        return CLIP(model, budget)


def counted_flops(clip: CLIP, num: int = 2) -> float:
    """A sample's forward FLOPs by torch, image mask included. It does not count fused attention: it gets the plain."""
    budget = clip.budget
    images = torch.empty(num, 3, budget.res, budget.res, dtype=torch.uint8, device="meta")
    tokens = torch.zeros(num, budget.text_tokens, dtype=torch.int64, device="meta")
    places = torch.zeros(num, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        clip(images, tokens, places)
    return float(counter.get_total_flops()) / num


def check(clip: CLIP, model: ModelConfig) -> None:
    executed = forward_flops(model, clip.budget) - spared_flops(model, clip.budget)
    assert executed == pytest.approx(counted_flops(clip), rel=1e-6), clip.budget
    assert num_parameters(model, clip.budget) == sum(p.numel() for p in clip.parameters()), clip.budget


@pytest.mark.parametrize("model", {recipe.model: None for recipe in SHIPPED}, ids=lambda model: str(model.vision.width))
def test_shipped_stages_cost_what_torch_counts(model: ModelConfig) -> None:
    """Whole models in their first budget; with two blocks, handed over to the budgets of every stage that ships."""
    budgets = {stage.budget: stage for recipe in SHIPPED if recipe.model == model for stage in recipe.stages}
    first = next(iter(budgets))
    check(on_meta(model, first), model)
    clip = on_meta(shallow(model), first)
    for budget, stage in budgets.items():
        with torch.device("meta"):
            clip.set_budget(budget, stage.image_positions)
        check(clip, shallow(model))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_costs_what_torch_counts(name: str) -> None:
    model = shallow(MODELS[name])
    check(on_meta(model, TokenBudget(8 * model.vision.patch_size, 12, "syntax", "random", 0.4)), model)


def test_every_strategy_of_the_study_costs_what_torch_counts() -> None:
    sweep = load_sweep("clipa_v1_study")
    for image in ("i101_resize", "i37_random", "i17_block", "i99_grid"):
        recipe = sweep.recipe(f"s16_{image}_t32_truncate")
        model = shallow(recipe.model)
        check(on_meta(model, recipe.stages[0].budget), model)


@pytest.mark.parametrize(
    ("model", "res", "gflops"),
    [
        ("l14_v2", 224, 167.5),
        ("h14_v2", 224, 354.0),
        ("bigg14_v2", 224, 1007.9),
        ("l14_v2", 336, 387.4),
        ("h14_v2", 336, 800.9),
        ("bigg14_v2", 336, 2271.6),
    ],
)
def test_flops_are_those_of_open_clips_profile(model: str, res: int, gflops: float) -> None:
    """Of its table of CLIPA's models; 32 text tokens."""
    assert forward_flops(MODELS[model], TokenBudget(res, 32)) / 1e9 == pytest.approx(gflops, rel=0.01)


@pytest.mark.parametrize(
    ("size", "compute"),
    [
        ("s16", (0.131, 0.081, 0.051, 0.044, 0.033)),
        ("b16", (0.468, 0.275, 0.163, 0.135, 0.091)),
        ("l16", (1.602, 0.927, 0.533, 0.433, 0.281)),
    ],
)
def test_the_studys_compute_is_that_of_clipas_figure(size: str, compute: tuple[float, ...]) -> None:
    """CLIPA's accuracy over compute: 1e11 x (10^9 multiply-adds, forward) x samples, read off a figure.

    At full length its points have no second stage. Ours are all 2 to 3.5% larger.
    """
    sweep = load_sweep("clipa_v1_study")
    for tokens, published in zip((197, 101, 50, 37, 17), compute, strict=True):
        recipe = sweep.recipe(f"{size}_i{tokens}_resize_t32_truncate")
        stages = recipe.stages[: 1 if tokens == 197 else 2]
        total = sum(stage.num_samples * forward_flops(recipe.model, stage.budget) / 2 for stage in stages)
        assert total / 1e20 == pytest.approx(published, rel=0.036), tokens


def saved_bytes(model: ModelConfig, budget: TokenBudget, num: int, autocast: bool, checkpointing: bool) -> int:
    """What autograd keeps of a forward pass beside parameters, each storage once."""
    clip = CLIP(model, budget).train()
    clip.set_checkpointing(checkpointing)
    own = {tensor.untyped_storage().data_ptr() for tensor in [*clip.parameters(), *clip.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(num, 3, budget.res, budget.res, dtype=torch.uint8)
    tokens = torch.ones(num, budget.text_tokens, dtype=torch.int64)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        _features = clip(images, tokens)
    return sum(kept.values())


@pytest.mark.parametrize("autocast", [False, True])
def test_activations_are_what_autograd_keeps(autocast: bool) -> None:
    """A sample's share: two batches' difference, without what is kept once. A few per cent lie outside the blocks."""
    model = ModelConfig(
        32, VisionConfig(8, 128, 4, 2, class_token=True), TextConfig(96, 4, 2, mlp_ratio=3.0), clamp_logit_scale=False
    )
    budget = TokenBudget(64, 24)
    assert image_tokens(model, budget) == 65
    kept = {}
    for checkpointing in (False, True):
        few, many = (saved_bytes(model, budget, num, autocast, checkpointing) for num in (4, 12))
        kept[checkpointing] = (many - few) / 8
    planned = activation_bytes(model, budget, autocast, checkpointing=False)
    assert planned == pytest.approx(kept[False], rel=0.06)
    # Checkpointed, autograd keeps a block's input; a plan adds the block that is computed again.
    inputs = 4 * (4 * 65 * 128 + 4 * 24 * 96)
    assert inputs < kept[True] < 1.5 * inputs
    again = activation_bytes(model, budget, autocast, checkpointing=True) - inputs
    assert again == pytest.approx(planned / 4, rel=0.35)
    assert again < planned / 2
