"""A progress bar for work that takes more than a few seconds; silent when stderr is not a terminal."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Units a second, averaged over rich's window."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The rate so far, or nothing before the first step."""
        return Text(f"{task.speed:,.0f} {self.unit}/s" if task.speed else "", style="progress.data.speed")


class Bar:
    """A bar to advance by hand."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, n: float = 1) -> None:
        """Move on by n units."""
        self._progress.advance(self._task, n)

    def describe(self, text: str) -> None:
        """Change the text before the bar."""
        self._progress.update(self._task, description=text)


@contextmanager
def bar(total: int | None, description: str, unit: str) -> Iterator[Bar]:
    """A bar of `total` units (None: unknown) named in the plural, such as "pairs"."""
    with _progress("{task.completed:,.0f}" + ("/{task.total:,.0f}" if total is not None else ""), unit) as progress:
        yield Bar(progress, progress.add_task(description, total=total))


@contextmanager
def bars(totals: Mapping[str, int], unit: str) -> Iterator[list[Bar]]:
    """Several bars, one under the other, by description."""
    with _progress("{task.completed:,.0f}/{task.total:,.0f}", unit) as progress:
        yield [Bar(progress, progress.add_task(description, total=total)) for description, total in totals.items()]


def _progress(count: str, unit: str) -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(count),
        TextColumn(unit),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    redirect = sys.stdout is not None and sys.stdout.isatty()
    return Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=redirect)
