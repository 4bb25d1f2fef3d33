"""What CLIPA's models took, as published, beside what is predicted from one constant: `train.plan --published`.

The constant is `train.hardware.PUBLISHED_EFFICIENCY`, of `train.step_time`; `fit` finds the one whose largest relative
error over all rows is least. Beside it stands the simpler rule, hours from FLOPs at one MFU, fitted in the same way.
All are taken to run with activation checkpointing, as CLIPA's scripts do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from train.config import load_recipe
from train.hardware import HARDWARE
from train.recipe import Recipe
from train.step_time import sample_seconds

STATED_ERROR = 0.13
"""Within which `train.plan` meets every row of PUBLISHED."""
STATED_MFU_ERROR = 0.22
"""The same of hours from FLOPs at one MFU."""


@dataclass(frozen=True, slots=True)
class Published:
    """A model: the first `num_stages` stages of the recipe that ships for it, and its hours on one A100."""

    recipe: str
    num_stages: int
    gpu_hours: float
    source: str


_V1 = "a secondary source of arXiv 2305.07017 (CLIPA's README: about 2, 3 and 4 days of 8)"
_V2 = "arXiv 2306.15658, table 4"
PUBLISHED = (
    Published("b16_i50_t16", 2, 444, _V1),
    Published("l16_i17_t16", 2, 628, _V1),
    Published("l16_i37_t8", 2, 826, _V1),
    Published("l14_i36_t8_v2", 2, 4_008, _V2),
    Published("l14_i36_t8_v2", 3, 4_520, _V2),
    Published("h14_i25_t8_v2", 2, 5_920, _V2),
    Published("h14_i36_t8_v2", 2, 7_776, _V2),
    Published("h14_i36_t8_v2", 3, 8_640, _V2),
    Published("bigg14_i36_t8_v2", 2, 21_998, "CLIPA's README"),
    Published("bigg14_i36_t8_v2", 3, 23_742, "CLIPA's README"),
)


def predicted_hours(recipe: Recipe, num_stages: int, efficiency: float) -> float:
    """A100-hours of a recipe's first stages."""
    a100 = replace(HARDWARE["a100"], efficiency=efficiency)
    stages = recipe.stages[:num_stages]
    return sum(stage.num_samples * sample_seconds(recipe.model, stage.budget, a100, True) for stage in stages) / 3600


def hours_at_mfu(recipe: Recipe, num_stages: int, mfu: float) -> float:
    """The same from useful FLOPs and an MFU alone."""
    stages = recipe.stages[:num_stages]
    return (
        sum(s.num_samples * sample_seconds(recipe.model, s.budget, HARDWARE["a100"], True, mfu) for s in stages) / 3600
    )


def fit(hours: Callable[[Recipe, int, float], float] = predicted_hours) -> tuple[float, float]:
    """The constant of `predicted_hours` or `hours_at_mfu` with the least largest error over PUBLISHED, and that error.

    Hours fall as 1 / constant, so the largest and the smallest ratio of predicted to published are to lie equally far
    from 1.
    """
    ratios = [hours(load_recipe(row.recipe), row.num_stages, 1.0) / row.gpu_hours for row in PUBLISHED]
    constant = (max(ratios) + min(ratios)) / 2
    return constant, max(ratios) / constant - 1
