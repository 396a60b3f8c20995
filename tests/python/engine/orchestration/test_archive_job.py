"""The job `archive_raw`: there where a contract asks for it, and failed where something could not be moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from granary.dagster.archive_job import archive_jobs
from granary.dagster.resources import Warehouse
from granary.sources import discovery
from granary.sources.discovery import SOURCES
from granary.tiering import run
from granary.tiering.archive import Moved
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    import pytest

    from granary.warehouse.settings import Settings


def test_the_job_moves_what_contracts_say(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert archive_jobs() == []
    till = SOURCES["till"]
    old = replace(till.table("receipts"), archive_after=timedelta(days=400))
    monkeypatch.setitem(discovery._found, "till", replace(till, tables=(old, till.table("prices"))))
    (job,) = archive_jobs()
    project = dg.Definitions(jobs=[job], resources={"warehouse": Warehouse()})
    assert "archive_raw" in {one.name for one in project.resolve_all_job_defs()}
    asked: list[Any] = []

    def archived(settings: Settings, tables: run.Chosen, **_: Any) -> tuple[list[Moved], list[GranaryError]]:
        asked.append((settings.home, tables))
        return [Moved("till", "receipts", "2017-01-01", 1, 2, 1)], failures

    failures: list[GranaryError] = []
    monkeypatch.setattr(run, "archived", archived)
    assert job.execute_in_process(resources={"warehouse": Warehouse()}).success
    assert asked == [(warehouse.home, [("till", old)])]
    failures.append(GranaryError("the bucket is gone"))
    assert not job.execute_in_process(resources={"warehouse": Warehouse()}, raise_on_error=False).success
