"""What `train.plan` prints: a recipe's plan as a table, the cells of a sweep, published beside predicted hours."""

from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table

from train.config import load_recipe
from train.hardware import HARDWARE, PUBLISHED_EFFICIENCY, Hardware
from train.probe import Tower
from train.published import PUBLISHED, fit, hours_at_mfu, predicted_hours
from train.recipe import Recipe
from train.stage_plan import LOADER_RATES, RATES_AT, Plan, Reach, StagePlan

Row = tuple[str, Callable[[StagePlan], str], Callable[[Plan], str] | None]


def count(value: float) -> str:
    """Three digits and k, M, G, T ...: 1.28e10 is 12.8 G."""
    for size, letter in ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {letter}" if value < 999.5 * size else f"{value / size:,.0f} {letter}"
    return f"{value:.3g} "


def duration(hours: float) -> str:
    """Days from two days on, seconds below a minute."""
    if hours >= 48:
        return f"{hours / 24:.1f} d"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.3g}"


def _gigabytes(value: float) -> str:
    return f"{value / 2**30:,.1f} GiB" if value >= 2**30 / 10 else f"{value / 2**20:,.1f} MiB"


def _parts(stage: StagePlan) -> str:
    return "does not fit" if stage.num_parts is None else f"{stage.num_parts:,}"


def _rows(plan: Plan) -> Iterable[Row | None]:
    """Rows of the table, None between groups."""
    yield "image + text tokens", lambda s: f"{s.image_tokens} + {s.text_tokens}", None
    yield "samples", lambda s: count(s.num_samples), lambda p: count(sum(s.num_samples for s in p.stages))
    yield "batch size", lambda s: f"{s.batch_size:,}", None
    yield "steps", lambda s: f"{s.num_steps:,}", lambda p: f"{sum(s.num_steps for s in p.stages):,}"
    yield None
    yield "forward FLOPs a sample", lambda s: count(s.forward_flops_per_sample), None
    yield "training FLOPs a sample", lambda s: count(s.training_flops_per_sample), None
    yield "training FLOPs", lambda s: count(s.training_flops), lambda p: count(p.training_flops)
    yield None
    yield "MFU (HFU)", lambda s: f"{s.mfu:.0%} ({s.hfu:.0%})", None
    yield "device-hours", lambda s: _hours(s.device_hours), lambda p: _hours(p.device_hours)
    yield f"time on {plan.asked.num_devices}", lambda s: duration(s.hours), lambda p: duration(p.hours)
    if plan.asked.price:
        yield "cost", lambda s: f"${s.cost:,.0f}", lambda p: f"${p.cost:,.0f}"
    yield None
    yield "loss memory, naive", lambda s: _gigabytes(s.naive_loss_bytes), None
    yield "loss memory, tiled", lambda s: _gigabytes(s.tiled_loss_bytes), None
    yield "weights, gradients, AdamW", lambda s: _gigabytes(s.state_bytes), None
    yield "activations", lambda s: _gigabytes(s.activation_bytes), None
    yield "activations, checkpointed", lambda s: _gigabytes(s.checkpointed_bytes), None
    yield "parts that a batch goes in", _parts, None
    yield "peak memory", lambda s: _gigabytes(s.peak_bytes), lambda p: _gigabytes(max(s.peak_bytes for s in p.stages))
    yield None
    yield "img/s to be loaded a host", lambda s: f"{s.images_per_host:,.0f}", None
    for view in LOADER_RATES:
        yield f"  cores, {view}", _cores(view), None


def _cores(view: str) -> Callable[[StagePlan], str]:
    return lambda stage: f"{stage.loader_cores[view]:,.1f}"


def plan_table(plan: Plan) -> Table:
    """The plan, one column a stage and one for all of them."""
    asked = plan.asked
    table = Table(title=f"{plan.recipe} on {asked.num_devices} x {asked.hardware.name}", title_justify="left")
    table.add_column("")
    for stage in plan.stages:
        table.add_column(stage.name, justify="right")
    table.add_column("in all", justify="right")
    for row in _rows(plan):
        if row is None:
            table.add_section()
            continue
        name, of_stage, of_plan = row
        table.add_row(name, *(of_stage(stage) for stage in plan.stages), of_plan(plan) if of_plan else "")
    return table


def plan_notes(plan: Plan, recipe: Recipe) -> list[str]:
    """What a reader of the table must know."""
    asked, hardware = plan.asked, plan.asked.hardware
    if asked.mfu is not None:
        said = (
            f"Hours: training FLOPs at the MFU of {asked.mfu:.0%} that you gave, of {hardware.peak_flops:.3g} FLOP/s."
        )
    else:
        said = (
            f"Hours: FLOPs at {hardware.peak_flops:.3g}/s and activations moved at {hardware.bandwidth:.3g} bytes/s, "
            f"both at an efficiency of {hardware.efficiency:.3g}; loss, optimizer, communication, waiting left out."
        )
        if hardware in HARDWARE.values():
            said += " The efficiency is CLIPA's code on A100 (--published); know better by --mfu."
    blocks = "Blocks are kept for the backward pass: MFU is HFU."
    if asked.checkpointing:
        blocks = "Blocks are computed again for the backward pass: MFU does not count that, HFU does."
    lines = [said, f"{blocks} A multiply-add is two FLOPs, a backward pass two forwards."]
    products = "bfloat16" if hardware.autocast else "float32"
    if recipe.precision != products:
        lines.append(f"The recipe's products are of {recipe.precision}; this is planned with {products}.")
    if any(stage.frozen for stage in recipe.stages):
        lines.append("What a stage freezes is counted as if it were trained.")
    if asked.price:
        lines.append(f"Cost: ${asked.price:.3f} a device-hour (--price).")
    if any(stage.num_parts is None or stage.num_parts > 1 for stage in plan.stages):
        lines.append(
            "A batch that goes in parts needs one more forward pass: hours as above, and a "
            f"{'quarter' if asked.checkpointing else 'third'} more in these stages."
        )
    lines.append(f"Loader cores: rates at {RATES_AT} px in README's Results, scaled by pixels.")
    return lines


