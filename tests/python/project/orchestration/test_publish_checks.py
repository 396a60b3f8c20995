"""The checks of what was published: what they warn of, in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from granary.dagster.instance import environment, inside
from granary.dagster.publish_checks import closed_months, everything, publish_checks
from granary.dagster.resources import Warehouse
from granary.dbt import manifest as dbt_manifest
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from granary.dagster.run import RunOutcome
    from tests.python.project.orchestration.conftest import Place

SALES = "model.grocer.fct_sales"
RESTATED = ("fct_sales", "2017-01", 2, 3, '{"sales_value": 5.50}', "loads 12", False)


def test_a_closed_month_that_changed_is_a_warning_with_its_numbers() -> None:
    assert closed_months([]).passed
    found = closed_months([RESTATED, ("fct_baskets", *RESTATED[1:])])
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == (
        'fct_sales 2017-01: 2 rows, now 3; {"sales_value": 5.50}; loads 12; '
        'fct_baskets 2017-01: 2 rows, now 3; {"sales_value": 5.50}; loads 12'
    )
    assert found.metadata["months restated"].value == 2
    erased = (*RESTATED[:5], "loads none; erasures 1", True)
    assert closed_months([erased]).passed
    assert closed_months([erased]).metadata["months restated"].value == 1
    assert closed_months([erased, RESTATED]).description == (
        'fct_sales 2017-01: 2 rows, now 3; {"sales_value": 5.50}; loads 12'
    )


def test_marts_that_wait_are_a_warning_with_what_holds_them() -> None:
    assert everything([], ["fct_promotions failed"]).passed
    found = everything(["dim_store", "fct_sales"], ["fct_baskets failed"])
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "dim_store, fct_sales: not published, since fct_baskets failed"


def test_the_checks_ask_the_warehouse(place: Place, first: RunOutcome) -> None:
    assert first.success
    with inside(environment(place.settings)):
        checks = publish_checks(dbt_manifest.load(dbt_manifest.prepare(place.settings)))
        assert [one.passed for one in checks(warehouse=Warehouse())] == [True, True]
        try:
            run(
                place,
                "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'fct_sales', 'x')",
                f"insert into ops.publish_holds values ('marts', '{SALES}', 'failed', 'x')",
                "update ops.publishes set last_date = '2017-02-07'",
                "insert into ops.publishes (schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted,"
                " last_date, loads_seen) values ('marts', 'x', now(), '{fct_sales}', 1, 0, '2017-02-08', '{}')",
                "insert into ops.published_months select max(publish_id), 'fct_sales', '2017-01-01', 1, 0, 2, 3,"
                """ '{"sales_value": 1.00}', '{"sales_value": 6.50}' from ops.publishes""",
            )
            months, waiting = checks(warehouse=Warehouse())
        finally:
            run(
                place,
                "delete from ops.unpublished where invocation_id = 'x'",
                "delete from ops.publish_holds where invocation_id = 'x'",
                "delete from ops.published_months where publish_id ="
                " (select publish_id from ops.publishes where invocation_id = 'x')",
                "delete from ops.publishes where invocation_id = 'x'",
                "update ops.publishes set last_date = '2017-02-02'",
            )
    assert months.description == (
        'fct_sales 2017-01: 2 rows, now 3; {"sales_value": 5.50}; loads none: a model changed'
    )
    assert waiting.description == "fct_sales: not published, since fct_sales failed"


def run(place: Place, *statements: str) -> None:
    with connect(place.settings) as connection:
        for sql in statements:
            execute(connection, sql)
        connection.commit()
