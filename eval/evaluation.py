"""What to evaluate a model on, and how: what `eval.run` asks of one checkpoint, and `eval.watch` of every one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from eval import retrieval, zeroshot
from eval.budgets import at_budget, budgets_of
from eval.captioned import CaptionedSet, CaptionedSource, open_captioned
from eval.class_names import find_classes
from eval.features import model_key
from eval.labelled import LabelledSet, open_labelled
from eval.preprocess import check_kind, kind_of
from eval.retrieval import RetrievalResult
from eval.templates import find_templates
from eval.zeroshot import ZeroShotResult
from pipelines.contract import TokenBudget
from pipelines.store_view import ImageView
from prep.errors import UserError
from prep.store import open_store, parse_manifest
from train.checkpoint import LoadedModel
from train.machine import check_device


@dataclass(frozen=True, slots=True)
class OpenedData:
    """What an `Evaluation` asks of, listed: labelled sets in its order, and the retrieval set where there is one."""

    labelled: tuple[LabelledSet, ...]
    captioned: CaptionedSet | None = None

    @property
    def fingerprints(self) -> list[str]:
        """Of each set, as hex digits: they differ where its images, labels or captions do."""
        found = [opened.fingerprint for opened in self.labelled]
        return [*found, self.captioned.fingerprint] if self.captioned is not None else found


@dataclass(frozen=True, slots=True)
class Evaluation:
    """zeroshot_dirs: a labelled set each. retrieval_store: held-out pairs; a path alone: all captions there. templates:
    one of eval.templates.

    batch_size: images, or pairs, at a time. device: where the model runs. ema: the averaged weights, not the last.
    classes: a list of eval.class_names or a file, for all sets; None: the sets' own. preprocess: one of
    eval.preprocess.KINDS; None: the model's own. cache: a folder for features; None: none are kept. each_budget: judge
    at each (res, text tokens) of the model's stages too.
    """

    zeroshot_dirs: tuple[Path, ...] = ()
    retrieval_store: Path | CaptionedSource | None = None
    templates: str = "simple"
    batch_size: int = 128
    device: str = "cpu"
    ema: bool = False
    classes: str | None = None
    preprocess: str | None = None
    cache: Path | None = None
    each_budget: bool = False

    @property
    def retrieval(self) -> CaptionedSource | None:
        """The retrieval set, with what was said about it."""
        given = self.retrieval_store
        return CaptionedSource(given) if isinstance(given, Path) else given

    def check_machine(self) -> None:
        """Raise `UserError` for an unknown list of templates or preprocessing, or a device that torch cannot use."""
        check_device(self.device)
        find_templates(self.templates)
        check_kind(self.preprocess)

    def open_data(self) -> OpenedData:
        """The sets, listed.

        Raises `UserError` when there is nothing to evaluate on, or a labelled set or the store is none.
        """
        if not self.zeroshot_dirs and self.retrieval_store is None:
            problem = "wanted something to evaluate on, found nothing"
            raise UserError("eval.run", problem, "Give --zeroshot or --retrieval.")
        classes = find_classes(self.classes) if self.classes is not None else None
        labelled = tuple(open_labelled(path, classes) for path in self.zeroshot_dirs)
        return OpenedData(labelled, open_captioned(self.retrieval) if self.retrieval is not None else None)

    def check_run(self, run: Path, resolutions: Iterable[int]) -> None:
        """Raise `UserError` when the store lacks one of the resolutions, or the token ids that the run learned."""
        if self.retrieval is None or not self.retrieval.is_store:
            return
        store = open_store(self.retrieval.path)
        for res in resolutions:
            ImageView(store, res)
        kept, found = run / "manifest.json", store.manifest.tokenizer
        # Imported weights that were not trained on have none.
        trained = parse_manifest(kept).tokenizer if kept.exists() else found
        if trained != found:
            problem = f"wanted the token ids that the run was trained on ({trained}), found those of {found}"
            remedy = "Build the store again with the run's version of this project."
            raise UserError(str(self.retrieval.path), problem, remedy)

    def of(self, loaded: LoadedModel, data: OpenedData) -> tuple[list[ZeroShotResult], RetrievalResult | None]:
        """Every answer of a model: a result for each labelled set, and the retrieval set's where there is one."""
        key = model_key(loaded, ema=self.ema) if self.cache is not None else ""
        classified = [self._classified(loaded, opened, loaded.budget, key) for opened in data.labelled]
        if self.each_budget:
            classified = [
                replace(result, at_budgets=tuple(self._at_budgets(loaded, opened, result, key)))
                for opened, result in zip(data.labelled, classified, strict=True)
            ]
        if self.retrieval is None:
            return classified, None
        text = loaded.recipe.model.text
        found = retrieval.evaluate(
            *(loaded.model, loaded.budget, self.retrieval, self.batch_size, self.device),
            tokenizer=text.tokenizer,
            end_token=text.end_token,
            kind=self.preprocess or kind_of(loaded.recipe.model),
            opened=data.captioned,
            cache=self.cache,
            model_key=key,
        )
        return classified, found

    def _classified(self, loaded: LoadedModel, opened: LabelledSet, budget: TokenBudget, key: str) -> ZeroShotResult:
        text = loaded.recipe.model.text
        return zeroshot.evaluate(
            *(loaded.model, budget, opened, self.templates, self.batch_size, self.device),
            tokenizer=text.tokenizer,
            end_token=text.end_token,
            preprocess=self.preprocess or kind_of(loaded.recipe.model),
            cache=self.cache,
            model_key=key,
        )

    def _at_budgets(
        self, loaded: LoadedModel, opened: LabelledSet, result: ZeroShotResult, key: str
    ) -> Iterable[zeroshot.BudgetScore]:
        for budget in budgets_of(loaded):
            if (budget.res, budget.text_tokens) == (result.res, result.text_tokens):
                yield result.at_budget()
                continue
            with at_budget(loaded, budget):
                yield self._classified(loaded, opened, budget, key).at_budget()
