"""What the command shows while long work goes on: moving lines on a terminal, a line per finished step in a file."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from granary.cli import output
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from granary.dbt.run_events import Event
    from granary.load.api import Progress as LoadProgress

ENOUGH_TO_GUESS = 5
"""Tables that must be done before the time that the rest takes is guessed."""


@contextmanager
def load_progress(*, quiet: bool) -> Iterator[Callable[[LoadProgress], None] | None]:
    """Show a row per table with its unit, rows so far and time while loads run."""
    if quiet:
        yield None
        return
    bars = bars_on(output.console)
    tasks: dict[str, Any] = {}
    totals: dict[str, dict[str, int]] = {}

    def update(progress: LoadProgress) -> None:
        name = f"{progress.source}.{progress.table}"
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=None, rows=0, note="")
        seen = totals.setdefault(name, {})
        seen[progress.unit] = progress.rows
        bars.update(tasks[name], rows=sum(seen.values()), note=str(progress))

    with bars:
        yield update


@contextmanager
def counting(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar of so many steps, with the name of the one at hand; in a file nothing is shown."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console, transient=True, disable=not output.console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def update(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun)
            begun += 1

        yield update


@contextmanager
def deliveries(opening: str) -> Iterator[Callable[[Any], None]]:
    """Show what sample systems deliver, beginning with these words: the system, the item and the rows so far."""
    with bars_on(output.console) as bars:
        task = bars.add_task(opening, total=None, rows=0, note="")
        total = 0

        def update(step: Any) -> None:
            nonlocal total
            total += step.rows
            bars.update(task, description=f"{step.system} delivers", rows=total, note=step.item)

        yield update


@contextmanager
def running(*, quiet: bool = False) -> Iterator[Callable[[Event], None]]:
    """Show a pipeline run while it works: the tables that load with their rows, the model at hand, checks so far.

    The run redirects standard output to its log, so this writes to a copy of it. On a terminal the lines move; in
    a file each finished table leaves one line.
    """
    from granary.dagster.run import terminal

    if quiet:
        yield lambda _: None
        return
    with terminal(sys.stdout) as stream:
        screen = Console(file=stream, highlight=False)
        with bars_on(screen) as bars:
            view = RunView(bars, screen)
            yield view.update


class RunView:
    """The moving lines of a pipeline run."""

    def __init__(self, bars: Progress, screen: Console) -> None:
        self.bars, self.screen = bars, screen
        self.tasks: dict[str, TaskID] = {}
        self.planned, self.done = 0, set[str]()
        self.passed = self.failed = 0
        self.began = time.monotonic()
        self.expected: Mapping[str, float] = {}
        self.checks: TaskID | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def update(self, event: Event) -> None:
        """Take in one event."""
        if event.kind == "planned":
            self.planned, self.expected = event.rows or 0, event.expected or {}
            self.whole = self.bars.add_task("", total=None, rows=0, note="")
        elif event.kind == "checked":
            self.passed += bool(event.passed)
            self.failed += not event.passed
            if self.checks is None:
                self.checks = self.bars.add_task("checks", total=None, rows=0, note="")
            note = f"{self.failed} not passed" if self.failed else "all passed"
            self.bars.update(self.checks, description="checks", rows=self.passed + self.failed, note=note)
        elif event.kind in ("started", "rows"):
            if event.name not in self.tasks:
                self.tasks[event.name] = self.bars.add_task(event.name, total=None, rows=0, note=event.stage)
            self.bars.update(self.tasks[event.name], rows=event.rows or 0, note=event.detail or event.stage)
        elif event.kind in ("skipped", "waiting"):
            self.planned -= event.rows or 0
            self.expected = {**self.expected, **(event.expected or {})}
            self.screen.print(f"{self.seconds:6.1f} s  {event.kind:<13}{event.name}: {event.detail}", markup=False)
        elif event.name in self.tasks:
            self.bars.remove_task(self.tasks.pop(event.name))
            if event.kind in ("finished", "materialized"):
                self.done.add(event.name)
            if not self.screen.is_terminal or event.kind in ("failed", "retrying"):
                rows = f"{plural(event.rows, 'row')}" if event.rows is not None else ""
                took = f"{event.seconds:8.1f} s" if event.seconds else ""
                text = f"{self.seconds:6.1f} s  {self.progress():<10}{event.kind:<13}{event.name:<34} {rows:<16} {took}"
                self.screen.print(text.rstrip(), markup=False, soft_wrap=True)
        if self.planned:
            self.bars.update(self.whole, description=self.progress(), note=self.left())

    def progress(self) -> str:
        """How many of the run's tables and views are done: "12 of 63"."""
        return f"{len(self.done)} of {self.planned}" if self.planned else ""

    def left(self) -> str:
        """About how long the rest takes: by earlier runs, at this run's pace; else each as long as those before it."""
        if self.expected:
            done = sum(self.expected.get(name, 0) for name in self.done)
            rest = sum(self.expected.values()) - done
            pace = self.seconds / done if done > rest / ENOUGH_TO_GUESS else 1
            return f"about {rest * pace:.0f} s left"
        if len(self.done) < ENOUGH_TO_GUESS:
            return ""
        return f"about {self.seconds / len(self.done) * (self.planned - len(self.done)):.0f} s left"


def bars_on(screen: Console) -> Progress:
    """Return the lines of long work: what it is, its rows, its time, and a note."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<34}"),
        TextColumn("{task.fields[rows]:>12,}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=screen,
        transient=True,
        auto_refresh=screen.is_terminal,  # in a file nothing moves, and drawing it took a fifteenth of a run
    )
