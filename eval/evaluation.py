"""What to evaluate a model on, and how: what `eval.run` asks of one checkpoint, and `eval.watch` of every one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from eval import retrieval, zeroshot
from eval.class_folder import open_class_folder
from eval.retrieval import RetrievalResult
from eval.templates import find_templates
from eval.zeroshot import ZeroShotResult
from pipelines.store_view import ImageView
from prep.errors import UserError
from prep.store import open_store, parse_manifest
from train.checkpoint import LoadedModel


@dataclass(frozen=True, slots=True)
class Evaluation:
    """zeroshot_dirs: a folder per class each. retrieval_store: held-out pairs. templates: one of eval.templates.

    batch_size: images, or pairs, at a time. device: where the model runs. ema: the averaged weights, not the last.
    """

    zeroshot_dirs: tuple[Path, ...] = ()
    retrieval_store: Path | None = None
    templates: str = "simple"
    batch_size: int = 128
    device: str = "cpu"
    ema: bool = False

    def check_machine(self) -> None:
        """Raise `UserError` for an unknown list of templates, or a device that torch cannot use."""
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            problem = str(error).splitlines()[0]
            place = f"--device {self.device}"
            raise UserError(place, f"torch cannot use it: {problem}", "Choose cpu or cuda.") from error
        find_templates(self.templates)

    def check_data(self) -> None:
        """Raise `UserError` when there is nothing to evaluate on, or a folder or store is none."""
        if not self.zeroshot_dirs and self.retrieval_store is None:
            problem = "wanted something to evaluate on, found nothing"
            raise UserError("eval.run", problem, "Give --zeroshot or --retrieval.")
        for folder in self.zeroshot_dirs:
            open_class_folder(folder)
        if self.retrieval_store is not None:
            open_store(self.retrieval_store)

    def check_run(self, run: Path, resolutions: Iterable[int]) -> None:
        """Raise `UserError` when the store lacks one of the resolutions, or the token ids that the run learned."""
        if self.retrieval_store is None:
            return
        store = open_store(self.retrieval_store)
        for res in resolutions:
            ImageView(store, res)
        kept, found = run / "manifest.json", store.manifest.tokenizer
        # Imported weights that were not trained on have none.
        trained = parse_manifest(kept).tokenizer if kept.exists() else found
        if trained != found:
            problem = f"wanted the token ids that the run was trained on ({trained}), found those of {found}"
            remedy = "Build the store again with the run's version of this project."
            raise UserError(str(self.retrieval_store), problem, remedy)

    def of(self, loaded: LoadedModel) -> tuple[list[ZeroShotResult], RetrievalResult | None]:
        """Every answer of a model: a result a folder, and the store's where there is one."""
        text = loaded.recipe.model.text
        how = (self.batch_size, self.device)
        classified = [
            zeroshot.evaluate(
                *(loaded.model, loaded.budget, folder, self.templates, *how),
                tokenizer=text.tokenizer,
                end_token=text.end_token,
            )
            for folder in self.zeroshot_dirs
        ]
        if self.retrieval_store is None:
            return classified, None
        found = retrieval.evaluate(
            *(loaded.model, loaded.budget, self.retrieval_store, *how),
            tokenizer=text.tokenizer,
            end_token=text.end_token,
        )
        return classified, found
