"""Many recipes in one file: a base recipe, axes of named changes, and the tables of cells that are asked for.

    cells = "{size}_{tokens}"           # a cell's name, from its labels; every axis in it
    base = "demo"                       # a recipe by name or path (from here or from beside this file); or [base] ...

    [axes.size]                         # label = the overrides that it means, as on a command line
    small = ["model.vision.width=64"]
    large = ["model.vision.width=128"]
    [axes.tokens]
    i16 = ["stages.0.budget.res=32"]
    i64 = ["stages.0.budget.res=64"]

    [[tables]]
    name = "all sizes at all lengths"   # what a figure or a table shows
    cross = { size = "all", tokens = ["i16", "i64"] }
    [[tables]]
    name = "one more"
    list = [{ size = "small", tokens = "i64" }]

`cross` takes every combination; "all" is every label of the axis. A cell that stands in several tables is one cell. Its
recipe is the base with the overrides of its labels, axis by axis in the file's order, and is called FILE:CELL, by which
`train.config.load_recipe` finds it: `train.run my_study:small_i64 ...`. Files end in `.sweep.toml`.
"""

import copy
import difflib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.errors import UserError
from train.config import RECIPES, SWEEP_SUFFIX, find_recipe, make_recipe, read_toml
from train.recipe import Recipe

_KEYS = ("cells", "base", "axes", "tables")


@dataclass(frozen=True, slots=True)
class Cell:
    """One recipe of a sweep. labels: {axis: label}. overrides: of the base, in order."""

    name: str
    labels: dict[str, str]
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep file. base: a recipe's tables. axes: {axis: {label: overrides}}. tables: {name: its cells, in order}."""

    name: str
    base: dict[str, Any]
    axes: dict[str, dict[str, tuple[str, ...]]]
    tables: dict[str, tuple[Cell, ...]]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell once, in the order of the tables."""
        return tuple({cell.name: cell for cells in self.tables.values() for cell in cells}.values())

    def recipe(self, cell: str, overrides: list[str] | None = None) -> Recipe:
        """A cell's recipe, changed further by overrides. Raises `UserError` for an unknown cell or a wrong recipe."""
        cells = {one.name: one for one in self.cells}
        if cell not in cells:
            raise _unknown(f"{self.name}:{cell}", "cell", cell, cells, "train.plan SWEEP --list shows them")
        values = copy.deepcopy(self.base)
        values["name"] = f"{self.name}:{cell}"
        return make_recipe(values, [*cells[cell].overrides, *(overrides or [])], values["name"])


def shipped_sweeps() -> list[str]:
    """Names of the sweeps in train/recipes."""
    return sorted(path.name.removesuffix(SWEEP_SUFFIX) for path in RECIPES.glob(f"*{SWEEP_SUFFIX}"))


def find_sweep(name_or_path: str) -> Path | None:
    """A sweep's file, by its path or the name of one that ships; None when there is none."""
    for path in (Path(name_or_path), Path(name_or_path + SWEEP_SUFFIX), RECIPES / f"{name_or_path}{SWEEP_SUFFIX}"):
        if path.name.endswith(SWEEP_SUFFIX) and path.is_file():
            return path
    return None


def load_sweep(name_or_path: str) -> Sweep:
    """A sweep by its path or by name. Raises `UserError` when there is none, or naming what is wrong in it."""
    path = find_sweep(name_or_path)
    if path is None:
        problem = f"wanted a sweep: a file *{SWEEP_SUFFIX}, or the name of one that ships; found neither"
        raise UserError(name_or_path, problem, f"Shipped sweeps: {', '.join(shipped_sweeps())}.")
    values = read_toml(path)
    for key in values:
        if key not in _KEYS:
            raise _unknown(f"{path.name}, {key}", "key", key, _KEYS)
    pattern = _typed(values, "cells", str, path.name)
    axes = _axes(_typed(values, "axes", dict, path.name), path.name)
    in_pattern = re.findall(r"\{(.*?)\}", pattern)
    if sorted(in_pattern) != sorted(axes):
        problem = f"wanted each axis once ({', '.join(axes)}), found {pattern!r}"
        raise UserError(f"{path.name}, cells", problem, "A cell's name is made of its labels.")
    tables: dict[str, tuple[Cell, ...]] = {}
    for number, table in enumerate(_typed(values, "tables", list, path.name)):
        place = f"{path.name}, tables.{number}"
        name = _typed(table, "name", str, place)
        if name in tables:
            raise UserError(f"{place}.name", f"a table is called {name!r} already", "Give it another name.")
        rows = _rows(table, axes, place)
        tables[name] = tuple(
            Cell(pattern.format(**row), row, tuple(o for axis in axes for o in axes[axis][row[axis]])) for row in rows
        )
    sweep = Sweep(path.name.removesuffix(SWEEP_SUFFIX), _base(values, path), axes, tables)
    _check_names(sweep, path.name)
    return sweep


