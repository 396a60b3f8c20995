"""What a schedule asks for: sources do not wait for one another, and a day without files is a day all the same."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from granary.dagster.pending import pending, quiet_day
from granary.dagster.resources import Warehouse
from granary.dagster.schedules import daily_schedule
from granary.dagster.windows import last_closed_date
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

DAILY = daily_schedule("daily", "30 5 * * *", "Every morning.")
MORNING = datetime(2017, 3, 13, 9, 30, tzinfo=timezone.utc)


def asked(monkeypatch: pytest.MonkeyPatch, waiting: dict[str, list[date] | Exception]) -> list[Any]:
    """Return what the daily schedule asks for on the morning of 13 March with these files waiting."""

    def pending_dates(_: Settings, source: str) -> list[date]:
        found = waiting.get(source, [])
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("granary.load.api.pending_dates", pending_dates)
    with (
        dg.DagsterInstance.local_temp() as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=MORNING, resources={"warehouse": Warehouse()}
        ) as context,
    ):
        return list(DAILY(context))  # type: ignore[call-overload]


def overwrites(request: Any) -> bool:
    return bool(request.run_config["ops"]["dbt"]["config"]["overwrite_window"])


@pytest.mark.usefixtures("warehouse")
def test_a_day_without_files_is_run_all_the_same_and_rebuilds_no_day(monkeypatch: pytest.MonkeyPatch) -> None:
    (request,) = asked(monkeypatch, {})
    assert not overwrites(request)
    assert request.partition_key == last_closed_date(datetime.now(timezone.utc)).isoformat()


@pytest.mark.usefixtures("warehouse")
def test_a_day_with_files_is_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    day, later = date(2017, 3, 12), date(2017, 3, 13)
    (request,) = asked(monkeypatch, {"till": [day], "events": [day, later]})
    assert overwrites(request)
    assert request.tags["granary/window"] == "2017-03-12/2017-03-12"


@pytest.mark.usefixtures("warehouse")
def test_after_three_days_of_downtime_one_run_covers_the_days_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    (request,) = asked(monkeypatch, {"till": [date(2017, 3, day) for day in (10, 11, 12)]})
    assert request.tags["granary/window"] == "2017-03-10/2017-03-12"
    assert request.partition_key == "2017-03-12"


def test_a_system_that_cannot_be_asked_holds_up_no_other(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    day = date(2017, 3, 12)
    for failure in (GranaryError("GRANARY_TILL_LANDING is not set"), PermissionError("no")):
        (request,) = asked(monkeypatch, {"till": failure, "events": [day]})
        assert request.partition_key == "2017-03-12"
        assert pending(warehouse) == [day]


def test_before_the_first_file_ever_a_run_is_of_the_day_that_closed_last(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = last_closed_date(datetime.now(timezone.utc))
    assert quiet_day(warehouse) == (closed, closed)
    monkeypatch.setenv("GRANARY_LAST_DATE", "2017-12-31")
    assert quiet_day(warehouse) == (date(2017, 12, 31), date(2017, 12, 31))
    monkeypatch.setenv("GRANARY_LAST_DATE", (closed + timedelta(days=9)).isoformat())
    assert quiet_day(warehouse) == (closed, closed)
