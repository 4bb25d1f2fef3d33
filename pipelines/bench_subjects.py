"""The subjects of `pipelines.bench`: which there are, what they read, and what was measured of each."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pipelines.bench_loaders import LoaderSubject, Memory, Setup, Spell, folders
from pipelines.bench_pairs import export_beton, write_peer_data
from pipelines.bench_peers import PEERS, PeerSetup, PeerSubject
from pipelines.bench_process import NotRunError, Subject
from prep.errors import UserError
from prep.store import Manifest

MAX_BETON = 4 << 30
"""Bytes of a view that is exported for FFCV; a larger one is not measured with it."""

_NUM_PEER_PAIRS = 2048
_MIN_TARS = 8

PEER_VIEW = "256 px"
"""What most peers read, where our loaders read a view."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command line; see `pipelines.bench`. views: None for those that the store has. tars: None for no peers."""

    store: str
    res: int
    text_tokens: int
    batch_size: int
    loaders: tuple[str, ...]
    views: tuple[str, ...] | None
    cores: tuple[int, ...]
    seconds: float
    repeats: int
    device: str
    needs: float | None
    trainer: str
    tars: str | None
    peer_batch_size: int
    nltk_data: str | None

    def setup(self, view: str, loader: str = "torch", betons: tuple[str, ...] = ()) -> Setup:
        """What a subject is made of."""
        return Setup(
            store=self.store,
            res=self.res,
            text_tokens=self.text_tokens,
            batch_size=self.batch_size,
            view=view,
            loader=loader,
            threads=len(self.cores),
            device=self.device,
            betons=betons,
            needs=self.needs,
            trainer=self.trainer,
        )


@dataclass
class Row:
    """A subject and what was measured of it, a value a turn. reason: why it was not measured, where it was not.

    costs: seconds a sample, by stage. limits: by name. pixel_bytes: of a sample, decoded.
    rows_taken_from: by `pyarrow.take`, whose cost grows with them.
    """

    name: str
    view: str
    subject: Subject | None = None
    reason: str | None = None
    spells: dict[str, list[Spell]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)
    limits: dict[str, list[Spell]] = field(default_factory=dict)
    pixel_bytes: float = 0.0
    rows_taken_from: int = 0
    first_batch: float = 0.0
    memory: Memory = field(default_factory=lambda: Memory(0, 0))

    def rates(self, what: str) -> list[float]:
        """Samples a second, a value a turn; none where it was not run to the end."""
        return [] if self.reason is not None else [spell.rate for spell in self.spells.get(what, [])]

    def ask(self, work: Callable[[Subject], None]) -> None:
        """Do something with the subject, if there is one; from the first failure on there is none."""
        if self.subject is None:
            return
        try:
            work(self.subject)
        except NotRunError as error:
            self.subject, self.reason = None, str(error)

    def measure(self, what: str, seconds: float) -> None:
        """One spell more."""
        self.ask(lambda subject: self.note(what, subject.call(what, seconds)))

    def note(self, what: str, spell: Spell) -> None:
        """Keep a spell."""
        self.spells.setdefault(what, []).append(spell)


@dataclass
class Starter:
    """Starts subjects, and makes what they read. work: a folder for that."""

    asked: Asked
    manifest: Manifest
    work: Path
    stack: ExitStack
    _betons: dict[str, str | UserError] = field(default_factory=dict)

    def row(self, name: str, view: str, make: Callable[..., object], setup: Callable[[], object]) -> Row:
        """A subject, or the reason why not: a `UserError` of `setup`, or whatever `make` raises in its process."""
        row = Row(name, view)
        try:
            row.subject = self.stack.enter_context(Subject(make, [setup()], self.asked.cores))
        except UserError as error:
            row.reason = error.problem
        except NotRunError as error:
            row.reason = str(error)
        return row

    def betons(self, view: str) -> tuple[str, ...]:
        """The view exported for FFCV, a file a crop, made once. Raises `UserError` where it is too large."""
        columns = folders(self.manifest, self.asked.res, view)
        if (size := sum(self.manifest.columns[name].num_bytes for name in columns)) > MAX_BETON:
            raise UserError(view, f"its {size >> 30} GiB were not exported for FFCV", "Measure a smaller store.")
        return tuple(self._beton(name) for name in columns)

    def _beton(self, column: str) -> str:
        if column not in self._betons:
            try:
                self._betons[column] = export_beton(self.asked.store, column, self.work / f"{column}.beton")
            except UserError as error:
                self._betons[column] = error
        found = self._betons[column]
        if isinstance(found, UserError):
            raise found
        return found

    def loader(self, name: str, view: str) -> Row:
        """One of our loaders on one view."""

        def setup() -> Setup:
            return self.asked.setup(view, name, self.betons(view) if name == "ffcv" else ())

        if not folders(self.manifest, self.asked.res, view):
            return Row(name, view, reason="the store has no such view")
        return self.row(name, view, LoaderSubject, setup)

    def peers(self, views: list[str]) -> list[Row]:
        """Every peer; FFCV on each view."""
        asked, rows = self.asked, []
        assert asked.tars is not None
        num_tars = max(_MIN_TARS, len(asked.cores))
        data = write_peer_data(self.work / "peers", asked.tars, _NUM_PEER_PAIRS, num_tars)
        common = PeerSetup(
            name="",
            data=data,
            res=asked.res,
            text_tokens=asked.text_tokens,
            batch_size=asked.peer_batch_size,
            workers=len(asked.cores),
            scratch=str(self.work / "scratch"),
            nltk_data=asked.nltk_data,
        )
        for name in PEERS:
            if name != "ffcv":
                rows.append(self.row(name, PEER_VIEW, PeerSubject, partial(replace, common, name=name)))
        for view in views:
            rows.append(self.row("ffcv", view, PeerSubject, partial(self._ffcv, common, view)))
        return rows

    def _ffcv(self, common: PeerSetup, view: str) -> PeerSetup:
        size = self.asked.batch_size
        beton, num = self.betons(view)[0], self.manifest.num_samples
        return replace(common, name="ffcv", beton=beton, num_rows=num, batch_size=size, is_bank="bank" in view)
