"""A run of `pipelines.bench`: all subjects in turns, so that a machine that is slow for a while is slow for all."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipelines.bench_loaders import VIEWS, folders
from pipelines.bench_process import Subject
from pipelines.bench_stages import StageSubject
from pipelines.bench_subjects import Asked, Row, Starter
from prep.errors import UserError
from prep.progress import bar
from prep.store import Manifest, open_store


@dataclass
class Measured:
    """All that was measured. stages: the rows of costs and limits, by view."""

    asked: Asked
    manifest: Manifest
    loaders: list[Row] = field(default_factory=list)
    peers: list[Row] = field(default_factory=list)
    stages: dict[str, Row] = field(default_factory=dict)
    trainer: Row = field(default_factory=lambda: Row("trainer", ""))


def run(asked: Asked, work: Path) -> Measured:
    """Measure everything. work: a folder for what is made on the way. Raises `UserError`."""
    manifest = open_store(asked.store).manifest
    held = [view for view in VIEWS if folders(manifest, asked.res, view)]
    if not held:
        sides = ", ".join(map(str, manifest.resolutions)) or "none"
        raise UserError(asked.store, f"wanted a view at {asked.res} px, found {sides}", "Choose one of these.")
    views = list(asked.views or held)
    found, held = Measured(asked, manifest), [view for view in views if view in held]
    with ExitStack() as stack, bar(2 + 2 * asked.repeats, "measuring", "turns") as progress:
        starter = Starter(asked, manifest, work, stack)
        found.stages = {view: starter.row("torch", view, StageSubject, partial(asked.setup, view)) for view in held}
        found.loaders = [starter.loader(name, view) for view in views for name in asked.loaders]
        progress.advance()
        if asked.tars is not None:
            found.peers = starter.peers(held)
        progress.advance()
        for _ in range(asked.repeats):
            _measure_alone(found)
            progress.advance()
        for row in found.loaders:
            row.ask(partial(_note_start, row))
        for _ in range(asked.repeats):
            _measure_both(found)
            progress.advance()
    return found


def _note_start(row: Row, subject: Subject) -> None:
    row.first_batch, row.memory = subject.call("start")


def _measure_alone(found: Measured) -> None:
    seconds = found.asked.seconds
    for view, row in found.stages.items():
        row.ask(partial(_note_stages, row, seconds))
        for loader in found.loaders:
            if loader.view == view:
                loader.measure("alone", seconds)
        for peer in found.peers:
            if peer.view == view:
                peer.measure("alone", seconds)
    for peer in found.peers:
        if peer.view not in found.stages:
            peer.measure("alone", seconds)


def _note_stages(row: Row, seconds: float, subject: Subject) -> None:
    for name, cost in subject.call("stages", seconds / 2).items():
        row.costs.setdefault(name, []).append(cost)
    for name, spell in subject.call("limits", seconds / 2).items():
        row.limits.setdefault(name, []).append(spell)
    row.pixel_bytes, row.rows_taken_from = subject.call("pixel_bytes"), subject.call("rows_taken_from")


def _measure_both(found: Measured) -> None:
    """The trainer alone, by the first loader's process; then each loader with a trainer of its own."""
    seconds = found.asked.seconds
    first = next((row for row in found.loaders if row.subject is not None), None)
    if first is not None:
        first.ask(lambda subject: found.trainer.note("alone", subject.call("trainer_alone", seconds)))
    for row in found.loaders:
        row.measure("both", seconds)
