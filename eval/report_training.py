"""The report's parts on training: what the recipe asks for, how it went, and what was told on the way."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median

import numpy as np

from eval.figures import percent, smooth
from eval.report_charts import Axis, Curve, chart, lasting, short
from eval.report_page import Html, folded, missing, table, tag
from train.config import to_toml
from train.flops import image_tokens, training_flops
from train.health import Event
from train.log import Line
from train.memory import num_parameters
from train.recipe import Recipe, Stage

SAMPLES, FLOPS = Axis("samples seen", short), Axis("training compute, FLOP", short)


def recipe_part(recipe: Recipe) -> list[Html]:
    """The stages side by side, the two towers side by side, the rest, and the whole as TOML."""
    model, optimizer = recipe.model, recipe.optimizer
    stages = [(name, *(value(recipe, stage) for stage in recipe.stages)) for name, value in _STAGE_ROWS.items()]
    vision, text = asdict(model.vision), asdict(model.text)
    towers = [(key, _said(vision.get(key, "")), _said(text.get(key, ""))) for key in dict.fromkeys([*vision, *text])]
    betas = " and ".join(f"{beta:g}" for beta in optimizer.betas)
    parameters = num_parameters(model, recipe.stages[-1].budget)
    rest = [
        ("loss", model.loss),
        ("embedding", f"{model.embed_dim} channels"),
        ("parameters", f"{parameters:,}"),
        ("precision", recipe.precision),
        ("AdamW", f"betas {betas}, eps {optimizer.eps:g}, weight decay {optimizer.weight_decay:g} ({optimizer.decay})"),
        ("seed", str(recipe.seed)),
        ("captions", "shuffled: a control" if recipe.shuffle_captions else _said(recipe.captions) or "all alike"),
        ("stores mixed by", _said(recipe.weights) or "their sizes"),
    ]
    return [
        table(("", *(stage.name for stage in recipe.stages)), stages),
        table(("", ""), rest),
        folded("The two towers", table(("", "vision", "text"), towers)),
        folded("All of it, as recipe.toml", tag("pre", to_toml(recipe))),
    ]


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(inside)}" for key, inside in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(inside) for inside in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _image_mask(stage: Stage) -> str:
    budget = stage.budget
    return "none" if budget.image_mask == "none" else f"{budget.image_mask}, {percent(budget.image_mask_ratio)} dropped"


_STAGE_ROWS: dict[str, Callable[[Recipe, Stage], str]] = {
    "samples": lambda _, stage: f"{stage.num_samples:,}",
    "steps": lambda _, stage: f"{stage.num_steps:,}",
    "batch size": lambda _, stage: f"{stage.batch_size:,}",
    "peak learning rate": lambda _, stage: f"{stage.learning_rate:.3g}",
    "warm-up, samples": lambda _, stage: f"{stage.warmup_samples:,}",
    "resolution, px": lambda _, stage: str(stage.budget.res),
    "image tokens": lambda recipe, stage: str(image_tokens(recipe.model, stage.budget)),
    "image mask": lambda _, stage: _image_mask(stage),
    "text tokens": lambda _, stage: str(stage.budget.text_tokens),
    "text mask": lambda _, stage: stage.budget.text_mask,
    "crops": lambda _, stage: stage.crops,
    "image positions": lambda _, stage: stage.image_positions,
    "frozen": lambda _, stage: _said(stage.frozen) or "nothing",
    "FLOP a sample": lambda recipe, stage: short(training_flops(recipe.model, stage.budget)),
}


def curves_part(lines: Sequence[Line], num_samples: int, command: str) -> list[Html]:
    """The charts, and a table of what each stage reached. num_samples: the recipe's; command: what trains."""
    if not lines:
        return [missing("There is no log yet: nothing was trained here.", command)]
    shown = []
    if lines[-1].samples_seen < num_samples:
        told = f"The log ends at {lines[-1].samples_seen:,} of {num_samples:,} samples. This goes on with them:"
        shown.append(missing(told, command))
    charts = [_chart("Loss over samples seen", lines, _LOSS, SAMPLES), _chart("Loss over compute", lines, _LOSS, FLOPS)]
    absent = []
    for title, value, axis, why in _CHARTS:
        values = [value(line) for line in lines]
        if any(found is not None for found in values):
            charts.append(_chart(title, lines, (value, axis), SAMPLES))
        else:
            absent.append(f"{title}: {why}.")
    note = "Thin: each log step; thick: smoothed. A dashed line ends a stage."
    return [
        *shown,
        tag("div", *charts, class_="charts"),
        tag("p", " ".join([note, *absent]), class_="note"),
        table(("stage", *_REACHED), _reached(lines)),
    ]