def reach_lines(plan: Plan, reach: Reach) -> list[str]:
    """How far the budget goes."""
    if reach.share >= 1:
        return [f"${reach.budget:,.0f} pays for all of it, and leaves ${reach.budget - plan.cost:,.0f}."]
    first = plan.stages[0]
    lines = [f"${reach.budget:,.0f} pays for {reach.share:.1%} of the recipe."]
    if reach.first_stage_samples:
        samples = reach.first_stage_samples
        lines.append(
            f"With all other stages whole, {first.name!r} can be {samples:,} samples long, "
            f"{samples / first.num_samples:.1%} of it: stages.0.samples={samples}"
        )
    else:
        lines.append("The other stages alone cost more. Take a smaller model, fewer tokens, or shorter stages.")
    return lines


def cells_table(plans: list[Plan]) -> Table:
    """A line a cell of a sweep, and their sum."""
    table = Table(title=f"{len(plans)} cells on {plans[0].asked.num_devices} x {plans[0].asked.hardware.name}")
    table.add_column("cell")
    for name in ("tokens", "training FLOPs", "device-hours", "cost"):
        table.add_column(name, justify="right")
    for plan in plans:
        tokens = " > ".join(f"{stage.image_tokens}+{stage.text_tokens}" for stage in plan.stages)
        cell = plan.recipe.rpartition(":")[2]
        table.add_row(cell, tokens, count(plan.training_flops), _hours(plan.device_hours), f"${plan.cost:,.0f}")
    flops, hours, cost = (
        sum(getattr(plan, name) for plan in plans) for name in ("training_flops", "device_hours", "cost")
    )
    table.add_section()
    table.add_row("in all", "", count(flops), _hours(hours), f"${cost:,.0f}")
    return table


def published_rows() -> list[dict[str, Any]]:
    """Published and predicted A100-hours, with relative errors."""
    mfu, _ = fit(hours_at_mfu)
    rows = []
    for row in PUBLISHED:
        recipe = load_recipe(row.recipe)
        predicted = predicted_hours(recipe, row.num_stages, PUBLISHED_EFFICIENCY)
        flat = hours_at_mfu(recipe, row.num_stages, mfu)
        rows.append(
            {
                "recipe": row.recipe,
                "resolutions": [stage.budget.res for stage in recipe.stages[: row.num_stages]],
                "published": row.gpu_hours,
                "predicted": predicted,
                "error": predicted / row.gpu_hours - 1,
                "at_one_mfu": flat,
                "error_at_one_mfu": flat / row.gpu_hours - 1,
                "source": row.source,
            }
        )
    return rows


def published_table() -> tuple[Table, list[str]]:
    """The rows of `published_rows` as a table, and what was fitted."""
    rows = published_rows()
    (efficiency, error), (mfu, mfu_error) = fit(), fit(hours_at_mfu)
    table = Table(title="A100-hours of CLIPA's models", title_justify="left")
    for name in ("recipe", "px", "published", "predicted", "error", "at one MFU", "error"):
        table.add_column(name, justify="left" if name in ("recipe", "px") else "right")
    for row in rows:
        px = " > ".join(map(str, row["resolutions"]))
        hours = [f"{row['published']:,}", f"{row['predicted']:,.0f}", f"{row['error']:+.0%}"]
        table.add_row(row["recipe"], px, *hours, f"{row['at_one_mfu']:,.0f}", f"{row['error_at_one_mfu']:+.0%}")
    return table, [
        f"Predicted: one constant for all rows, an efficiency of {PUBLISHED_EFFICIENCY} (train/step_time.py); fitted "
        f"it is {efficiency:.4f}, off by {error:.1%} at most.",
        f"At one MFU: FLOPs alone, {mfu:.1%} of the peak; off by {mfu_error:.1%} at most: narrow towers are slower.",
        f"Sources: {'; '.join(dict.fromkeys(row.source for row in PUBLISHED))}.",
    ]


def probe_lines(hardware: Hardware, towers: tuple[Tower, ...]) -> list[str]:
    """What the probe measured."""
    lines = [
        f"{hardware.name}: products {count(hardware.peak_flops)}FLOP/s, memory {count(hardware.bandwidth)}B/s, "
        f"efficiency {hardware.efficiency:.3f}"
    ]
    lines += [
        f"  {tower.name} towers: {1 / tower.seconds_per_sample:,.0f} samples/s, {count(tower.flops_per_second)}FLOP/s, "
        f"MFU {tower.mfu:.1%}, efficiency {tower.efficiency:.3f}"
        for tower in towers
    ]
    return lines
