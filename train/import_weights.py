"""Begin a run with open_clip's weights: to evaluate them, to fine-tune them, or to export them to another library.

    python -m train.import_weights open_clip_pytorch_model.bin h14_v2 --res 224 --text-tokens 32 --out run/
    python -m train.import_weights open_clip_pytorch_model.bin my_recipe.toml --out run/

WEIGHTS is a checkpoint of open_clip's or of CLIPA's (.safetensors, .pt, .pth, .bin), or a folder with an
open_clip_config.json. What it is of is said by the second argument:

    a recipe      its model; res and text tokens are those of its first stage, and `train.run RECIPE --store STORE
                  --out run/` goes on from the weights, at the first stage, with the optimizer fresh
    a model       one of train.models, or a configuration that open_clip brings (ViT-B-16) or that is a JSON file

CLIPA-v2's weights were trained as h14_v2 and so on; open_clip's ViT-H-14-CLIPA has another GELU and another epsilon.
Positions are carried to another res and number of text tokens as open_clip does; image positions that are the model's
own sin-cos are computed anew instead, as in CLIPA's JAX code. The run folder holds recipe.toml, the weights as a
checkpoint of 0 samples, and import.json, which says where they came from.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from pipelines.contract import TokenBudget
from prep.errors import UserError, run_main
from prep.files import folder_written_aside, hash_file, write_json, written_aside
from train import checkpoint
from train.checkpoint import State
from train.config import load_recipe, shipped_recipes, to_toml
from train.model import CLIP
from train.model_config import ModelConfig
from train.models import MODELS
from train.open_clip_config import config_of, shipped_config
from train.open_clip_weights import Tensors, from_open_clip, load_into, own_budget, read_open_clip
from train.positions import sincos_2d
from train.recipe import Recipe, Stage, check

CONFIG_FILE = "open_clip_config.json"
_WEIGHT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
# Sin-cos values of 16 bits are off by 2^-9 at most.
_SAME_POSITIONS = 2**-8


def find_weights(path: Path) -> tuple[Path, ModelConfig | None]:
    """The file of a path, and the model of its folder where that says it. Raises `UserError` when there is none."""
    if not path.is_dir():
        if not path.is_file():
            raise UserError(str(path), "wanted a file of weights; there is none", "Check the path.")
        return path, None
    for name in _WEIGHT_NAMES:
        if (path / name).is_file() and (path / CONFIG_FILE).is_file():
            return path / name, config_of(_read_json(path / CONFIG_FILE), str(path / CONFIG_FILE))
    wanted = f"wanted {CONFIG_FILE} and one of {', '.join(_WEIGHT_NAMES)} in the folder"
    raise UserError(str(path), wanted, "Name the file of weights, and the model.")


def find_model(name: str) -> ModelConfig | None:
    """A model by name: of train.models, of open_clip's configurations, or its JSON file; None: there is no such one."""
    if name in MODELS:
        return MODELS[name]
    if name.endswith(".json") and Path(name).is_file():
        return config_of(_read_json(Path(name)), name)
    shipped = shipped_config(name)
    return config_of(shipped, name) if shipped else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(str(path), f"not JSON: {error}", "Restore the file.") from error
    if not isinstance(value, dict):
        raise UserError(str(path), "wanted a JSON object", "Restore the file.")
    return value


def has_sincos(state: Tensors, config: ModelConfig, own: TokenBudget) -> bool:
    """Whether the weights' image positions are those that the model would compute for a fixed table."""
    if config.vision.positions == "learned":
        return False
    vision = config.vision
    grid, num_prefix = own.res // vision.patch_size, int(vision.class_token)
    fixed = sincos_2d(grid, vision.width, vision.positions, num_prefix)
    table = state["vision.pos_embed"]
    return table.shape == fixed.shape and (table - fixed).abs().max().item() <= _SAME_POSITIONS


def recipe_for(name: str, model: ModelConfig, budget: TokenBudget, image_positions: str) -> Recipe:
    """A recipe that says which model the weights are, with a stage to hold their budget; it is not for training."""
    stage = Stage("imported", 2, 2, 1e-6, budget, image_positions=image_positions)
    recipe = Recipe(name, model, (stage,))
    check(recipe, name)
    return recipe


