"""TOML into frozen dataclasses, strictly: an unknown key or a wrong type is an error that names its place.

Overrides are `dotted.path=value` with TOML values: `stages.0.budget.res=84`, `name="try 2"`. `to_toml` writes back what
`load_recipe` reads, so the resolved recipe in a run folder is a recipe. A budget's text mask may be said in open_clip's
words too: `reduction_mask = "simple"`.
"""

import difflib
import tomllib
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tomli_w

from pipelines.contract import TokenBudget
from prep.errors import UserError
from prep.text_masks import TEXT_MASKS, text_mask_of
from train.models import MODELS
from train.recipe import Recipe, check

RECIPES = Path(__file__).parent / "recipes"
SWEEP_SUFFIX = ".sweep.toml"
"""What the name of a file with many recipes ends in; `train.sweep` reads it."""
T = TypeVar("T")


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by its file's path, by the name of one that ships in train/recipes, or SWEEP:CELL (see `train.sweep`).

    Raises `UserError` when there is none, or when a key, a type or a number in it is wrong.
    """
    sweep, colon, cell = name_or_path.rpartition(":")
    if colon and not Path(name_or_path).is_file():
        from train.sweep import load_sweep

        return load_sweep(sweep).recipe(cell, overrides)
    path = find_recipe(name_or_path)
    return make_recipe(read_toml(path), overrides or [], path.name)


def make_recipe(values: dict[str, Any], overrides: list[str], place: str) -> Recipe:
    """The recipe of a file's tables, which the overrides change. Raises `UserError` naming the place."""
    if isinstance(values.get("model"), str):
        # Spelled out, so that an override can reach into it.
        values["model"] = _named_model(values["model"], place)
    for override in overrides:
        _override(values, override)
    recipe: Recipe = _build(Recipe, values, place, "")
    check(recipe, place)
    return recipe


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `UserError` when it is none."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"not TOML: {error}", "Mend the file at that place.") from error


def from_table(kind: type[T], values: dict[str, Any], place: str) -> T:
    """A frozen dataclass out of a parsed table, strictly, for files of other floors; raises `UserError` likewise."""
    built: T = _build(kind, values, place, "")
    return built


def _named_model(name: str, place: str) -> dict[str, Any]:
    if name not in MODELS:
        known = f"Known: {', '.join(MODELS)}; or a table."
        raise UserError(f"{place}, model", f"no model is called {name!r}", known)
    return asdict(MODELS[name])


def to_toml(recipe: Recipe) -> str:
    """The recipe with every default written out."""
    return tomli_w.dumps(asdict(recipe))


def shipped_recipes() -> list[str]:
    """Names of the recipes in train/recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml") if not path.name.endswith(SWEEP_SUFFIX))


def find_recipe(name_or_path: str) -> Path:
    """A recipe's file, by its path or the name of one that ships. Raises `UserError` when there is none."""
    for path in (Path(name_or_path), RECIPES / f"{name_or_path}.toml"):
        if path.is_file():
            return path
    raise UserError(
        name_or_path,
        "wanted a recipe: a TOML file, or the name of one that ships; found neither",
        f"Shipped recipes: {', '.join(shipped_recipes())}.",
    )


def _override(values: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise UserError(text, "wanted an override like stages.0.budget.res=84", "Write key=value without spaces.")
    node: Any = values
    for step in steps[:-1]:
        node = _item(node, step, text) if isinstance(node, list) else _table(node, step, text).setdefault(step, {})
    last = steps[-1]
    if isinstance(node, list):
        _item(node, last, text)
        node[int(last)] = _toml_value(value)
    else:
        table = _table(node, last, text)
        table[last] = _toml_value(value)
        if path.strip() == "model" and not isinstance(table[last], dict):
            table[last] = _named_model(str(table[last]), text)


def _table(node: Any, step: str, text: str) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise UserError(text, f"{step} lies inside a single value", "Shorten the path.")
    return node


def _item(node: list[Any], step: str, text: str) -> Any:
    if not step.isdigit() or int(step) >= len(node):
        raise UserError(text, f"wanted a number below {len(node)}, found {step!r}", "Stages count from 0.")
    return node[int(step)]


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: Any, value: object, file: str, place: str) -> Any:
    """Turn a parsed TOML value into `kind`: a dataclass, a table or a tuple of one kind, or a scalar."""
    if is_dataclass(kind):
        return _build_dataclass(kind, value, file, place)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise _wrong_type(file, place, "a table", value)
        return {key: _build(get_args(kind)[1], item, file, _join(place, key)) for key, item in value.items()}
    if get_origin(kind) is tuple or isinstance(kind, GenericAlias):
        kinds = get_args(kind)
        if not isinstance(value, list) or (kinds[-1] is not Ellipsis and len(value) != len(kinds)):
            wanted = "a list" if kinds[-1] is Ellipsis else f"a list of {len(kinds)}"
            raise _wrong_type(file, place, wanted, value)
        item_kinds = [kinds[0]] * len(value) if kinds[-1] is Ellipsis else kinds
        pairs = enumerate(zip(item_kinds, value, strict=True))
        return tuple(_build(item_kind, item, file, f"{place}.{i}") for i, (item_kind, item) in pairs)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise _wrong_type(
            file, place, {"int": "a whole number", "float": "a number"}.get(kind.__name__, kind.__name__), value
        )
    return value


def _build_dataclass(kind: Any, value: object, file: str, place: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong_type(file, place, "a table", value)
    if kind is TokenBudget:
        value = _our_words(value, f"{file}, {place}")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for key in value:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            remedy = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known)}."
            raise UserError(f"{file}, {_join(place, key)}", "unknown key", remedy)
    for name, field_ in known.items():
        if name not in value and field_.default is MISSING and field_.default_factory is MISSING:
            raise UserError(f"{file}, {_join(place, name)}", "wanted a value, found none", "Add the key.")
    return kind(**{key: _build(hints[key], item, file, _join(place, key)) for key, item in value.items()})


def _our_words(budget: dict[str, Any], place: str) -> dict[str, Any]:
    """A budget with `text_mask` in our words, where it was said in the reference's."""
    said = [key for key in ("text_mask", "reduction_mask") if key in budget]
    if len(said) == 2:
        raise UserError(f"{place}.reduction_mask", "a budget has one text mask; text_mask is there too", "Remove one.")
    if not said or not isinstance(budget[said[0]], str):
        return budget
    if said == ["text_mask"] and budget["text_mask"] in TEXT_MASKS:
        return budget
    kept = {key: value for key, value in budget.items() if key not in said}
    try:
        return kept | {"text_mask": text_mask_of(budget[said[0]])}
    except UserError as error:
        raise UserError(f"{place}.{said[0]}", error.problem, error.remedy) from error


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _wrong_type(file: str, place: str, wanted: str, value: object) -> UserError:
    return UserError(
        f"{file}, {place}", f"wanted {wanted}, found {type(value).__name__} {value!r}", "Change the value's type."
    )
