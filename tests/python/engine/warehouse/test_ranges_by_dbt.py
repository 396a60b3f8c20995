"""A mart that declares ranges, as dbt builds and publishes it from day to day, until its history is archived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt.cli.main import dbtRunner

from granary.warehouse import archive
from granary.warehouse.connection import connect, execute, query
from tests.python.support.business import BUSINESS

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

RECEIPTS = """
    create schema raw_till;
    create table raw_till.receipts as
    select
        n as receipt_id, bigint '1' as article_id, n / 4.0 as amount,
        timestamp '2017-01-15' + n * interval '1 day' as paid_at
    from generate_series(bigint '0', 30) as n;
    grant usage on schema raw_till to transformer;
    grant select on all tables in schema raw_till to transformer
"""
PARTS = "select cast(part as text), lower, upper from ops.ranges_of('marts.fct_receipts') order by upper"
JANUARY, FEBRUARY, MARCH, APRIL = (f"partitions.fct_receipts__2017_0{month}_01" for month in (1, 2, 3, 4))


def test_a_declared_mart_is_built_grown_pruned_and_archived(warehouse: Settings, tmp_path: Path) -> None:
    def build() -> None:
        places = ("--project-dir", str(BUSINESS), "--profiles-dir", str(BUSINESS), "--target-path", str(tmp_path))
        quiet = ("--log-path", str(tmp_path), "--log-level", "error", "--no-write-json", "--threads", "1")
        done = dbtRunner().invoke(["build", *places, *quiet, "--select", "fct_receipts"])
        assert done.success, done.exception or [one.message for one in getattr(done.result, "results", [])]

    def rows(sql: str) -> list[tuple[object, ...]]:
        with connect(warehouse) as connection:
            return query(connection, sql)

    def change(sql: str) -> None:
        with connect(warehouse) as connection:
            execute(connection, sql)
            connection.commit()

    def written() -> dict[str, int]:
        """Return by partition how many rows were written by the transaction that wrote last."""
        found = rows(
            "select cast(tableoid::regclass as text), count(*) from marts.fct_receipts where cast(xmin as text) ="
            " (select cast(xmin as text) from marts.fct_receipts order by age(xmin) limit 1) group by 1"
        )
        return {str(name): int(str(number)) for name, number in found}

    for statement in RECEIPTS.split(";"):
        change(statement)
    build()
    assert rows(PARTS) == [
        (JANUARY, "2017-01-01", "2017-02-01"),
        (FEBRUARY, "2017-02-01", "2017-03-01"),
        (MARCH, "2017-03-01", "2017-04-01"),
    ]
    assert written() == {JANUARY: 17, FEBRUARY: 14}

    change("insert into raw_till.receipts values (31, 1, 9, '2017-03-01 12:00'), (32, 1, 9, '2017-03-01 13:00')")
    build()
    assert written() == {MARCH: 2}  # the others stay as they were
    assert [name for name, _, _ in rows(PARTS)] == [JANUARY, FEBRUARY, MARCH, APRIL]
    plan = rows("explain select sum(amount) from marts.fct_receipts where business_date = '2017-03-01'")
    assert {name for name, _, _ in rows(PARTS) if str(name).partition(".")[2] in str(plan)} == {MARCH}

    (taken,) = archive.archive(warehouse, "marts", "fct_receipts", "2017-02-01")
    assert (taken.name, rows(f"select count(*) from {taken.name}")) == ("archive.fct_receipts__2017_01_01", [(17,)])
    change("insert into raw_till.receipts values (33, 1, 9, '2017-03-02 12:00')")
    build()
    assert rows("select min(business_date)::text, count(*) from marts.fct_receipts") == [("2017-02-01", 17)]
    assert rows("select count(*) from build.fct_receipts") == [(34,)]
