"""The first hour of a warehouse: nothing is loaded yet, and plain dbt is the first thing that somebody runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.cli.publish_state import PublishState
from granary.cli.publish_state import publish_state as asked
from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect
from granary.warehouse.writer import LoadTransaction, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.python.project.pipeline.conftest import Pipeline


@pytest.fixture
def empty(opened: Pipeline) -> Iterator[Pipeline]:
    """Return a warehouse with the raw tables of all sources, and not one row; dbt has parsed the project for it."""
    opened.begin_empty()
    with opened.at_hand():
        for source in SOURCES.values():
            with LoadTransaction(opened.settings, source.name) as tx:
                for table in source.tables:
                    tx.ensure_table(Target(source.name, table.name, table.schema, table.key))
        yield opened


def test_a_plain_dbt_build_passes_before_the_first_load(empty: Pipeline) -> None:
    results = empty.dbt("build")
    assert {str(result.status) for result in results.values()} <= {"pass", "success", "no-op"}
    assert empty.query("select count(*) from ops.publish_holds") == [(0,)]
    assert empty.query("select count(*) from ops.unpublished") == [(0,)]
    assert empty.query("select count(*) from marts.fct_sales") == [(0,)]
    assert publish_state(empty).problems == ()


def test_what_never_had_data_fails_and_keeps_nothing_else_from_being_published(empty: Pipeline) -> None:
    """The marketing service was never asked, and its tables are not even there."""
    empty.execute("drop schema raw_marketing cascade")
    results = empty.dbt("run", "--select", "stg_marketing__coupons", "dim_coupon", "dim_date", succeeds=False)
    assert {name: str(result.status) for name, result in results.items() if "-on-run-" not in name} == {
        "stg_marketing__coupons": "error",
        "dim_coupon": "skipped",
        "dim_date": "success",
    }
    assert empty.query("select count(*) > 400 from marts.dim_date") == [(True,)]
    assert empty.query("select distinct reason from ops.publish_holds") == [("has never had data",)]
    empty.dbt("run", "--select", "dim_date")
    told = publish_state(empty)
    assert (told.holds, told.unpublished, told.problems) == ((), (), ())


def publish_state(pipeline: Pipeline) -> PublishState:
    with connect(pipeline.settings) as connection:
        return asked(connection)
