"""TOML into frozen dataclasses, strictly: an unknown key or a wrong type is an error that names its place.

Overrides are `dotted.path=value` with TOML values: `stages.0.budget.res=84`, `name="try 2"`. `to_toml` writes back what
`load_recipe` reads, so the resolved recipe in a run folder is a recipe.
"""

import difflib
import tomllib
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any, get_args, get_origin, get_type_hints

import tomli_w

from prep.errors import UserError
from train.recipe import Recipe, check

RECIPES = Path(__file__).parent / "recipes"


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by its file's path, or by the name of one that ships in train/recipes.

    Raises `UserError` when there is none, or when a key, a type or a number in it is wrong.
    """
    path = _find(name_or_path)
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"not TOML: {error}", "Mend the file at that place.") from error
    for override in overrides or []:
        _override(values, override)
    recipe: Recipe = _build(Recipe, values, path.name, "")
    check(recipe, path.name)
    return recipe


def to_toml(recipe: Recipe) -> str:
    """The recipe with every default written out."""
    return tomli_w.dumps(asdict(recipe))


def shipped_recipes() -> list[str]:
    """Names of the recipes in train/recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _find(name_or_path: str) -> Path:
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
        _table(node, last, text)[last] = _toml_value(value)


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


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _wrong_type(file: str, place: str, wanted: str, value: object) -> UserError:
    return UserError(
        f"{file}, {place}", f"wanted {wanted}, found {type(value).__name__} {value!r}", "Change the value's type."
    )
