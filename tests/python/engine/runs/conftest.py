"""Hired bikes that ran once through Dagster: runs that fail, are killed, or overwrite days, on a small project."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from granary.dagster.instance import environment
from granary.dagster.run import run_job
from granary.warehouse.connection import connect, execute
from tests.python.support.club_hire import ClubHire
from tests.python.support.project_process import ProjectProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    from granary.dagster.run import RunOutcome
    from granary.dagster.windows import Window
    from granary.dbt.run_events import Event
    from granary.warehouse.settings import Settings
    from tests.python.support.project_process import Tell


def run(settings: Settings, tell: Tell, job: str, window: Window | None, full_refresh: bool) -> RunOutcome:
    """Run a job: to be called in a process of the project."""
    return run_job(settings, job, window=window, full_refresh=full_refresh, on_event=tell)


@dataclass
class Place:
    """The project, its warehouse and a process of it; `run` runs a job and keeps the events."""

    hire: ClubHire
    variables: dict[str, str]
    process: ProjectProcess
    events: list[Event] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """Return the warehouse."""
        return self.hire.settings

    def run(self, job: str = "everything", *, window: Window | None = None, full_refresh: bool = False) -> RunOutcome:
        """Run a job in the process."""
        self.events.clear()
        return self.process.call(run, job, window, full_refresh, listen=self.events.append)

    def another(self, folder: Path) -> ProjectProcess:
        """Start another process, which may be killed."""
        return ProjectProcess(self.variables, folder / "errors")

    def materialized(self) -> set[str]:
        """Return what the last run brought up to date in dbt."""
        return {event.name for event in self.events if event.kind == "materialized"}

    def execute(self, *statements: str) -> None:
        """Change the warehouse."""
        with connect(self.settings) as connection:
            for sql in statements:
                execute(connection, sql)
            connection.commit()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the warehouse."""
        return self.hire.rows(sql)

    def rides_of(self, day: date) -> object:
        """Count the rides of a day that people see."""
        return self.rows(f"select count(*)::int from marts.fct_rides where business_date = '{day}'")[0][0]


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def made(make_warehouse: Callable[[str], Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return the project with the rides of four days, its warehouse still empty."""
    folder = tmp_path_factory.mktemp("runs")
    hire = ClubHire(make_warehouse("club_hire"), folder)
    hire.join((7, "Ulm", "2026-01-01"), (8, "Bonn", "2026-01-01"), (9, "Kiel", "2026-01-02"))
    hire.deliver("2026-01-05", (1, 7, "1.00"), (2, 8, "2.00"))
    hire.deliver("2026-01-06", (3, 8, "3.00"), (4, 9, "4.00"), (5, 9, "4.50"))
    hire.deliver("2026-01-07", (6, 7, "5.00"))
    hire.deliver("2026-01-20", (7, 9, "6.00"), (8, 7, "7.00"))
    variables = environment(hire.settings) | hire.environment(folder / "archive")
    found = Place(hire, variables, ProjectProcess(variables, folder / "errors"))
    yield found
    found.process.end()


@pytest.fixture(scope="session")
def first(made: Place) -> RunOutcome:
    """Return the outcome of the first run: everything in one go."""
    outcome = made.run()
    assert outcome.success, outcome.failures
    return outcome


@pytest.fixture
def place(made: Place, first: RunOutcome) -> Place:
    """Return the project after its first run, and with all published that an earlier test left unfinished."""
    assert first.success
    if made.rows("select from ops.unpublished") or made.rows("select from ops.publish_holds"):
        assert made.run().success
    return made
