"""One model at every token budget that it was trained at, its weights handed over as between stages."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipelines.contract import TokenBudget
from train.checkpoint import LoadedModel, stage_at


def budgets_of(loaded: LoadedModel) -> list[TokenBudget]:
    """The budgets of the stages as far as the checkpoint's own, each (res, text tokens) once, in their order."""
    last = loaded.recipe.stages.index(stage_at(loaded.recipe, loaded.samples_seen))
    found = {(s.budget.res, s.budget.text_tokens): s.budget for s in loaded.recipe.stages[: last + 1]}
    return list(found.values())


@contextmanager
def at_budget(loaded: LoadedModel, budget: TokenBudget) -> Iterator[None]:
    """Have the model fitted to another budget, as a next stage of its own kind would; afterwards it is what it was.

    Image positions are recomputed or resized as its stage has them, text positions interpolated.
    """
    model = loaded.model
    positions = stage_at(loaded.recipe, loaded.samples_seen).image_positions
    assert model.vision.pos_embed is not None
    kept = model.vision.pos_embed.detach().clone(), model.text.positions.detach().clone()
    try:
        model.set_budget(budget, positions)
        yield
    finally:
        model.set_budget(loaded.budget, positions)
        with torch.no_grad():
            model.vision.pos_embed.copy_(kept[0])
            model.text.positions.copy_(kept[1])
