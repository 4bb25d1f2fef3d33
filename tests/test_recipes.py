"""The shipped recipes against CLIPA's numbers, typed anew; sweeps: their cells, and mistakes in them."""

from pathlib import Path

import pytest

from prep.errors import UserError
from train.config import load_recipe, shipped_recipes, to_toml
from train.flops import image_tokens
from train.models import MODELS
from train.recipe import Recipe
from train.sweep import load_sweep, shipped_sweeps

Row = tuple[int, int, str, float, int, int, float, int]
"""A stage: res, text tokens, text mask, share of patches left out, batch, samples, learning rate of a batch of 256,
warm-up steps. From CLIPA's gpu scripts (v1) and its JAX configurations (v2)."""
EPOCHS_V1, TUNING_V1 = 2_560_000_000, 131_072_000
H_PRETRAINING = (8, "syntax-jax", 0.0, 65536, 195_490 * 65536, 8e-6, 3200)
H_TUNING = (224, 32, "truncate", 0.3, 32768, 16_000 * 32768, 4e-7, 800)
TUNING_336 = (336, 32, "truncate", 0.4, 16384, 8_000 * 16384, 1e-7, 1600)
TABLE: dict[str, tuple[str, str, list[Row]]] = {
    "b16_i50_t16": (
        "b16_v1",
        "50 16",
        [
            (112, 16, "truncate", 0.0, 8 * 8192, EPOCHS_V1, 8e-6, 782),
            (224, 16, "truncate", 0.0, 8 * 1024, TUNING_V1, 8e-7, 3072),
        ],
    ),
    "l16_i17_t16": (
        "l16_v1",
        "17 16",
        [
            (64, 16, "syntax-torch", 0.0, 8 * 4096, EPOCHS_V1, 8e-6, 1563),
            (224, 16, "truncate", 0.0, 8 * 896, TUNING_V1, 8e-7, 3571),
        ],
    ),
    "l16_i37_t8": (
        "l16_v1",
        "37 8",
        [
            (96, 8, "syntax-torch", 0.0, 8 * 4096, EPOCHS_V1, 8e-6, 1563),
            (224, 32, "truncate", 0.0, 8 * 896, TUNING_V1, 8e-7, 3571),
        ],
    ),
    "l14_i36_t8_v2": ("l14_v2", "37 8", [(84, *H_PRETRAINING), H_TUNING, TUNING_336]),
    "h14_i36_t8_v2": ("h14_v2", "37 8", [(84, *H_PRETRAINING), H_TUNING, TUNING_336]),
    "h14_i25_t8_v2": ("h14_v2", "26 8", [(70, *H_PRETRAINING), H_TUNING]),
    "bigg14_i36_t8_v2": (
        "bigg14_v2",
        "37 8",
        [
            (84, 8, "syntax-jax", 0.0, 65536, 195_490 * 65536, 4e-6, 3200),
            (224, 32, "truncate", 0.4, 16384, 32_000 * 16384, 4e-7, 0),
            TUNING_336,
        ],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_has_clipas_numbers(name: str) -> None:
    recipe = load_recipe(name)
    model, tokens, stages = TABLE[name]
    is_v2 = name.endswith("_v2")
    assert recipe.model == MODELS[model]
    assert recipe.precision == "bfloat16"
    first = recipe.stages[0].budget
    assert tokens == f"{image_tokens(recipe.model, first)} {first.text_tokens}"
    optimizer = recipe.optimizer
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.95), 0.2)
    assert (optimizer.eps, optimizer.decay) == ((1e-8, "kernels") if is_v2 else (1e-6, "matrices"))
    assert len(recipe.stages) == len(stages)
    for number, (stage, row) in enumerate(zip(recipe.stages, stages, strict=True)):
        res, text_tokens, text_mask, ratio, batch_size, samples, rate_of_256, warmup_steps = row
        budget = stage.budget
        assert (budget.res, budget.text_tokens, budget.text_mask) == (res, text_tokens, text_mask)
        assert (budget.image_mask, budget.image_mask_ratio) == ("random" if ratio else "none", ratio)
        assert (stage.batch_size, stage.samples) == (batch_size, samples)
        assert stage.learning_rate == pytest.approx(rate_of_256 * batch_size / 256, rel=1e-9)
        assert stage.warmup_samples == warmup_steps * batch_size
        assert stage.image_positions == ("learned" if number and not is_v2 else "fixed")
        assert stage.augmentation.crop_area == (0.4, 1.0)
        jitter = stage.jitter
        if name.startswith("b16"):
            assert (jitter.probability, jitter.gray_probability) == (0, 0)
        else:
            assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == (0.32, 0.32, 0.32, 0.08)
            assert (jitter.probability, jitter.gray_probability) == (0.8, 0.2)


