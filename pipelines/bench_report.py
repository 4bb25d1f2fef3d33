"""What `pipelines.bench` tells: JSON values, verdicts, and the one table."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table

from pipelines.bench_loaders import Spell, folders
from pipelines.bench_run import Measured
from pipelines.bench_stages import STAGES
from pipelines.bench_subjects import PEER_VIEW, Row
from pipelines.verdict import Option, Rates, Verdict, in_bytes, judge

LIMITS = {"margin": "simplejpeg", "margin-raw": "memcpy", "bank": "simplejpeg", "bank-raw": "memcpy"}
"""What a view's rate is a share of."""

TAKE = "pyarrow.take"
OPEN_CLIP, FAIR = "open_clip", "open_clip, DCT-scaled"
TARGETS = (
    ("margin", OPEN_CLIP, 8.0),
    ("margin", FAIR, 4.0),
    ("bank", "simplejpeg", 0.9),
    ("bank-raw", "memcpy", 0.5),
    ("bank-raw", TAKE, 10.0),
    ("bank-raw", "ffcv", 1.0),
    ("bank-raw", OPEN_CLIP, 150.0),
)
"""View, what its loader is held against, how many times that is wanted."""


def make_report(found: Measured) -> dict[str, Any]:
    """Everything as JSON values."""
    asked = found.asked
    verdicts = {
        id(row): judge_row(found, row) for row in found.loaders if row.rates("both") and found.trainer.rates("alone")
    }
    settings = {key: value for key, value in asdict(asked).items() if key not in ("store", "tars", "nltk_data")}
    return {
        "machine": {
            "cores": len(asked.cores),
            "processor": _processor(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "settings": settings | {"num_samples": found.manifest.num_samples},
        "trainer": {
            "what": "a given rate" if asked.needs else f"a {asked.trainer} CLIP step on {asked.device}",
            "alone": found.trainer.rates("alone"),
        },
        "loaders": [_loader(found, row, verdicts.get(id(row))) for row in found.loaders],
        "stages": {
            view: {
                "seconds": row.costs,
                "limits": {name: _rates(spells) for name, spells in row.limits.items()},
                "rows_taken_from": row.rows_taken_from,
            }
            | ({"not_run": row.reason} if row.reason else {})
            for view, row in found.stages.items()
        },
        "peers": [
            {"name": row.name, "view": row.view}
            | ({"not_run": row.reason} if row.reason else {"alone": row.rates("alone")})
            for row in found.peers
        ],
        "ratios": _ratios(found),
        "verdict": next(
            (verdict.line for verdict in verdicts.values()), "no verdict: wanted a loader and a trainer that ran"
        ),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _loader(found: Measured, row: Row, verdict: Verdict | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": row.name, "view": row.view}
    if row.reason is not None:
        return facts | {"not_run": row.reason}
    limit, spells = LIMITS[row.view], row.spells["alone"]
    limits = found.stages[row.view].limits.get(limit, [])
    facts |= {
        "alone": row.rates("alone"),
        "both": row.rates("both"),
        "a_core": [spell.core_rate for spell in spells],
        "busy_cores": statistics.median(spell.core_seconds / spell.seconds for spell in spells),
        "limit": limit,
        "share_of_limit": _ratio(row.rates("alone"), _rates(limits)) if limits else None,
        "first_batch_seconds": row.first_batch,
        "peak_bytes": row.memory.peak,
        "own_bytes": row.memory.own,
    }
    return facts | ({"bound": verdict.bound, "verdict": verdict.line} if verdict else {})


def _rates(spells: Sequence[Spell]) -> list[float]:
    return [spell.rate for spell in spells]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of each turn's own ratio: a shared machine is slower in one minute than in the next."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=False))


def _ratios(found: Measured) -> list[dict[str, Any]]:
    """The best of our loaders against what it is to be measured by, wherever both were run: by the clock, and by what
    either has had of the cores, which other programs disturb less.
    """
    ratios = []
    for view, against, wanted in TARGETS:
        ours = [row for row in found.loaders if row.view == view and row.rates("alone")]
        if not ours:
            continue
        best = max(ours, key=lambda row: statistics.median(row.rates("alone")))
        peers = [
            row.spells["alone"]
            for row in found.peers
            if row.name == against and row.rates("alone") and row.view in (view, PEER_VIEW)
        ]
        mine, theirs = best.spells["alone"], next(iter(peers), found.stages[view].limits.get(against, []))
        if theirs:
            by_core = _ratio([spell.core_rate for spell in mine], [spell.core_rate for spell in theirs])
            num_rows = found.stages[view].rows_taken_from
            what = f"{best.name} on {view}, against {against}{f' of {num_rows:,} rows' if against == TAKE else ''}"
            value = _ratio(_rates(mine), _rates(theirs))
            ratios.append({"what": what, "value": value, "by_core": by_core, "wanted": wanted})
    return ratios


def judge_row(found: Measured, row: Row) -> Verdict:
    """The verdict on one loader and view, all others that were measured being its options."""

    def alone(other: Row) -> float:
        return statistics.median(other.rates("alone"))

    options = [
        Option(f"--loader {other.name}", alone(other))
        for other in found.loaders
        if other.view == row.view and other is not row and other.rates("alone")
    ]
    # Other crops are another augmentation: only the same crops in another encoding are a remedy.
    other_view = row.view.removesuffix("-raw") if row.view.endswith("-raw") else f"{row.view}-raw"
    measured = [
        other for other in found.loaders if other.view == other_view and other.name == row.name and other.rates("alone")
    ]
    options += [Option(f"the {other.view} view", alone(other)) for other in measured]
    if not row.view.endswith("-raw") and not folders(found.manifest, found.asked.res, other_view):
        options.append(Option("the raw view", num_bytes=_raw_bytes(found, row.view)))
    both = statistics.median(row.rates("both"))
    needs = statistics.median(found.trainer.rates("alone"))
    return judge(Rates(needs, alone(row), len(found.asked.cores), both, options))


def _raw_bytes(found: Measured, view: str) -> int:
    """What the pixels of a view are, uncompressed."""
    num_crops = len(folders(found.manifest, found.asked.res, view))
    return round(found.manifest.num_samples * num_crops * found.stages[view].pixel_bytes)


def report_table(report: dict[str, Any]) -> Table:
    """The one table: loaders with their stages, the trainer, the limits, the peers. Rates are median (range)."""
    settings, views = report["settings"], report["stages"]
    title = (
        f"img/s at {settings['res']} px, {settings['text_tokens']} text tokens, batches of {settings['batch_size']}, "
        f"on {report['machine']['cores']} cores: median (range of {settings['repeats']}); "
        "stages: microseconds a sample on one core"
    )
    table = Table("", "view", title=title, title_justify="left", padding=(0, 1, 0, 0), box=None)
    stages = [stage for stage in STAGES if any(stage in view["seconds"] for view in views.values())]
    for heading in ("alone", "with trainer", "of limit", *stages, "sum", "a core", "memory", "first batch"):
        table.add_column(heading, justify="right", no_wrap=True)
    reasons = not_run(report)
    for row in report["loaders"]:
        cells = [_missing(row, reasons)] if "not_run" in row else _cells(row, views, stages)
        table.add_row(row["name"], row["view"], *cells)
    table.add_row("trainer", report["trainer"]["what"], rate(report["trainer"]["alone"]), end_section=True)
    for view, facts in views.items():
        for name, rates in facts["limits"].items():
            rows = f" of {facts['rows_taken_from']:,} rows" if name == TAKE else ""
            table.add_row(f"{name}{rows} alone", view, rate(rates))
    for row in report["peers"]:
        table.add_row(row["name"], row["view"], rate(row["alone"]) if "alone" in row else _missing(row, reasons))
    return table


def not_run(report: dict[str, Any]) -> list[str]:
    """Why some were not measured: each reason once; the table has their numbers."""
    rows = [*report["loaders"], *report["peers"], *report["stages"].values()]
    return list(dict.fromkeys(row["not_run"] for row in rows if "not_run" in row))


def _missing(row: dict[str, Any], reasons: list[str]) -> str:
    return f"not run [{reasons.index(row['not_run']) + 1}]"


def _cells(row: dict[str, Any], views: dict[str, Any], stages: Sequence[str]) -> list[str]:
    share = row["share_of_limit"]
    cells = [rate(row["alone"]), rate(row["both"]), "" if share is None else f"{share:.0%} {row['limit']}"]
    costs: dict[str, float] = {}
    # Its stages are timed one by one; the other loaders join them.
    if row["name"] == "torch":
        costs = {name: statistics.median(values) for name, values in views[row["view"]]["seconds"].items()}
    cells += [f"{costs[name] * 1e6:.1f}" if name in costs else "" for name in stages]
    cells += [f"{sum(costs.values()) * 1e6:.1f}" if costs else "", _short(statistics.median(row["a_core"]))]
    return [*cells, in_bytes(row["own_bytes"]), f"{row['first_batch_seconds']:.2f} s"]


def rate(values: Sequence[float]) -> str:
    """Median and range, such as 3,120 (3,050-3,210)."""
    if not values:
        return ""
    return f"{_short(statistics.median(values))} ({_short(min(values))}-{_short(max(values))})"


def _short(value: float) -> str:
    if value < 10_000:
        return f"{value:,.0f}"
    return f"{value / 1000:,.1f}k" if value < 100_000 else f"{value / 1000:,.0f}k"
