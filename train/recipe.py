"""The recipe: everything that decides a run's numbers, as frozen dataclasses. Lengths are samples seen; batch sizes
are global.

Machine facts (paths, devices, threads) are flags of `train.run` and never stand here. `train.config` reads and writes
it.
"""

import math
from dataclasses import astuple, dataclass, field

from pipelines.contract import ColorJitter, TokenBudget
from prep.crops import Augmentation
from prep.errors import UserError
from prep.text_masks import TEXT_MASKS
from train import image_masks
from train.model_config import ModelConfig, check_model

DECAYS = ("matrices", "kernels")


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW. Defaults are CLIPA's: betas (0.9, 0.95), weight decay 0.2, eps 1e-6 (PyTorch code).

    decay: what decays, "matrices" (all of two dimensions, as CLIPA's PyTorch code) or "kernels" (those of linear and
    patch layers, but no embedding and no position, as its JAX code).
    """

    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6
    weight_decay: float = 0.2
    decay: str = "matrices"


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg: its token budget, length and learning rate.

    samples: length in samples seen, rounded up to whole batches. learning_rate: the peak, reached linearly after
    warmup_samples, then a cosine to zero. Optimizer and schedule start afresh in every stage; the temperature goes on.
    crops: "online", drawn by `augmentation` while training; or "bank", those that `prep.build --crops` stored.
    jitter: of colour, on the device; none by default, and `jitter = {}` is CLIPA's for its larger models.
    image_positions: "fixed", sin-cos computed for the stage's grid; or "learned", what was there before, resized to it
    and trained. frozen: parts that are not trained, by the beginnings of their parameters' names: ["vision"] is LiT,
    ["vision.patch_embed", "vision.blocks.0."] the lowest layers.
    """

    name: str
    samples: int
    batch_size: int
    learning_rate: float
    budget: TokenBudget
    warmup_samples: int = 0
    image_positions: str = "fixed"
    frozen: tuple[str, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    crops: str = "online"
    jitter: ColorJitter = field(default_factory=lambda: ColorJitter(probability=0.0, gray_probability=0.0))

    @property
    def num_steps(self) -> int:
        """Optimizer steps: whole global batches that cover `samples`."""
        return -(-self.samples // self.batch_size)

    @property
    def num_samples(self) -> int:
        """Samples really seen: num_steps whole batches."""
        return self.num_steps * self.batch_size


@dataclass(frozen=True, slots=True)
class Recipe:
    """A run. log_every and checkpoint_every count steps; a checkpoint falls on a log step.

    precision: of products, "float32" or "bfloat16" (autocast; weights and the loss stay float32). rollback_after: steps
    in a row that were not finite, before the run goes back to its last checkpoint's weights.
    shuffle_captions: the control in which images have the captions of others. captions: weights of the store's caption
    sources, of which each image draws one; none given: all alike. weights: of the stores, in the order in which
    `train.run` is given them, mixed exactly; none given: every row of every store once an epoch. window: rows that are
    shuffled among each other, for stores on slow or distant disks; 0: all.
    """

    name: str
    model: ModelConfig
    stages: tuple[Stage, ...]
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    log_every: int = 50
    checkpoint_every: int = 500
    shuffle_captions: bool = False
    captions: dict[str, float] = field(default_factory=dict)
    weights: tuple[int, ...] = ()
    window: int = 0
    precision: str = "float32"
    rollback_after: int = 5

    @property
    def num_samples(self) -> int:
        """Samples seen in all stages together."""
        return sum(stage.num_samples for stage in self.stages)

    def stage_start(self, stage: int) -> int:
        """Samples seen before a stage begins."""
        return sum(s.num_samples for s in self.stages[:stage])

    def stage_of(self, samples_seen: int) -> int:
        """The stage that the sample after `samples_seen` belongs to; the number of stages at the end of the run."""
        for number in range(len(self.stages)):
            if samples_seen < self.stage_start(number + 1):
                return number
        return len(self.stages)


def check(recipe: Recipe, place: str) -> None:
    """Refuse a recipe whose numbers do not fit together. Raises `UserError` naming the first one and the place."""

    def wrong(where: str, problem: str, remedy: str) -> UserError:
        return UserError(f"{place}, {where}", problem, remedy)

    if not recipe.stages:
        raise wrong("stages", "wanted at least one stage, found none", "Add a [[stages]] table.")
    check_model(recipe.model, place)
    _check_numbers(recipe, place)
    if recipe.log_every < 1 or recipe.checkpoint_every < recipe.log_every or recipe.checkpoint_every % recipe.log_every:
        raise wrong(
            "checkpoint_every",
            f"{recipe.checkpoint_every} is not a multiple of log_every {recipe.log_every}",
            "Checkpoints fall on log steps: choose a multiple.",
        )
    for number, stage in enumerate(recipe.stages):
        _check_stage(stage, recipe.model, f"{place}, stages.{number}")


def _check_numbers(recipe: Recipe, place: str) -> None:
    optimizer = recipe.optimizer
    numbers = [
        ("precision", recipe.precision in ("float32", "bfloat16"), recipe.precision, "float32 or bfloat16"),
        ("rollback_after", recipe.rollback_after > 0, recipe.rollback_after, "at least 1 step"),
        ("window", recipe.window >= 0, recipe.window, "0 or more rows"),
        ("seed", 0 <= recipe.seed < 2**63, recipe.seed, "0 to 2^63 - 1"),
        ("optimizer.betas", all(0 <= beta < 1 for beta in optimizer.betas), optimizer.betas, "0 to less than 1"),
        ("optimizer.eps", 0 < optimizer.eps < 1, optimizer.eps, "more than 0, less than 1"),
        ("optimizer.decay", optimizer.decay in DECAYS, optimizer.decay, " or ".join(DECAYS)),
        ("optimizer.weight_decay", 0 <= optimizer.weight_decay < math.inf, optimizer.weight_decay, "0 or more"),
    ]
    for key, holds, value, wanted in numbers:
        if not holds:
            raise UserError(f"{place}, {key}", f"wanted {wanted}, found {value}", "Change the recipe.")


def _check_stage(stage: Stage, model: ModelConfig, place: str) -> None:
    budget, patch_size = stage.budget, model.vision.patch_size
    positions_fit = stage.image_positions == "learned" or model.vision.positions != "learned"
    rules = [
        (stage.samples > 0, "samples", f"wanted more than 0, found {stage.samples}"),
        (stage.batch_size > 1, "batch_size", f"a contrastive loss wants at least 2, found {stage.batch_size}"),
        (0 < stage.learning_rate < math.inf, "learning_rate", f"wanted more than 0, found {stage.learning_rate}"),
        (
            0 <= stage.warmup_samples < stage.samples,
            "warmup_samples",
            f"wanted 0 to less than the stage's {stage.samples} samples, found {stage.warmup_samples}",
        ),
        (
            budget.res > 0 and budget.res % patch_size == 0,
            "budget.res",
            f"{budget.res} px is not a multiple of the patch size {patch_size}",
        ),
        (
            stage.image_positions in ("fixed", "learned") and positions_fit,
            "image_positions",
            f"wanted fixed or learned, and learned for a model that begins so; found {stage.image_positions!r}",
        ),
        (stage.crops in ("online", "bank"), "crops", f"wanted online or bank; found {stage.crops!r}"),
        (budget.text_tokens >= 3, "budget.text_tokens", f"wanted at least 3, found {budget.text_tokens}"),
        (
            budget.text_mask in TEXT_MASKS,
            "budget.text_mask",
            f"wanted one of {', '.join(TEXT_MASKS)}; found {budget.text_mask!r}",
        ),
        (
            min(astuple(stage.jitter)) >= 0 and max(astuple(stage.jitter)[-2:]) <= 1 and stage.jitter.hue <= 0.5,
            "jitter",
            "wanted spreads of at least 0, hue of at most 0.5, probabilities from 0 to 1",
        ),
        (
            0 < stage.augmentation.crop_area[0] <= stage.augmentation.crop_area[1] <= 1,
            "augmentation.crop_area",
            f"wanted 0 < least <= most <= 1, found {list(stage.augmentation.crop_area)}",
        ),
        (
            0 < stage.augmentation.crop_aspect[0] <= stage.augmentation.crop_aspect[1],
            "augmentation.crop_aspect",
            f"wanted 0 < least <= most, found {list(stage.augmentation.crop_aspect)}",
        ),
    ]
    for holds, key, problem in rules:
        if not holds:
            raise UserError(f"{place}.{key}", problem, "Change the recipe, or override it: stages.0.budget.res=112")
    if no_mask := image_masks.wrong(budget, patch_size):
        raise UserError(f"{place}.budget.image_mask", no_mask, "Change the recipe, or override it.")
