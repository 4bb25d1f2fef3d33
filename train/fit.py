"""Whether stores can serve a recipe: said before a run begins, naming the stage and what to build."""

import torch

from pipelines.mixture import Mixture
from pipelines.store_view import ImageView, TextView
from prep.errors import UserError
from prep.store import CONTEXT_LENGTH, Store
from train.model import CLIP
from train.recipe import Recipe


def check_fit(recipe: Recipe, stores: tuple[Store, ...], world: int = 1) -> None:
    """Refuse stores and a number of ranks that cannot serve the recipe.

    Raises `UserError` naming the stage and what to do.
    """
    num_samples = sum(store.manifest.num_samples for store in stores)
    Mixture(tuple(store.manifest.num_samples for store in stores), recipe.weights, recipe.seed)
    for store in stores:
        _check_columns(recipe, store)
    if any(stage.frozen for stage in recipe.stages):
        _check_frozen(recipe)
    for number, stage in enumerate(recipe.stages):
        for store, weight in zip(stores, recipe.weights, strict=False):
            share = -(-stage.batch_size * weight // sum(recipe.weights))
            if share > store.manifest.num_samples:
                raise UserError(
                    f"{recipe.name}, stages.{number}.batch_size",
                    f"a batch has {share:,} samples of {store.path} and would repeat some: it has "
                    f"{store.manifest.num_samples:,}",
                    "Use a smaller batch or other weights.",
                )
        if stage.batch_size % world:
            raise UserError(
                f"{recipe.name}, stages.{number}.batch_size",
                f"wanted a multiple of the {world} ranks, found {stage.batch_size:,}",
                "Change it, or the number of processes.",
            )
        if stage.batch_size > num_samples:
            raise UserError(
                f"{recipe.name}, stages.{number}.batch_size",
                f"a batch of {stage.batch_size:,} would repeat samples: the store has {num_samples:,}",
                "Use a smaller batch or more data.",
            )


def _check_columns(recipe: Recipe, store: Store) -> None:
    for number, stage in enumerate(recipe.stages):
        place = f"{recipe.name}, stages.{number}"
        text = recipe.model.text
        view = TextView(store, recipe.captions, tokenizer=text.tokenizer, text_mask=stage.budget.text_mask)
        # Tokenizers are named by their kind and the number of their ids: clip-bpe-49408.
        name = view.vocabulary["name"]
        if not name.startswith(f"{text.tokenizer}-") or int(name.rpartition("-")[2]) > text.vocabulary_size:
            raise UserError(
                str(store.path),
                f"wanted token ids of {text.tokenizer} for {text.vocabulary_size:,} embeddings, found those of {name}",
                f"Add them: prep.build --tokenizer {text.tokenizer}; or change model.text.vocabulary_size.",
            )
        try:
            ImageView(store, stage.budget.res, stage.crops == "bank")
        except UserError as error:
            raise UserError(f"{place}.budget.res", error.problem, error.remedy) from error
        if stage.budget.text_tokens > CONTEXT_LENGTH:
            raise UserError(
                f"{place}.budget.text_tokens",
                f"wanted {stage.budget.text_tokens}, but the store holds {CONTEXT_LENGTH} tokens a caption",
                "Use fewer.",
            )


def _check_frozen(recipe: Recipe) -> None:
    stages = recipe.stages
    with torch.device("meta"):
        model = CLIP(recipe.model, stages[0].budget, stages[0].image_positions)
    for number, stage in enumerate(stages):
        place = f"{recipe.name}, stages.{number}.frozen"
        try:
            model.freeze(stage.frozen)
        except UserError as error:
            raise UserError(place, error.problem, error.remedy) from error
        if all(name.startswith(stage.frozen) for name, _ in model.named_parameters()):
            raise UserError(place, "nothing is left to train", "Freeze less.")