def _check_names(sweep: Sweep, place: str) -> None:
    labels: dict[str, dict[str, str]] = {}
    for cell in (cell for cells in sweep.tables.values() for cell in cells):
        if labels.setdefault(cell.name, cell.labels) != cell.labels:
            problem = f"{cell.name} is the name of two cells, {labels[cell.name]} and {cell.labels}"
            raise UserError(f"{place}, cells", problem, "Put something between the axes, or rename labels.")


def _base(values: dict[str, Any], path: Path) -> dict[str, Any]:
    base = values.get("base")
    if isinstance(base, str):
        beside = path.parent / base
        return read_toml(beside if beside.is_file() else find_recipe(base))
    return dict(_typed(values, "base", dict, path.name))


def _axes(tables: dict[str, Any], place: str) -> dict[str, dict[str, tuple[str, ...]]]:
    axes: dict[str, dict[str, tuple[str, ...]]] = {}
    for axis, labels in tables.items():
        if not isinstance(labels, dict) or not labels:
            raise UserError(f"{place}, axes.{axis}", "wanted a table of labels", 'Write label = ["key=value"].')
        for label, overrides in labels.items():
            where = f"{place}, axes.{axis}.{label}"
            if not re.fullmatch(r"[\w.+-]+", label):
                raise UserError(where, "a label becomes part of a name", "Use letters, digits and . + - _ only.")
            if not isinstance(overrides, list) or not all(isinstance(one, str) and "=" in one for one in overrides):
                raise UserError(where, f"wanted a list of overrides, found {overrides!r}", 'Write ["key=value"].')
        axes[axis] = {label: tuple(overrides) for label, overrides in labels.items()}
    return axes


def _rows(table: dict[str, Any], axes: dict[str, dict[str, tuple[str, ...]]], place: str) -> list[dict[str, str]]:
    """The cells of a table as {axis: label}."""
    for key in table:
        if key not in ("name", "cross", "list"):
            raise _unknown(f"{place}.{key}", "key", key, ("name", "cross", "list"))
    if ("cross" in table) == ("list" in table):
        raise UserError(place, "wanted cross or list, and not both", "Give one of the two.")
    if "list" in table:
        rows: list[dict[str, str]] = _typed(table, "list", list, place)
        for number, row in enumerate(rows):
            _check_row(row, axes, f"{place}.list.{number}")
        return rows
    cross = _typed(table, "cross", dict, place)
    for axis in cross:
        if axis not in axes:
            raise _unknown(f"{place}.cross.{axis}", "axis", axis, axes)
    choices = {axis: list(axes[axis]) if cross.get(axis) == "all" else cross.get(axis) for axis in axes}
    for axis, labels in choices.items():
        if not isinstance(labels, list) or not labels:
            problem = f'wanted a list of labels or "all", found {labels!r}'
            raise UserError(f"{place}.cross.{axis}", problem, f"Known: {', '.join(axes[axis])}.")
    rows = [dict(zip(axes, labels, strict=True)) for labels in itertools.product(*choices.values())]
    for row in rows:
        _check_row(row, axes, f"{place}.cross")
    return rows


def _check_row(row: object, axes: dict[str, dict[str, tuple[str, ...]]], place: str) -> None:
    if not isinstance(row, dict):
        raise UserError(place, f"wanted a table of axes and labels, found {row!r}", 'Write { axis = "label" }.')
    for axis in row:
        if axis not in axes:
            raise _unknown(f"{place}.{axis}", "axis", axis, axes)
    for axis, labels in axes.items():
        if row.get(axis) not in labels:
            raise _unknown(f"{place}.{axis}", "label", row.get(axis), labels)


def _typed(values: object, key: str, kind: type, place: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(place, f"wanted a table, found {values!r}", "Write [[tables]].")
    if not isinstance(values.get(key), kind):
        wanted = {"str": "a text", "dict": "a table", "list": "a list"}[kind.__name__]
        raise UserError(f"{place}, {key}", f"wanted {wanted}, found {values.get(key)!r}", "See train/sweep.py.")
    return values[key]


def _unknown(place: str, noun: str, value: object, known: Iterable[str], where: str | None = None) -> UserError:
    close = difflib.get_close_matches(str(value), list(known), 1)
    remedy = f"Did you mean {close[0]}?" if close else f"Known: {where or ', '.join(known)}."
    return UserError(place, f"no {noun} is called {value!r}", remedy)
