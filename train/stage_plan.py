"""What a recipe will take on given devices, by stage: FLOPs, hours, money, memory, and what its loader must deliver.

`make_plan` is arithmetic on shapes and lengths; nothing is run. Formulas: `train.flops`, `train.step_time`,
`train.memory`.
"""

from dataclasses import dataclass

from train import memory
from train.flops import forward_flops, image_tokens, training_flops
from train.hardware import Hardware
from train.recipe import Recipe, Stage
from train.step_time import executed_flops, sample_seconds
from train.tiled_loss import CPU_TILE, GPU_TILE

GPUS_A_HOST = 8
RATES_AT = 112
LOADER_RATES = {"margin copies, JPEG": 3_780 / 2, "crop bank, JPEG": 5_480 / 2, "crop bank, raw": 188_000 / 2}
"""Images a second and core of the torch loader at RATES_AT pixels: README's table of `pipelines.bench`, two cores."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan is made for. mfu: instead of the estimate of `train.step_time`. price: US dollars a device-hour."""

    hardware: Hardware
    num_devices: int
    checkpointing: bool = True
    mfu: float | None = None
    price: float = 0.0


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage. FLOPs are of a sample where their name says so; memory is bytes of one device; hours are device-hours.

    mfu: useful FLOPs against the peak. hfu: executed ones. samples_per_second: of all devices; images_per_host: what
    the loader of a host must deliver. num_parts: equal parts in which a local batch goes through a device, None where
    not even one sample fits. loader_cores: a host, by view.
    """

    name: str
    image_tokens: int
    text_tokens: int
    batch_size: int
    num_samples: int
    num_steps: int
    forward_flops_per_sample: float
    training_flops_per_sample: float
    training_flops: float
    mfu: float
    hfu: float
    device_hours: float
    hours: float
    cost: float
    samples_per_second: float
    images_per_host: float
    loader_cores: dict[str, float]
    num_parameters: int
    state_bytes: float
    activation_bytes: float
    checkpointed_bytes: float
    naive_loss_bytes: float
    tiled_loss_bytes: float
    peak_bytes: float
    num_parts: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe's stages, and what they take in all."""

    recipe: str
    asked: Asked
    stages: tuple[StagePlan, ...]

    @property
    def training_flops(self) -> float:
        """Useful FLOPs of the run."""
        return sum(stage.training_flops for stage in self.stages)

    @property
    def device_hours(self) -> float:
        """Hours of one device."""
        return sum(stage.device_hours for stage in self.stages)

    @property
    def hours(self) -> float:
        """Hours by the clock."""
        return sum(stage.hours for stage in self.stages)

    @property
    def cost(self) -> float:
        """US dollars."""
        return sum(stage.cost for stage in self.stages)


def make_plan(recipe: Recipe, asked: Asked) -> Plan:
    """The plan of a recipe. Products are taken to be of the device's type, and what is frozen to be trained."""
    return Plan(recipe.name, asked, tuple(_stage_plan(recipe, stage, asked) for stage in recipe.stages))


def _stage_plan(recipe: Recipe, stage: Stage, asked: Asked) -> StagePlan:
    model, budget, hardware = recipe.model, stage.budget, asked.hardware
    autocast = hardware.autocast
    seconds = sample_seconds(model, budget, hardware, asked.checkpointing, asked.mfu)
    useful = training_flops(model, budget)
    device_hours = stage.num_samples * seconds / 3600
    rate = asked.num_devices / seconds
    images_per_host = rate / -(-asked.num_devices // GPUS_A_HOST)
    local_batch = -(-stage.batch_size // asked.num_devices)
    state = memory.state_bytes(model, budget, autocast)
    whole, kept = (memory.activation_bytes(model, budget, autocast, checkpointing) for checkpointing in (False, True))
    tile = GPU_TILE if autocast else CPU_TILE
    tiled = memory.tiled_loss_bytes(local_batch, stage.batch_size, model.embed_dim, tile)
    a_sample = kept if asked.checkpointing else whole
    parts = memory.num_parts(a_sample, state + tiled, local_batch, hardware.memory)
    return StagePlan(
        name=stage.name,
        image_tokens=image_tokens(model, budget),
        text_tokens=budget.text_tokens,
        batch_size=stage.batch_size,
        num_samples=stage.num_samples,
        num_steps=stage.num_steps,
        forward_flops_per_sample=forward_flops(model, budget),
        training_flops_per_sample=useful,
        training_flops=useful * stage.num_samples,
        mfu=useful / seconds / hardware.peak_flops,
        hfu=executed_flops(model, budget, asked.checkpointing) / seconds / hardware.peak_flops,
        device_hours=device_hours,
        hours=device_hours / asked.num_devices,
        cost=device_hours * asked.price,
        samples_per_second=rate,
        images_per_host=images_per_host,
        loader_cores={view: images_per_host / _rate_at(a_core, budget.res) for view, a_core in LOADER_RATES.items()},
        num_parameters=memory.num_parameters(model, budget),
        state_bytes=state,
        activation_bytes=whole * local_batch,
        checkpointed_bytes=kept * local_batch,
        naive_loss_bytes=memory.naive_loss_bytes(local_batch, stage.batch_size),
        tiled_loss_bytes=tiled,
        peak_bytes=state + tiled + a_sample * -(-local_batch // (parts or 1)),
        num_parts=parts,
    )


def _rate_at(a_core: float, res: int) -> float:
    """Images a second and core at another size: work is taken to grow with the number of pixels."""
    return a_core * (RATES_AT / res) ** 2


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a budget goes. share: of the recipe's cost, at most 1. first_stage_samples: how long its first stage can
    be, whole batches, for the budget to cover it and all other stages unchanged; 0 when not one batch of it is left."""

    budget: float
    share: float
    first_stage_samples: int


def reach(plan: Plan, budget: float) -> Reach:
    """What `budget` US dollars pay for. The plan's price must be more than 0."""
    first, *later = plan.stages
    left = budget - sum(stage.cost for stage in later)
    batches = int(left / (first.cost / first.num_steps)) if left > 0 else 0
    return Reach(budget, min(1.0, budget / plan.cost), min(batches * first.batch_size, first.num_samples))
