"""Recipes: every shipped one loads and reads back; every mistake names its place."""

from pathlib import Path

import pytest

from prep.errors import UserError
from train.config import RECIPES, load_recipe, shipped_recipes, to_toml
from train.recipe import Recipe
from train.schedule import learning_rate


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_reads_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(to_toml(recipe))
    assert load_recipe(str(copy)) == recipe


def test_overrides_reach_into_stages() -> None:
    recipe = load_recipe(
        "demo", ["stages.0.budget.res=64", "stages.1.samples=1_000_000", "name=try 2", "optimizer.betas=[0.9, 0.98]"]
    )
    assert recipe.stages[0].budget.res == 64
    assert recipe.stages[1].samples == 1_000_000
    assert recipe.name == "try 2"
    assert recipe.optimizer.betas == (0.9, 0.98)


MISTAKES = [
    ("stages.0.budget.rez=64", "stages.0.budget.rez", "Did you mean res?"),
    ("stages.0.budget.res=64.5", "stages.0.budget.res", "whole number"),
    ("stages.0.budget.res=true", "stages.0.budget.res", "whole number"),
    ("stages.0.budget.res=36", "stages.0.budget.res", "patch size 8"),
    ("stages.0.budget.text_mask=noun", "stages.0.budget.text_mask", "syntax"),
    ("stages.0.budget.text_tokens=2", "stages.0.budget.text_tokens", "at least 3"),
    ("stages.7.samples=1", "stages.7.samples", "below 2"),
    ("stages=[]", "stages", "at least one stage"),
    ("stages.1.learning_rate=fast", "stages.1.learning_rate", "a number"),
    ("stages.1.warmup_samples=10_000_000", "warmup_samples", "less than the stage's"),
    ("stages.1.augmentation.crop_area=[0.0, 1.0]", "crop_area", "0 < least"),
    ("stages.1.augmentation.crop_area=[0.4]", "crop_area", "a list of 2"),
    ("model.vision.patch_size=0", "model.vision.patch_size", "at least 1"),
    ("model.text.depth=-1", "model.text.depth", "at least 1"),
    ("model.embed_dim=0", "model.embed_dim", "at least 1"),
    ("model.text.mlp_ratio=0", "model.text.mlp_ratio", "at least 1"),
    ("optimizer.betas=[1.5, 0.9]", "optimizer.betas", "less than 1"),
    ("stages.0.learning_rate=inf", "stages.0.learning_rate", "found inf"),
    ("seed=-1", "seed", "found -1"),
    ("model.vision=3", "model.vision", "a table"),
    ("model.vision.num_heads=5", "model.vision", "not a multiple"),
    ("checkpoint_every=30", "checkpoint_every", "multiple of log_every"),
    ("modle.width=1", "modle", "Did you mean model?"),
    ("stages.0.budget.res", "stages.0.budget.res", "wanted an override"),
    ("seed.x=1", "seed.x=1", "single value"),
]


@pytest.mark.parametrize(("override", "place", "says"), MISTAKES)
def test_a_mistake_names_its_place(override: str, place: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("demo", [override])
    assert place in error.value.place
    assert says in str(error.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    lines = (RECIPES / "demo.toml").read_text().splitlines()
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(line for line in lines if not line.startswith("learning_rate")))
    with pytest.raises(UserError, match=r"mine.toml, stages.0.learning_rate: wanted a value"):
        load_recipe(str(path))


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("name = 'x'\nseed = = 3\n")
    with pytest.raises(UserError, match="line 2"):
        load_recipe(str(path))


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match="demo"):
        load_recipe("no_such_recipe")


def test_stages_count_in_whole_batches() -> None:
    recipe: Recipe = load_recipe(
        "demo", ["stages.0.samples=1000", "stages.0.batch_size=256", "stages.0.warmup_samples=0"]
    )
    assert recipe.stages[0].num_steps == 4
    assert recipe.stages[0].num_samples == 1024
    assert recipe.stage_start(1) == 1024
    assert [recipe.stage_of(seen) for seen in (0, 1023, 1024, recipe.num_samples)] == [0, 0, 1, 2]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    stage = load_recipe("demo").stages[0]
    rates = [learning_rate(stage, step * stage.batch_size) for step in range(stage.num_steps + 1)]
    peak = rates.index(max(rates))
    assert rates[0] == pytest.approx(stage.learning_rate * stage.batch_size / stage.warmup_samples)
    assert max(rates) <= stage.learning_rate
    assert max(rates) > 0.999 * stage.learning_rate
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