def test_the_table_has_every_recipe_that_ships() -> None:
    assert {*TABLE, "demo"} == set(shipped_recipes())


def test_masked_stages_keep_the_published_number_of_patches() -> None:
    """179 of 256 at 224 px and 345 of 576 at 336; 153 for bigG. The class token is one more."""
    kept = {
        name: [image_tokens(recipe.model, stage.budget) - 1 for stage in recipe.stages[1:]]
        for name in ("h14_i36_t8_v2", "bigg14_i36_t8_v2")
        for recipe in [load_recipe(name)]
    }
    assert kept == {"h14_i36_t8_v2": [179, 345], "bigg14_i36_t8_v2": [153, 345]}


def study() -> dict[str, Recipe]:
    sweep = load_sweep("clipa_v1_study")
    return {cell.name: sweep.recipe(cell.name) for cell in sweep.cells}


def test_the_study_has_every_cell_once_and_each_is_what_its_name_says() -> None:
    recipes = study()
    for name, recipe in recipes.items():
        size, image, strategy, text, mask = name.split("_")
        first, last = recipe.stages
        assert recipe.model == MODELS[f"{size}_study"]
        assert f"i{image_tokens(recipe.model, first.budget)}" == image
        assert first.budget.image_mask == ("none" if strategy == "resize" else strategy)
        assert f"t{first.budget.text_tokens}" == text
        assert first.budget.text_mask == {"syntax": "syntax-jax"}.get(mask, mask)
        assert (last.budget.res, last.budget.text_tokens, last.budget.image_mask) == (224, 32, "none")
        assert (first.batch_size, first.num_steps, last.num_steps) == (32768, 78_197, 4000)
        assert (first.learning_rate, last.learning_rate) == pytest.approx((8e-6 * 128, 8e-7 * 128))
        assert (first.warmup_samples, last.warmup_samples) == (1600 * 32768, 800 * 32768)
        assert (recipe.optimizer.eps, recipe.optimizer.decay, first.jitter.probability) == (1e-8, "kernels", 0)
    for size in ("s16", "b16", "l16"):
        for res in (64, 96, 112, 160, 224):
            tokens = (res // 16) ** 2 + 1
            assert recipes[f"{size}_i{tokens}_resize_t32_truncate"].stages[0].budget.res == res
        for tokens in (101, 50, 37, 17):
            masks = {"random", "block", *(["grid"] if tokens != 101 else [])}
            assert all(f"{size}_i{tokens}_{mask}_t32_truncate" in recipes for mask in masks)
        texts = [f"t{t}_{mask}" for t in (4, 8, 16, 32) for mask in ("truncate", "random", "block", "syntax")]
        assert all(f"{size}_i50_resize_{text}" in recipes for text in texts)
    # 5 + 12 image cells, 16 text cells of which one is an image cell, for three sizes; two of the released pairs.
    assert len(recipes) == 3 * (17 + 15) + 2


def test_a_cell_is_loaded_by_name_and_reads_back(tmp_path: Path) -> None:
    recipe = load_recipe("clipa_v1_study:l16_i17_resize_t32_truncate", ["stages.0.budget.text_tokens=16", "seed=3"])
    assert (recipe.name, recipe.seed) == ("clipa_v1_study:l16_i17_resize_t32_truncate", 3)
    assert (recipe.stages[0].budget.res, recipe.stages[0].budget.text_tokens) == (64, 16)
    (tmp_path / "copy.toml").write_text(to_toml(recipe))
    assert load_recipe(str(tmp_path / "copy.toml")) == recipe
    assert shipped_sweeps() == ["cc3m_study", "clipa_v1_study", "laptop_study"]


SWEEP = """
cells = "{size}_{seed}"
base = "demo"
[axes.size]
small = ["model.vision.width=64", "model.vision.num_heads=2"]
large = ["model.vision.width=256"]
[axes.seed]
s0 = ["seed=0"]
s1 = ["seed=1"]
[[tables]]
name = "sizes"
cross = { size = "all", seed = ["s1"] }
[[tables]]
name = "seeds"
list = [{ size = "small", seed = "s1" }, { size = "small", seed = "s0" }]
"""


def test_a_sweep_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.sweep.toml"
    path.write_text(SWEEP)
    sweep = load_sweep(str(path))
    names = {table: [cell.name for cell in cells] for table, cells in sweep.tables.items()}
    assert names == {"sizes": ["small_s1", "large_s1"], "seeds": ["small_s1", "small_s0"]}
    assert [cell.name for cell in sweep.cells] == ["small_s1", "large_s1", "small_s0"]
    assert sweep.cells[1].labels == {"size": "large", "seed": "s1"}
    recipe = load_recipe(f"{path.with_name('mine')}:large_s1")
    assert (recipe.model.vision.width, recipe.seed, recipe.stages) == (256, 1, load_recipe("demo").stages)
    # One cell's overrides do not reach another's.
    assert sweep.recipe("small_s0").model.vision.width == 64
    assert sweep.recipe("small_s0").seed == 0


MISTAKES = [
    ('base = "demo"', 'base = "demmo"', "demmo", "Shipped recipes"),
    ('base = "demo"', "bass = 1", "bass", "Did you mean base"),
    ('"{size}_{seed}"', '"{size}"', "cells", "each axis once"),
    ('"{size}_{seed}"', "3", "cells", "wanted a text"),
    ('seed = ["s1"]', 'seed = ["s2"]', "tables.0.cross.seed", "Known: s0, s1"),
    ('seed = ["s1"]', "seed = 1", "tables.0.cross.seed", "list of labels"),
    ('size = "all", seed', 'sise = "all", seed', "tables.0.cross.sise", "Did you mean size"),
    ('cross = { size = "all", seed = ["s1"] }', "", "tables.0", "cross or list"),
    ('size = "small", seed = "s0"', 'size = "small"', "tables.1.list.1.seed", "no label is called None"),
    ('name = "seeds"', 'name = "sizes"', "tables.1.name", "already"),
    ('s0 = ["seed=0"]', "s0 = 0", "axes.seed.s0", "list of overrides"),
    ('s0 = ["seed=0"]', '"s 0" = ["seed=0"]', "axes.seed.s 0", "letters"),
]


@pytest.mark.parametrize(("old", "new", "place", "says"), MISTAKES)
def test_a_mistake_in_a_sweep_names_its_place(old: str, new: str, place: str, says: str, tmp_path: Path) -> None:
    assert old in SWEEP
    path = tmp_path / "mine.sweep.toml"
    path.write_text(SWEEP.replace(old, new))
    with pytest.raises(UserError) as error:
        load_sweep(str(path))
    assert place in error.value.place
    assert says in str(error.value)


def test_a_wrong_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.sweep.toml"
    path.write_text(SWEEP.replace("model.vision.width=256", "model.vision.widht=256").replace("{size}_", "{size}"))
    sweep = load_sweep(str(path))
    with pytest.raises(UserError, match=r"mine:larges1, model.vision.widht: unknown key"):
        sweep.recipe("larges1")
    with pytest.raises(UserError, match="Did you mean larges1"):
        sweep.recipe("lagres1")
    with pytest.raises(UserError, match="wanted a sweep"):
        load_recipe("no_such_sweep:cell")
    path.write_text(SWEEP.replace("small =", "s =").replace("large =", "ss =").replace("{size}_{seed}", "{seed}{size}"))
    with pytest.raises(UserError, match="no label is called 'small'"):
        load_sweep(str(path))
