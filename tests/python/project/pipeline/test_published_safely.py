"""Analysts read the marts while they are rebuilt: no query fails or waits, and none sees a mixed state."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

import pytest

from demo import retailer
from granary.warehouse.connection import connect, execute, query
from tests.python.support.readers import KNOWN, TOTALS, Readers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.python.project.pipeline.conftest import Pipeline

BUILD = ("build", "--exclude-resource-type", "test", "unit_test")
VIEW = "select lines, sales, lines, sales from desk.sales"


@pytest.fixture(scope="module", autouse=True)
def beginning(pipeline: Pipeline) -> None:
    """Publish some weeks, and have an analyst make a view on them in a schema of her own."""
    pipeline.day(date(2017, 3, 11))
    pipeline.execute(
        "create schema desk authorization analyst",
        "set role analyst",
        "create view desk.sales as select count(*) as lines, sum(s.sales_value) as sales"
        " from marts.fct_sales as s inner join marts.dim_product as p using (product_key)",
        "reset role",
    )


def totals(pipeline: Pipeline) -> tuple[str, ...]:
    return tuple(map(str, pipeline.query(TOTALS)[0]))


@contextmanager
def halfway(pipeline: Pipeline, readers: Readers) -> Iterator[list[int]]:
    """Stop the publish in its middle, the facts written and the last mart not, until everybody has read meanwhile.

    A lock that writers of that mart wait for, and readers do not, stops it.
    """
    stopped: list[int] = []
    done = threading.Event()
    blocker = connect(pipeline.settings)
    execute(blocker, "lock table marts.promotion_codes in share row exclusive mode")
    waiting = "select count(*) from pg_locks where not granted and relation = 'marts.promotion_codes'::regclass"

    def release() -> None:
        with connect(pipeline.settings, autocommit=True) as watcher:
            while not done.is_set():
                if query(watcher, waiting) == [(1,)]:
                    readers.everybody_reads()
                    stopped.append(sum(readers.rounds))
                    break
        blocker.rollback()

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield stopped
    finally:
        done.set()
        thread.join()
        blocker.close()


@pytest.mark.long
def test_eight_analysts_read_through_an_increment_and_a_full_refresh(pipeline: Pipeline) -> None:
    published = [totals(pipeline)]
    for day, arguments in ((date(2017, 3, 13), BUILD), (date(2017, 3, 20), (*BUILD, "--full-refresh"))):
        with Readers(pipeline.settings, (TOTALS, KNOWN, VIEW)) as readers:
            retailer.advance(pipeline.settings, day)
            pipeline.load()
            with halfway(pipeline, readers) as stopped:
                pipeline.dbt(*arguments)
            readers.everybody_reads()
        published.append(totals(pipeline))
        assert readers.failures == []
        assert readers.mixed == set()
        assert readers.states == set(published[-2:])
        assert len(stopped) == 1, "the publish was not seen in its middle"
        assert min(readers.rounds) >= 4
    assert len(set(published)) == 3
    assert pipeline.query("select lines, sales from desk.sales") == pipeline.query(
        "select count(*), sum(sales_value) from marts.fct_sales"
    )


def test_a_mart_that_fails_its_audit_keeps_all_others_as_they_were(pipeline: Pipeline) -> None:
    """The sales of a new day are built and good; fct_campaign_contacts is not built since its campaign is bad."""
    before, marts = totals(pipeline), pipeline.marts()
    retailer.advance(pipeline.settings, date(2017, 3, 25))
    pipeline.load()
    bad = "update raw_marketing.campaigns set campaign_type = '{}', updated_at = updated_at + interval '1 day'"
    right = pipeline.query("select min(campaign_type) from raw_marketing.campaigns")[0][0]
    pipeline.execute(bad.format("Type Z"))
    with Readers(pipeline.settings) as readers:
        results = pipeline.dbt(*BUILD, succeeds=False)
        readers.everybody_reads()
    assert results["dim_campaign"].status == "error"
    assert results["fct_sales"].status == "success"
    assert readers.failures == []
    assert readers.states == {before}
    assert pipeline.marts() == marts

    # Nor does a good run of something else publish them, until what failed has succeeded.
    pipeline.dbt("run", "--select", "dim_store", succeeds=False)
    assert pipeline.marts() == marts
    held = dict(pipeline.query("select split_part(node, '.', 3), reason from ops.publish_holds"))
    # No redemption has ever come, so what waits for redemptions keeps nobody from anything.
    empty = {"fct_coupon_redemptions", "int_redemptions__bought_lines", "redemption_attribution"}
    assert {name for name, reason in held.items() if reason == "has never had data"} == empty
    assert {name for name, reason in held.items() if reason == "failed"} == {"dim_campaign"}
    assert (
        {"dim_coupon", "fct_campaign_contacts"}
        <= {name for name, reason in held.items() if reason == "was skipped"}
        == set(held) - empty - {"dim_campaign"}
    )
    pipeline.execute(bad.format(right))
    pipeline.dbt(*BUILD)
    assert totals(pipeline) != before
    assert pipeline.query("select count(*) from ops.unpublished") == [(0,)]


def test_the_readers_would_notice_a_swap_in_place(pipeline: Pipeline) -> None:
    """As dbt does it: the new table takes the name of the old, and hooks run before the commit."""
    with Readers(pipeline.settings) as readers, connect(pipeline.settings) as connection:
        execute(connection, "set local role transformer")
        execute(connection, "create table marts.fct_baskets__tmp as select * from marts.fct_baskets")
        execute(connection, "alter table marts.fct_baskets rename to fct_baskets__old")
        execute(connection, "alter table marts.fct_baskets__tmp rename to fct_baskets")
        while len(readers.failures) < readers.count:
            query(connection, "select 1")
        connection.rollback()
    assert any("lock timeout" in failure for failure in readers.failures)


def test_the_readers_would_notice_marts_that_are_published_one_by_one(pipeline: Pipeline) -> None:
    with Readers(pipeline.settings) as readers, connect(pipeline.settings) as connection:
        for table in ("fct_sales", "fct_baskets"):
            execute(connection, f"create temporary table kept_{table} as select * from marts.{table}")
        last = "(select max(business_date) from kept_fct_sales)"
        for table in ("fct_sales", "fct_baskets"):
            execute(connection, f"delete from marts.{table} where business_date = {last}")
            connection.commit()
            readers.everybody_reads()
        for table in ("fct_sales", "fct_baskets"):
            execute(connection, f"insert into marts.{table} select * from kept_{table} where business_date = {last}")
        connection.commit()
    assert readers.failures == []
    assert len(readers.mixed) == 1