def carried(state: Tensors, recipe: Recipe, place: str) -> CLIP:
    """The model of a recipe's first stage with these weights, positions carried to its budget.

    Raises `UserError` when a tensor does not fit, or when fixed positions would take the place of learned ones.
    """
    config, stage = recipe.model, recipe.stages[0]
    own = own_budget(state, config, place)
    if stage.image_positions == "fixed" and not has_sincos(state, config, own):
        raise UserError(
            f"{recipe.name}, stages.0.image_positions",
            f"fixed would replace the positions of {place}, which are not the model's {config.vision.positions}",
            "Say stages.0.image_positions=learned, or change model.vision.positions.",
        )
    model = CLIP(config, own, "learned", recipe.seed)
    load_into(model, state, place)
    model.set_budget(stage.budget, stage.image_positions)
    return model


def import_weights(
    weights: Path,
    out: Path,
    recipe_or_model: str | None,
    overrides: list[str] | None = None,
    res: int | None = None,
    text_tokens: int | None = None,
) -> Recipe:
    """Write the run folder; the program's work. Returns the recipe that it holds. Raises `UserError`; see above."""
    file, of_folder = find_weights(weights)
    config = of_folder if recipe_or_model is None else find_model(recipe_or_model)
    recipe = None
    if config is None:
        if recipe_or_model is None:
            raise UserError(str(weights), "the file does not say which model it is", f"Name one: {', '.join(MODELS)}.")
        recipe = load_recipe(recipe_or_model, overrides)
        config = recipe.model
        if res or text_tokens:
            problem = "a recipe says them itself, in its first stage"
            raise UserError("--res, --text-tokens", problem, "Leave them out, or override: stages.0.budget.res=224")
    elif overrides:
        raise UserError(overrides[0], "overrides are for recipes, found a model", "Give a recipe.")
    state = from_open_clip(read_open_clip(file), config, str(file))
    own = own_budget(state, config, str(file))
    if recipe is None:
        positions = "fixed" if has_sincos(state, config, own) else "learned"
        budget = TokenBudget(res or own.res, text_tokens or own.text_tokens, "truncate")
        recipe = recipe_for(recipe_or_model or file.stem, config, budget, positions)
    with torch.no_grad(), folder_written_aside(out) as aside:
        model = carried(state, recipe, str(file))
        checkpoint.save(aside, State(0, 0.0, 0.0), model, None)
        told = {"weights": str(file), "xxh3": hash_file(file), "res": own.res, "text_tokens": own.text_tokens}
        write_json(aside / "import.json", told)
        with written_aside(aside / "recipe.toml") as target:
            target.write(to_toml(recipe).encode())
    return recipe


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.import_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("weights", type=Path, metavar="WEIGHTS", help="a file, or a folder with an open_clip_config.json")
    shipped = ", ".join((*shipped_recipes(), *MODELS))
    add("recipe_or_model", nargs="?", metavar="RECIPE_OR_MODEL", help=f"what they are of, one of: {shipped}; or a file")
    add("overrides", nargs="*", metavar="key=value", help="changes to the recipe, such as stages.0.budget.res=224")
    add("--res", type=int, help="pixels of an image's side (default: the weights' own)")
    add("--text-tokens", type=int, help="text tokens of a caption (default: the weights' own)")
    add("--out", type=Path, required=True, metavar="RUN", help="the run folder to make")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_intermixed_args(argv)
    recipe = import_weights(args.weights, args.out, args.recipe_or_model, args.overrides, args.res, args.text_tokens)
    stage = recipe.stages[0]
    print(
        f"Imported into {args.out}: {recipe.name}, {stage.budget.res} px, {stage.budget.text_tokens} text tokens, "
        f"image positions {stage.image_positions}.\nNext: python -m eval.run {args.out} --zeroshot FOLDER_PER_CLASS"
    )


if __name__ == "__main__":
    run_main(main)
