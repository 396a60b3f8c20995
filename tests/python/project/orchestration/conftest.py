"""One small retailer that ran once through Dagster, for the tests that look at what a run leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pytest

from demo import retailer
from granary.dagster.assemble import assemble
from granary.dagster.instance import environment, inside, open_instance
from granary.dagster.run import run_job
from granary.warehouse.connection import connect, query
from orchestration.jobs import jobs as project_jobs
from orchestration.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dagster as dg

    from granary.dagster.run import RunOutcome
    from granary.dagster.windows import Window
    from granary.dbt.run_events import Event
    from granary.warehouse.settings import Settings

HOUSEHOLDS = 25
FIRST_CLOCK = date(2017, 2, 2)


@pytest.fixture(scope="session")
def settings(place: Place) -> Settings:
    """Return the warehouse of the runs, for which dbt parses the project in any case."""
    return place.settings


@pytest.fixture(scope="session")
def definitions(settings: Settings) -> dg.Definitions:
    """Return the definitions, as they are before the first run."""
    return assemble(settings, project_jobs, SCHEDULES)


@dataclass
class Place:
    """A retailer and its warehouse; `run` runs a job and keeps the events."""

    settings: Settings
    events: list[Event] = field(default_factory=list)

    def run(
        self,
        job: str = "everything",
        *,
        window: Window | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> RunOutcome:
        """Run a job with the retailer's systems up."""
        self.events.clear()

        def listen(event: Event) -> None:
            self.events.append(event)
            on_event(event)

        with retailer.systems(self.settings):
            return run_job(self.settings, job, window=window, on_event=listen)

    def rows(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        """Query the warehouse."""
        with connect(self.settings) as connection:
            return query(connection, sql, *parameters)


@pytest.fixture(scope="session")
def place(make_warehouse: Callable[[str], Settings]) -> Place:
    """Return a retailer of 25 households on the evening of 2 February 2017, its warehouse still empty."""
    settings = make_warehouse("dagster")
    retailer.open_for_business(settings, households=HOUSEHOLDS)
    retailer.advance(settings, FIRST_CLOCK)
    return Place(settings)


@pytest.fixture(scope="session")
def first(place: Place) -> RunOutcome:
    """Return the outcome of the first run: everything until 2 February in one go."""
    return place.run()


@pytest.fixture
def instance(place: Place, first: RunOutcome) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance in which the first run happened."""
    assert first.success, first.failures
    with inside(environment(place.settings)), open_instance() as opened:
        yield opened
