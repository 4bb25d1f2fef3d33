"""The study page's tables: the search for learning rates, the last stage, and every cell."""

from eval.figures import percent
from eval.report_charts import short
from eval.report_page import Html, missing, table, tag
from eval.study_figures import Told, rate_curves, signed, span_of


def all_cells(told: Told) -> list[str]:
    """The names of the sweep's cells, each once."""
    return list(dict.fromkeys(cell["name"] for cells in told["sweep"]["tables"].values() for cell in cells))


def rates_part(told: Told) -> list[Html]:
    """The search for learning rates: every factor that was tried, and which was taken."""
    rates = told["plan"]["rates"]
    found = [result for result in told["results"] if result["searching"]]
    factors = sorted(rates["factors"])
    if not found:
        many = f"The plan takes its recipes' learning rates times {factors[0]:g}, without a search."
        return [tag("p", many) if len(factors) == 1 else missing("The search for learning rates has no result yet.")]
    tried = {(result["labels"][rates["axis"]], result["factor"]): result for result in found}
    labels = told["sweep"]["labels"][rates["axis"]]
    rows = [(f"x {factor:g}", *(_tried(told, tried, label, factor) for label in labels)) for factor in factors]
    shown = [
        tag(
            "p",
            f"Of each {rates['axis']} the factor is taken with which the loss in the last stage is least, in one "
            f"cell ({', '.join(rates['at'].values())}), with seed {rates['seed']}, which no cell has. All stages' "
            "rates are multiplied.",
        ),
        tag("div", rate_curves(told), class_="charts"),
        table(("last loss, top-1", *labels), rows),
    ]
    edge = [label for label, factor in told["rates"].items() if factor in (factors[0], factors[-1])]
    if edge and len(factors) > 1:
        where = f"{', '.join(edge)}: the factor that was chosen lies at the edge of what was tried. "
        shown.append(
            missing(where + "A better one may lie beyond, and what is said of these sizes may change with it.")
        )
    return shown


def _tried(told: Told, tried: dict[tuple[str, float], Told], label: str, factor: float) -> str:
    result = tried.get((label, factor))
    if result is None:
        return "no result yet"
    loss = "no loss" if result["loss"] is None else f"{result['loss']:.3f}"
    chosen = "chosen: " if told["rates"].get(label) == factor else ""
    return f"{chosen}{loss}, {percent(result['at'][-1]['top1'])}"


def last_stage_part(told: Told) -> list[Html]:
    """What each cell could do before its last stage, and after."""
    rows = [
        (name, _share(cell["before"]), _share(cell["accuracy"]), signed(_gain(cell)))
        for name, cell in told["cells"].items()
        if cell["before"] is not None
    ]
    if not rows:
        return [missing("No cell with more than one stage has a result yet.")]
    note = (
        "Each is judged at the res and the text tokens of the stage that it has just ended: before, what the short "
        "stage made; after, what the whole recipe did."
    )
    return [tag("p", note), table(("", "top-1 before", "top-1 after", "gained, points"), rows)]


def _gain(cell: Told) -> float:
    return float(cell["accuracy"]["value"] - cell["before"]["value"])


def _share(estimate: Told) -> str:
    span = span_of(estimate)
    return percent(estimate["value"]) + (f" ({percent(span[0])} to {percent(span[1])})" if span else "")


def cells_part(told: Told) -> list[Html]:
    """A line a cell of the sweep, those without a result too, and the controls at random weights."""
    rows = []
    for name in all_cells(told):
        cell = told["cells"].get(name)
        if cell is None:
            rows.append((name, *["-"] * 6, "no result yet"))
            continue
        tokens = f"{cell['image_tokens']}", f"{cell['text_tokens']}"
        cost = f"{cell['samples']:,}", short(cell["flops"], "FLOP")
        recall = "-" if cell["recall_at_1"] is None else percent(cell["recall_at_1"])
        rows.append((name, *tokens, *cost, _share(cell["accuracy"]), recall, ", ".join(map(str, cell["seeds"]))))
    for name, estimate in told["untrained"].items():
        rows.append((name, "-", "-", "0", "0", _share(estimate), "-", f"{estimate['num_seeds']} in all"))
    heads = (
        "",
        "image tokens",
        "text tokens",
        "samples",
        "training compute",
        "top-1, 95% interval",
        "recall@1",
        "seeds",
    )
    return [
        tag("p", "Tokens are those of the first stage; samples and compute those of all stages."),
        table(heads, rows),
    ]
