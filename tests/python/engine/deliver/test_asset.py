"""Deliveries in Dagster: downstream of their marts, with a check of what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from granary.dagster import deliveries
from granary.dagster.resources import Warehouse
from tests.python.engine.deliver.conftest import delivery

if TYPE_CHECKING:
    from granary.deliver.spec import HttpApi
    from tests.python.support.delivery_service import Service
    from tests.python.support.rides import Rides


def test_it_follows_its_marts(api: HttpApi) -> None:
    made = deliveries.asset(delivery(api, mart="", query="select 1", reads=("rentals", "docks"), key=("x",)))
    assert made.key == dg.AssetKey(["deliveries", "rentals_out"])
    assert made.asset_deps[made.key] == {dg.AssetKey(["marts", "rentals"]), dg.AssetKey(["marts", "docks"])}


@pytest.mark.usefixtures("rides")
def test_it_delivers_and_warns_of_what_was_refused(service: Service, api: HttpApi) -> None:
    service.refuses = lambda row: row["key"]["rental"] == 3
    done = dg.materialize([deliveries.asset(delivery(api))], resources={"warehouse": Warehouse()})
    assert done.success
    (check,) = done.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == "1 row refused: `granary quarantine list deliveries.rentals_out`"
    (event,) = done.get_asset_materialization_events()
    seen = {name: value.value for name, value in event.materialization.metadata.items()}
    assert (seen["rows"], seen["new"], seen["refused"]) == (3, 3, 1)


def test_one_that_fails_says_why(rides: Rides, service: Service, api: HttpApi) -> None:
    service.answers = [(404, {})]
    done = dg.materialize([deliveries.asset(delivery(api))], resources={"warehouse": Warehouse()}, raise_on_error=False)
    assert not done.success
    (failure,) = done.get_step_failure_events()
    assert "the service answered 404" in str(failure.step_failure_data.error)
    assert [values[0] for values in rides.rows("select count(*) from ops.delivered_rows where batch is not null")] == [
        3
    ]
