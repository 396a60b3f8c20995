"""Marts whose published tables are partitioned by the server: made, overwritten, archived, and never waited for."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.cli import health
from granary.privacy import locations
from granary.warehouse import archive, doctor_queries, storage
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, UsageError
from tests.python.engine.warehouse.test_publish import MONTHS, Marts, marts
from tests.python.support.command import granary

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

__all__ = ["marts"]

PARTS = "select cast(part as text), lower, upper from ops.ranges_of('marts.rentals') order by upper"
KIND = "select relkind::text from pg_class where oid = 'marts.rentals'::regclass"
ROWS = "select rental from marts.rentals order by rental"
JANUARY, FEBRUARY = date(2021, 1, 1), date(2021, 2, 1)
BY_MONTH = {"column": "business_date", "by": "month", "ahead": 1}


def declare(marts: Marts, ranges: dict[str, Any] | None, *grain: str) -> None:
    """Have the mart overwritten by its business date, and its published table partitioned so."""
    marts.mart["partition"] = ["business_date"]
    marts.meta |= {
        "range_partitions": ranges,
        "declared_indexes": [
            {"name": "rentals_grain", "columns": list(grain or ("rental", "business_date")), "unique": True}
        ],
    }


def mask(marts: Marts) -> None:
    marts.mart["columns"] = {"rider": {"personal": "identifier"}}


def leave(marts: Marts) -> None:
    """Let go of what dbt would have let go of."""
    marts.run("commit", "select pg_advisory_unlock_all()", "commit")


def document(marts: Marts) -> str:
    """Return what a publish is called with."""
    return marts.document()


@pytest.fixture
def by_month(marts: Marts) -> Marts:
    """Return the mart of bike rentals, published by month in place of the ordinary table that was there."""
    declare(marts, BY_MONTH)
    marts.publish()
    leave(marts)
    return marts


def test_a_table_that_was_an_ordinary_one_is_replaced_by_one_with_partitions(by_month: Marts) -> None:
    assert by_month.rows(PARTS) == [
        ("partitions.rentals__2021_01_01", "2021-01-01", "2021-02-01"),
        ("partitions.rentals__2021_02_01", "2021-02-01", "2021-03-01"),
        ("partitions.rentals__2021_03_01", "2021-03-01", "2021-04-01"),  # made ahead
    ]
    assert by_month.rows("select tableoid::regclass::text, rental from marts.rentals order by rental") == [
        ("partitions.rentals__2021_01_01", 1),
        ("partitions.rentals__2021_01_01", 2),
        ("partitions.rentals__2021_02_01", 3),
    ]
    assert by_month.rows("select indexname::text from pg_indexes where schemaname = 'marts'") == [("rentals_grain",)]
    assert by_month.rows(
        "select count(*), bool_and(indisvalid and indisunique) from pg_index"
        " where indrelid in (select part from ops.ranges_of('marts.rentals'))"
    ) == [(3, True)]
    assert by_month.rows("select relacl::text from pg_class where oid = 'marts.rentals'::regclass") == [
        ("{transformer=arwdDxtm/transformer,analyst=r/transformer,auditor=r/transformer}",)
    ]
    assert by_month.rows(
        "select attname::text from pg_attribute"
        " where attrelid = 'marts.rentals'::regclass and attnum > 0 and attnotnull order by attnum"
    ) == [("rental",), ("business_date",)]


def test_a_partitioned_table_becomes_an_ordinary_one_again(by_month: Marts) -> None:
    declare(by_month, None)
    by_month.publish()
    assert by_month.rows(KIND) == [("r",)]
    assert by_month.rows(ROWS) == [(1,), (2,), (3,)]
    assert by_month.rows("select count(*) from pg_class where relnamespace = 'partitions'::regnamespace") == [(0,)]


def test_only_rows_that_differ_are_written_and_a_new_month_gets_its_partition(by_month: Marts) -> None:
    table = "select 'marts.rentals'::regclass::oid"
    first, before = by_month.rows(table), dict(by_month.rows("select rental, xmin::text from marts.rentals"))
    by_month.run(
        "update build.rentals set price = 10 where rental = 2",
        "insert into build.rentals values (4, 'Cy', '2021-05-02', 1, 1)",
    )
    by_month.publish("'2021-01-31'")
    by_month.publish("'2021-05-02'")
    after = dict(by_month.rows("select rental, xmin::text from marts.rentals"))
    assert by_month.rows(table) == first
    assert {rental for rental in after if after[rental] != before.get(rental)} == {2, 4}
    assert [name for name, _, _ in by_month.rows(PARTS)][-2:] == [
        "partitions.rentals__2021_05_01",
        "partitions.rentals__2021_06_01",
    ]
    assert by_month.rows(MONTHS) == [(date(2021, 5, 1), 1, 0, None, 1, {"bikes": 1, "price": 1})]
    # The planner knows the new one.
    assert by_month.rows("select reltuples::int from pg_class where relname = 'rentals__2021_05_01'") == [(1,)]


def test_a_row_that_moves_to_another_month_moves_to_another_partition(by_month: Marts) -> None:
    by_month.run("update build.rentals set business_date = '2021-02-02' where rental = 1")
    by_month.publish()  # as a whole: the days that differ are found by their digests
    assert by_month.rows("select tableoid::regclass::text from marts.rentals where rental = 1") == [
        ("partitions.rentals__2021_02_01",)
    ]
    assert by_month.rows(ROWS) == [(1,), (2,), (3,)]


def test_plans_leave_out_what_a_question_or_a_publish_does_not_need(by_month: Marts) -> None:
    def looked_at(sql: str) -> set[str]:
        plan = "\n".join(str(line) for (line,) in by_month.rows(f"explain {sql}"))
        return {name for name, _, _ in by_month.rows(PARTS) if name.partition(".")[2] in plan}

    assert looked_at("select sum(price) from marts.rentals where business_date = '2021-02-01'") == {
        "partitions.rentals__2021_02_01"
    }
    assert len(looked_at("select sum(price) from marts.rentals")) == 3
    by_month.plan("'2021-01-31'")
    by_month.run(
        "create temporary table publish_scope on commit drop as"
        " select 'rentals'::text as mart, '2021-01-31'::text as partition"
    )
    for statement in ("delete from marts.rentals as old where {}", "select 1 from marts.rentals as old where {}"):
        ((condition,),) = by_month.rows("select ops.in_scope(ops.with_values(plan), 'old') from pg_temp.publish_plans")
        assert looked_at(statement.format(condition)) == {"partitions.rentals__2021_01_01"}


def test_neither_does_a_publish_wait_for_readers_nor_do_they_for_it(by_month: Marts, warehouse: Settings) -> None:
    """A reader in a long transaction, a month that gets its first rows, and a reader who comes meanwhile."""
    seen = "select count(*), max(business_date) from marts.rentals"
    with connect(warehouse, role="analyst") as reader, connect(warehouse, role="analyst", autocommit=True) as another:
        for session in (reader, another):
            execute(session, "set lock_timeout = '1ms'")
        execute(reader, "set transaction isolation level repeatable read")
        before = query(reader, seen)
        assert before == [(3, FEBRUARY)]
        by_month.run("insert into build.rentals values (4, 'Cy', '2021-07-02', 1, 1)", "commit")
        assert by_month.plan("'2021-07-02'")["error"] is None
        by_month.run("set lock_timeout = '1ms'")
        query(by_month.connection, "select ops.publish()")
        assert query(another, seen) == query(reader, seen) == before
        by_month.connection.commit()
        assert query(reader, seen) == before
        assert query(another, seen) == [(4, date(2021, 7, 2))]
        reader.commit()
        assert query(reader, seen) == [(4, date(2021, 7, 2))]


def test_to_attach_rows_would_not_publish_them_together(by_month: Marts, warehouse: Settings) -> None:
    """Why a publish copies: an older snapshot sees what is attached, and not what is inserted."""
    by_month.run(
        "create table marts.riders as select 'Ada' as rider",
        "create table build.april (like marts.rentals)",
        "insert into build.april values (4, 'Cy', '2021-04-02', 1, 1)",
        "commit",
    )
    seen = "select (select count(*) from marts.rentals), (select count(*) from marts.riders)"
    with connect(warehouse, role="transformer") as reader:
        execute(reader, "set transaction isolation level repeatable read")
        assert query(reader, seen) == [(3, 1)]
        by_month.run(
            "insert into marts.riders values ('Cy')",
            "alter table marts.rentals attach partition build.april for values from ('2021-04-01') to ('2021-05-01')",
            "commit",
        )
        assert query(reader, seen) == [(4, 1)]


@pytest.mark.parametrize(
    ("ranges", "grain", "problem"),
    [
        (
            BY_MONTH,
            ("rental",),
            "the unique index rentals_grain lacks business_date, without which the server cannot keep it: add the"
            " column, or do not partition",
        ),
        (BY_MONTH | {"column": "day"}, (), "there is no column day"),
        (BY_MONTH | {"column": "bikes"}, (), "bikes may be null: give it the constraint not_null"),
        (
            BY_MONTH | {"by": 10},
            (),
            "by 10 does not fit business_date, a date: day, week, month, quarter or year of a date or timestamp, or how"
            " many whole numbers",
        ),
        (
            {"column": "rental", "by": "month"},
            (),
            "by month does not fit rental, a bigint: day, week, month, quarter or year of a date or timestamp, or how"
            " many whole numbers",
        ),
    ],
)
def test_what_cannot_be_partitioned_says_why(
    marts: Marts, ranges: dict[str, Any], grain: tuple[str, ...], problem: str
) -> None:
    declare(marts, ranges, *grain)
    assert marts.plan()["error"] == f"nothing was published: meta.range_partitions of rentals: {problem}"


def test_a_table_that_a_view_reads_is_not_replaced(marts: Marts) -> None:
    marts.run("create view build.of_people as select rental from marts.rentals")
    declare(marts, BY_MONTH)
    assert marts.plan()["error"] == (
        "nothing was published: marts.rentals becomes another table, by meta.range_partitions, and build.of_people"
        " depends on it. Drop it, run again and create it anew"
    )


def test_whole_numbers_are_partitioned_by_so_many(marts: Marts) -> None:
    declare(marts, {"column": "rental", "by": 2, "ahead": 2}, "rental")
    marts.publish()
    assert marts.rows(PARTS) == [
        ("partitions.rentals__0", "0", "2"),
        ("partitions.rentals__2", "2", "4"),
        ("partitions.rentals__4", "4", "6"),
        ("partitions.rentals__6", "6", "8"),
    ]


def test_other_ranges_replace_the_table(by_month: Marts) -> None:
    declare(by_month, BY_MONTH | {"by": "quarter", "ahead": 0})
    by_month.publish()
    assert by_month.rows(PARTS) == [("partitions.rentals__2021_01_01", "2021-01-01", "2021-04-01")]
    table = by_month.rows("select 'marts.rentals'::regclass::oid")
    by_month.publish()
    assert by_month.rows("select 'marts.rentals'::regclass::oid") == table


def test_a_mart_with_columns_to_mask_is_partitioned_behind_its_view(by_month: Marts, warehouse: Settings) -> None:
    mask(by_month)
    by_month.publish()
    by_month.run("insert into build.rentals values (4, 'Cy', '2021-04-02', 1, 1)")
    by_month.publish("'2021-04-02'")
    with connect(warehouse, role="analyst") as analyst:
        assert query(analyst, "select rider, count(*) from marts.rentals group by 1") == [("masked", 4)]
        for relation in ("personal.rentals", "partitions.rentals__2021_04_01"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(analyst, f"select 1 from {relation}")
            analyst.rollback()
    assert by_month.rows("select count(*) from ops.ranges_of('personal.rentals')") == [(5,)]


def test_what_is_archived_leaves_the_mart_and_does_not_come_back(by_month: Marts, warehouse: Settings) -> None:
    months = by_month.rows("select * from ops.published_months order by 1, 2, 3")
    leave(by_month)
    (taken,) = archive.archive(warehouse, "marts", "rentals", "2021-02-15")
    assert (taken.name, taken.lower, taken.upper) == ("archive.rentals__2021_01_01", "2021-01-01", "2021-02-01")
    assert by_month.rows("select rental from archive.rentals__2021_01_01 order by 1") == [(1,), (2,)]
    assert by_month.rows(PARTS)[0] == ("partitions.rentals__archived", None, "2021-02-01")
    assert by_month.rows("select * from ops.published_months order by 1, 2, 3") == months
    with connect(warehouse, role="analyst") as analyst, pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(analyst, "select 1 from archive.rentals__2021_01_01")
    # Who is forgotten is looked for in what is archived, and of partitions only through their mart.
    assert {(schema, table) for schema, table, _ in by_month.rows(locations.COLUMNS) if schema != "ops"} == {
        ("build", "rentals"),
        ("marts", "rentals"),
        ("archive", "rentals__2021_01_01"),
    }
    by_month.publish()  # a full refresh
    assert by_month.rows(ROWS) == [(3,)]
    by_month.run("update build.rentals set bikes = 7 where rental = 1")
    assert by_month.plan("'2021-01-05'")["warnings"] == [
        "marts.rentals: 1 partition(s) that changed lie before 2021-02-01 and are archived: they changed in"
        " build.rentals only."
    ]
    by_month.run("rollback", "alter table build.rentals add column dock text")
    by_month.publish()  # its columns change: another table takes its place
    assert by_month.rows("select rental, dock from marts.rentals") == [(3, None)]
    assert by_month.rows(PARTS)[0] == ("partitions.rentals__archived", None, "2021-02-01")
    declare(by_month, None)
    assert by_month.plan()["error"] == (
        "nothing was published: meta.range_partitions of rentals: its rows of business_date before 2021-02-01 are"
        " archived: keep meta.range_partitions by that column, or `granary archive rentals --undo`"
    )


def test_later_ranges_are_archived_later_and_all_can_be_published_again(by_month: Marts, warehouse: Settings) -> None:
    archive.archive(warehouse, "marts", "rentals", "2021-02-01")
    (taken,) = archive.archive(warehouse, "marts", "rentals", "2021-03-01")
    assert taken.name == "archive.rentals__2021_02_01"
    assert by_month.rows(ROWS) == []
    leave(by_month)
    assert archive.archive(warehouse, "marts", "rentals", "2021-03-01") == ()
    assert archive.undo(warehouse, "marts", "rentals") == "2021-03-01"
    assert archive.undo(warehouse, "marts", "rentals") is None
    by_month.publish()
    assert by_month.rows(ROWS) == [(1,), (2,), (3,)]
    leave(by_month)
    with pytest.raises(GranaryError, match=r"archive\.rentals__2021_01_01 is there already, of an earlier time"):
        archive.archive(warehouse, "marts", "rentals", "2021-02-01")
    with pytest.raises(UsageError, match="'soon' is no value of the column that rentals is partitioned by"):
        archive.archive(warehouse, "marts", "rentals", "soon")
    with pytest.raises(GranaryError, match="there is no partitioned mart 'riders'"):
        archive.ranges(warehouse, "marts", "riders")


def test_the_command_shows_and_archives(by_month: Marts, warehouse: Settings) -> None:
    assert [one["lower"] for one in json.loads(granary(warehouse, "archive", "rentals", "--json").stdout)] == [
        "2021-01-01",
        "2021-02-01",
        "2021-03-01",
    ]
    assert "archive.rentals__2021_01_01" in granary(warehouse, "archive", "rentals", "--before", "2021-02-01").stdout
    assert "(archived)" in granary(warehouse, "archive", "rentals").stdout
    assert "carries what lies before 2021-02-01 again" in granary(warehouse, "archive", "rentals", "--undo").stdout


def test_partitions_count_for_their_mart(by_month: Marts, warehouse: Settings) -> None:
    by_month.connection.commit()
    ((tables, indexes),) = by_month.rows(
        "select sum(pg_table_size(part)), sum(pg_indexes_size(part)) from ops.ranges_of('marts.rentals')"
    )
    parts = {part.what: part for part in storage.look(warehouse).parts}
    assert (parts["schema marts"].tables, parts["schema marts"].indexes) == (tables, indexes)
    assert "schema partitions" not in parts
    (layer,) = [one for one in health.look(warehouse).layers if one["layer"] == "marts"]
    assert (layer["relations"], layer["rows_about"], layer["bytes"]) == (1, 3, tables + indexes)


def test_an_index_is_unused_if_it_is_on_every_partition(by_month: Marts, warehouse: Settings) -> None:
    by_month.meta["declared_indexes"].append({"columns": ["bikes"]})
    by_month.run("create index rentals__bikes on build.rentals (bikes)")
    by_month.publish()
    with connect(warehouse, autocommit=True) as connection:
        for table in ("marts.rentals", "build.rentals"):
            execute(connection, f"select count(*) from {table}")
        execute(connection, "select pg_stat_force_next_flush()")
        found = query(connection, doctor_queries.UNUSED, 1)
    assert [(indexes, tables, model) for indexes, tables, _, model in found if "rentals__bikes" in indexes] == [
        ("build.rentals__bikes, marts.rentals__bikes", "build.rentals, marts.rentals", "rentals")
    ]
