"""A study's plan: which sweep is trained, with which seeds, what is drawn of it, and which claims are judged.

    sweep = "laptop_study"              # of train/recipes, or a file: the cells and their tables (train/sweep.py)
    seeds = [0, 1, 2]
    zeroshot = "../data/zeroshot"       # what to evaluate on, seen from the store; --zeroshot says otherwise
    classes = "imagenet"                # its classes (eval/class_names.py), where its folders' names are not these
    templates = "simple"                # prompts (eval/templates.py)
    preprocess = "crop"                 # how images become square (eval/study_judge.py)
    untrained = [{ size = "m" }]        # controls at random weights; labels that are left out are those of [rates].at

    [rates]                             # learning rates are found first, one factor for each label of an axis
    axis = "size"                       # a single factor is taken as it is, without a search
    at = { image = "i16", text = "t16" }  # in this cell, with this seed
    factors = [0.5, 1.0, 2.0]           # of the recipe's learning rates, all stages alike; the least last loss wins
    seed = 100

    [stores]                            # label = options of prep.build: cells of that label of `store_axis` see a store
    bank2 = ["--crops", "2"]            # made so from the same pairs (--input)

    [more_seeds]                        # table of the sweep = further seeds that its cells are trained with, too
    "copies" = [3, 4]

    [[figures]]                         # accuracy over x, a curve for each label of an axis
    [[claims]]                          # see `Claim`

Plans that ship lie in eval/plans; eval/study_plan_file.py reads and checks them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from prep.errors import UserError
from train.sweep import Cell, Sweep

XS = ("image tokens", "text tokens", "training FLOPs")
KINDS = ("drop", "best", "recovery", "beats", "cost")
Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Rates:
    """The search for learning rates: see the module. at: a label for every axis but `axis`."""

    axis: str
    at: Labels
    factors: tuple[float, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Figure:
    """table: of the sweep. x: one of XS. series: the axis whose labels are curves; empty: one line a cell.

    at: only cells with these labels. curves: in place of the labels of `series` their endings, so that i50_random and
    i17_random are one curve, "random".
    """

    title: str
    table: str
    x: str = ""
    series: str = ""
    at: Labels = field(default_factory=dict)
    curves: tuple[str, ...] = ()

    def curve_of(self, label: str) -> str:
        """The curve that cells with this label of `series` are on; empty when it is none."""
        return next((curve for curve in self.curves if label.endswith(curve)), "") if self.curves else label


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement about cells that are equal but for `axis`.

    at: the other labels. over: further labels, one choice after another, from the smallest model to the largest.
    kind "drop": what `low` loses against `high` shrinks along `over`. "best": `high` is better than each of `others`.
    "recovery": of what `low` was behind `high` before its last stage, that stage recovers more than half. "beats":
    `high` is better than `low`, or than each of `others` (in each of `over`). "cost": what each of `others` differs
    from `high` by; no verdict. low, high and others are labels of `axis`; a "*" in them stands for the label of `over`.
    low_at: labels that low and others have in place of `at`'s. note: what a reader of its verdict has to know.
    """

    name: str
    kind: str
    statement: str
    axis: str
    high: str
    at: Labels = field(default_factory=dict)
    low: str = ""
    others: tuple[str, ...] = ()
    over: dict[str, tuple[str, ...]] = field(default_factory=dict)
    low_at: Labels = field(default_factory=dict)
    note: str = ""

    @property
    def lower(self) -> tuple[str, ...]:
        """What `high` is held against."""
        return self.others or (self.low,)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """The file's keys, as the module tells them."""

    sweep: str
    seeds: tuple[int, ...]
    rates: Rates
    zeroshot: str = ""
    retrieval: str = ""
    classes: str = ""
    templates: str = "simple"
    preprocess: str = "crop"
    untrained: tuple[Labels, ...] = ()
    store_axis: str = ""
    stores: dict[str, tuple[str, ...]] = field(default_factory=dict)
    more_seeds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A plan and the sweep that it is about. sweep_file: where that was read."""

    name: str
    file: PlanFile
    sweep: Sweep
    sweep_file: Path

    def cell(self, labels: Labels) -> Cell:
        """The cell of these labels; those that are missing are the plan's `rates.at`. Raises `UserError` if none is."""
        wanted = self.file.rates.at | labels
        for cell in self.sweep.cells:
            if cell.labels == wanted:
                return cell
        raise UserError(
            f"plan {self.name}",
            f"no table of the sweep {self.sweep.name} has the cell {wanted}",
            "Add it to a table, or change the labels.",
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """All there are; those of every cell first."""
        return tuple(dict.fromkeys([*self.file.seeds, *(s for more in self.file.more_seeds.values() for s in more)]))

    def seeds_of(self, cell: Cell) -> tuple[int, ...]:
        """Those that a cell is trained with, in the order of `seeds`."""
        more = {s for table, seeds in self.file.more_seeds.items() if cell in self.sweep.tables[table] for s in seeds}
        return tuple(seed for seed in self.seeds if seed in more or seed in self.file.seeds)

    def of_claim(self, claim: Claim, label: str, more: Labels) -> Cell:
        """The cell of a claim with this label of its axis."""
        others = {} if label == claim.high else claim.low_at
        return self.cell(claim.at | more | others | {claim.axis: label_of(label, more)})

    def cells_of(self, figure: Figure) -> list[Cell]:
        """The cells that a figure shows."""
        cells = self.sweep.tables[figure.table]
        return [cell for cell in cells if figure.at.items() <= cell.labels.items()]

    def store_of(self, cell: Cell) -> str:
        """The label of the store that a cell is trained on; empty for the main one."""
        label = cell.labels.get(self.file.store_axis, "")
        return label if label in self.file.stores else ""


def label_of(label: str, more: Labels) -> str:
    """A label of a claim's axis in one choice of its `over`: "*" stands for the chosen label."""
    for value in more.values():
        label = label.replace("*", value)
    return label


def choices(claim: Claim) -> list[Labels]:
    """A claim's `over`, choice by choice; one empty choice where there is none."""
    return [{axis: label} for axis, labels in claim.over.items() for label in labels] or [{}]