Value = Callable[[Line], float | None]
_LOSS: tuple[Value, Axis] = (lambda line: line.loss, Axis("loss", short))
_TOO_SHORT = "not told, for only the first steps after each start were taken"
_CHARTS: tuple[tuple[str, Value, Axis, str], ...] = (
    ("Learning rate", lambda line: line.lr, Axis("learning rate", short, from_zero=True), ""),
    ("Logit scale", lambda line: line.logit_scale, Axis("logit scale", short), ""),
    (
        "Throughput, samples a second",
        lambda line: line.samples_per_second,
        Axis("samples a second", short, from_zero=True),
        _TOO_SHORT,
    ),
    ("Waiting for data, share of the time", lambda line: line.data_wait, Axis("share", percent, True), _TOO_SHORT),
    ("MFU", lambda line: line.mfu, Axis("share", percent, True), "not known, for the device's peak or speed is not"),
)


def _chart(title: str, lines: Sequence[Line], what: tuple[Value, Axis], x: Axis) -> Html:
    value, axis = what
    across = [line.flops if x is FLOPS else float(line.samples_seen) for line in lines]
    numbers = [math.nan if (found := value(line)) is None else found for line in lines]
    stages = sorted({line.stage for line in lines})
    drawn, ends = [], []
    for order, stage in enumerate(stages):
        places = [place for place, line in enumerate(lines) if line.stage == stage]
        xs, ys = [across[place] for place in places], [numbers[place] for place in places]
        name = f"stage {order + 1}: {lines[places[0]].stage_name}"
        if what is _LOSS:
            drawn.append(Curve("", xs, ys, order, "thin"))
            finite = [(a, b) for a, b in zip(xs, ys, strict=True) if math.isfinite(b)]
            xs = [a for a, _ in finite]
            ys = smooth(np.array([b for _, b in finite], float), max(1, len(places) // 25)).tolist()
        drawn.append(Curve(name, xs, ys, order))
        ends.append(across[places[-1]])
    return chart(title, drawn, x, axis, ends[:-1])


_REACHED = (
    *("samples seen", "last loss", "logit scale", "samples/s", "data wait", "MFU"),
    *("memory, GiB", "steps skipped", "damaged samples replaced", "compute so far", "time so far"),
)


def _reached(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """A row a stage; rates are medians over its log lines."""
    rows: list[tuple[str, ...]] = []
    for stage in sorted({line.stage for line in lines}):
        own = [line for line in lines if line.stage == stage]
        last = own[-1]

        def middle(value: Value, form: Callable[[float], str], own: Sequence[Line] = own) -> str:
            known = [found for line in own if (found := value(line)) is not None]
            return form(median(known)) if known else "–"

        rows.append(
            (
                last.stage_name,
                f"{last.samples_seen:,}",
                f"{last.loss:.4f}",
                f"{last.logit_scale:.1f}",
                middle(lambda line: line.samples_per_second, lambda rate: f"{rate:,.0f}"),
                middle(lambda line: line.data_wait, percent),
                middle(lambda line: line.mfu, percent),
                "–" if last.memory is None else f"{last.memory / 2**30:.2f}",
                f"{last.num_skipped:,}",
                f"{last.num_replaced:,}",
                short(last.flops, "FLOP"),
                lasting(last.seconds),
            )
        )
    return rows


def events_part(events: Sequence[Event]) -> list[Html]:
    """What train.health told, each with its remedy."""
    if not events:
        return [tag("p", "Nothing: no loss or gradient that is not finite, no stuck loss, no collapse, no spike.")]
    return [
        tag(
            "div",
            tag("p", tag("strong", event.kind), f" at {event.samples_seen:,} samples: {event.problem}"),
            tag("p", event.remedy),
            *([tag("p", f"Rows of the store: {_rows(event.indices)}", class_="note")] if event.indices else []),
            class_="event",
        )
        for event in events
    ]


def _rows(indices: Sequence[int], most: int = 32) -> str:
    more = f" and {len(indices) - most:,} more (events.jsonl)" if len(indices) > most else ""
    return ", ".join(map(str, indices[:most])) + more
