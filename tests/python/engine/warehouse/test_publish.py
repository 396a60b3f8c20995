"""The functions that publish marts, called as dbt calls them: with the project described as one JSON value."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

JANUARY, FEBRUARY = date(2021, 1, 1), date(2021, 2, 1)
MONTHS = """
    select m.business_month, m.rows_inserted, m.rows_deleted, m.previous_row_count, m.row_count, m.measures
    from ops.published_months as m where m.publish_id = (select max(publish_id) from ops.publishes)
    order by m.business_month
"""


class Marts:
    """One mart of bike rentals: `build.rentals`, published to `marts.rentals`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.meta: dict[str, Any] = {
            "measures": ["bikes"],
            "unmasked": {"select": "analyst_pii"},
            "declared_indexes": [{"name": "rentals_grain", "columns": ["rental"], "unique": True}],
        }
        self.mart: dict[str, Any] = {
            "id": "model.rides.rentals",
            "name": "rentals",
            "alias": "rentals",
            "kind": "model",
            "schema": "build",
            "materialized": "table",
            "parents": [],
            "partition": [],
            "columns": {},
            "grants": {"select": ["analyst", "auditor"]},
            "meta": self.meta,
        }

    def run(self, *statements: str) -> None:
        for statement in statements:
            execute(self.connection, statement)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.connection, sql)

    def plan(self, partition: str = "null") -> dict[str, Any]:
        """Say that the mart, or a partition, was built; return what the server makes of it."""
        self.run(
            "insert into ops.unpublished (schema_name, mart, partition, invocation_id)"
            f" values ('marts', 'rentals', {partition}, 'x')"
        )
        planned: dict[str, Any] = query(self.connection, "select ops.prepare_publish($1)", self.document())[0][0]
        return planned

    def publish(self, partition: str = "null") -> None:
        """Publish as dbt's script does, with a transaction of its own for each mart whose columns change."""
        planned = self.plan(partition)
        assert (planned["error"], planned["warnings"]) == (None, [])
        for name in planned["changing"]:
            self.run(f"select ops.make_columns_ready('{name}')")
            self.connection.commit()
        self.run("select ops.publish()")
        self.connection.commit()

    def document(self) -> str:
        return json.dumps(
            {
                "schema": "marts",
                "personal": "personal",
                "build": "build",
                "invocation": "x",
                "erasing": False,
                "despite": [],
                "masks": {"identifier": "mask", "pseudonym": "show"},
                "nodes": [self.mart],
            }
        )


@pytest.fixture
def marts(warehouse: Settings) -> Iterator[Marts]:
    """Return a mart that is published for the first time: two rentals of January, one of February."""
    with connect(warehouse, role="transformer") as connection:
        made = Marts(connection)
        made.run(
            "create schema build",
            "create table build.rentals (rental bigint not null, rider text, business_date date not null,"
            " bikes integer, price numeric(12, 2))",
            "comment on table build.rentals is 'One row per rental; riders'' names'",
            "comment on column build.rentals.price is 'In euros.'",
            "insert into build.rentals values (1, 'Ada', '2021-01-05', 1, 4.50), (2, 'Bo', '2021-01-31', 2, 9.00),"
            " (3, 'Ada', '2021-02-01', 1, 4.50)",
        )
        made.publish()
        yield made


def test_the_first_publish_makes_the_table_as_it_was_built(marts: Marts) -> None:
    assert marts.rows("select * from marts.rentals") == marts.rows("select * from build.rentals")
    assert marts.rows(
        "select obj_description('marts.rentals'::regclass, 'pg_class'), col_description('marts.rentals'::regclass, 5)"
    ) == [("One row per rental; riders' names", "In euros.")]
    assert marts.rows(
        "select attname::text from pg_attribute"
        " where attrelid = 'marts.rentals'::regclass and attnum > 0 and attnotnull order by attnum"
    ) == [("rental",), ("business_date",)]
    assert marts.rows("select indexname::text from pg_indexes where schemaname = 'marts'") == [("rentals_grain",)]
    assert marts.rows("select relacl::text from pg_class where oid = 'marts.rentals'::regclass") == [
        ("{transformer=arwdDxtm/transformer,analyst=r/transformer,auditor=r/transformer}",)
    ]
    assert marts.rows("select has_schema_privilege('analyst', 'marts', 'usage')") == [(True,)]
    assert marts.rows(MONTHS) == [
        (JANUARY, 2, 0, None, 2, {"bikes": 3, "price": 13.5}),
        (FEBRUARY, 1, 0, None, 1, {"bikes": 1, "price": 4.5}),
    ]
    assert marts.rows("select count(*) from ops.unpublished") == [(0,)]


def test_only_rows_that_differ_are_written(marts: Marts) -> None:
    before = dict(marts.rows("select rental, xmin::text from marts.rentals"))
    marts.run("update build.rentals set price = 10 where rental = 2")
    marts.publish()
    after = dict(marts.rows("select rental, xmin::text from marts.rentals"))
    assert {rental for rental in after if after[rental] != before[rental]} == {2}
    assert marts.rows(MONTHS) == [(JANUARY, 1, 1, 2, 2, {"bikes": 3, "price": 14.5})]


def test_a_publish_waits_for_no_autovacuum_and_makes_indexes_that_are_gone(marts: Marts, warehouse: Settings) -> None:
    many = "select n, 'Cy', date '2021-02-02', 1, 1.00 from generate_series(4, 1000) as n"
    marts.run(f"insert into build.rentals {many}")
    marts.publish()
    marts.run("update build.rentals set price = 10 where rental = 2", "set lock_timeout = '100ms'")
    with connect(warehouse) as other:
        execute(other, "lock table marts.rentals in share update exclusive mode")  # as an autovacuum does
        marts.publish()
    marts.run("drop index marts.rentals_grain", "update build.rentals set price = 11 where rental = 2")
    marts.publish()
    assert marts.rows("select price from marts.rentals where rental = 2") == [(Decimal("11.00"),)]
    assert marts.rows("select indexname::text from pg_indexes where schemaname = 'marts'") == [("rentals_grain",)]


def test_a_publish_waits_for_the_disk_where_dbt_does_not(marts: Marts) -> None:
    marts.plan()
    marts.run("set synchronous_commit = off", "select ops.publish()")
    assert marts.rows("show synchronous_commit") == [("on",)]
    marts.connection.commit()
    assert marts.rows("show synchronous_commit") == [("off",)]


def test_dbt_is_told_columns_as_information_schema_has_them(marts: Marts) -> None:
    marts.run(
        "create temporary table returns"
        " (a varchar(7), b char(3), c numeric(12, 2), d numeric, e text, f timestamptz, g bigint)",
        "alter table pg_temp.returns drop column g",
    )
    said = (
        "select column_name::text, data_type::text, character_maximum_length::int,"
        " case data_type when 'numeric' then numeric_precision::int end,"
        " case data_type when 'numeric' then numeric_scale::int end"
        " from information_schema.columns where table_name = '{}' and table_schema <> 'marts' order by ordinal_position"
    )
    assert marts.rows("select * from ops.columns_for_dbt('build.rentals')") == marts.rows(said.format("rentals"))
    assert marts.rows("""select * from ops.columns_for_dbt('"returns"')""") == marts.rows(said.format("returns"))
    assert marts.rows("select * from ops.columns_for_dbt('build.nothing')") == []


def test_of_a_mart_with_partitions_only_those_that_were_built_are_looked_at(marts: Marts) -> None:
    marts.mart["partition"] = ["business_date"]
    marts.run("update build.rentals set bikes = 5 where rental in (1, 3)")
    marts.publish("'2021-02-01'")
    assert marts.rows("select rental, bikes from marts.rentals order by 1") == [(1, 1), (2, 2), (3, 5)]
    marts.publish()  # built as a whole: the partition that differs is found by its digest
    assert marts.rows("select rental, bikes from marts.rentals order by 1") == [(1, 5), (2, 2), (3, 5)]
    assert marts.rows(MONTHS) == [(JANUARY, 1, 1, 2, 2, {"bikes": 7, "price": 13.5})]


def test_a_mart_without_a_key_is_written_anew_where_it_differs(marts: Marts) -> None:
    marts.meta["declared_indexes"][0]["unique"] = False
    marts.publish()
    assert marts.rows(MONTHS) == []
    marts.run("delete from build.rentals where rental = 3")
    marts.publish()
    assert marts.rows("select rental from marts.rentals order by 1") == [(1,), (2,)]
    assert marts.rows("select rows_inserted, rows_deleted from ops.publishes order by publish_id desc limit 1") == [
        (2, 3)
    ]


def test_columns_that_change_replace_the_table_unless_a_view_is_on_it(marts: Marts) -> None:
    table = "select 'marts.rentals'::regclass::oid"
    first = marts.rows(table)
    marts.run("alter table build.rentals add column dock text")
    marts.publish()
    second = marts.rows(table)
    assert second != first
    assert marts.rows("select indexname::text from pg_indexes where schemaname = 'marts'") == [("rentals_grain",)]

    marts.run("create view build.of_people as select rental from marts.rentals")
    marts.run(
        "alter table build.rentals add column tip numeric(12, 2)", "update build.rentals set tip = 1 where rental = 1"
    )
    marts.publish()
    assert marts.rows(table) == second
    assert marts.rows("select sum(tip) from marts.rentals") == [(Decimal("1.00"),)]

    marts.run("alter table build.rentals drop column dock")
    assert marts.plan()["error"] == (
        "nothing was published: marts.rentals would lose or retype dock, and build.of_people depends on it."
        " Drop it and run again, or keep the column"
    )


def test_a_mart_with_columns_to_mask_goes_behind_a_view(marts: Marts, warehouse: Settings) -> None:
    marts.mart["columns"] = {
        "rider": {"personal": "identifier"},
        "bikes": {"personal": "identifier"},
        "rental": {"personal": "pseudonym"},
        "price": {},
    }
    marts.publish()
    everybody = "select rider, bikes, price from marts.rentals where rental = 2"
    assert marts.rows(everybody) == [("Bo", 2, Decimal("9.00"))]
    assert marts.rows("select relacl::text from pg_class where oid = 'personal.rentals'::regclass") == [
        ("{transformer=arwdDxtm/transformer,analyst_pii=r/transformer}",)
    ]
    with connect(warehouse, role="analyst") as analyst:
        assert query(analyst, everybody) == [("masked", None, Decimal("9.00"))]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(analyst, "select 1 from personal.rentals")


def test_grants_become_what_is_asked_for(marts: Marts) -> None:
    marts.mart["grants"] = {"select": "auditor"}
    marts.publish()
    assert marts.rows("select relacl::text from pg_class where oid = 'marts.rentals'::regclass") == [
        ("{transformer=arwdDxtm/transformer,auditor=r/transformer}",)
    ]


def test_a_mart_that_would_shrink_too_much_holds_publishing(marts: Marts) -> None:
    marts.run("delete from build.rentals where rental > 1")
    planned = marts.plan()
    assert planned == {
        "error": "nothing was published; marts stays as it was: rentals would shrink from 3 to 1 rows. Fix it, and"
        " build and test it again; or, if it is right as it is, let it through: dbt run-operation publish"
        ' --args "{despite: [rentals]}" (`granary guide runbooks/failed-run`)'
    }
    held = "select node, reason from ops.publish_holds"
    assert marts.rows(held) == [("model.rides.rentals", "would shrink from 3 to 1 rows")]
    with pytest.raises(psycopg.Error, match="rentals would shrink from 3 to 1 rows"):
        query(marts.connection, "select ops.refuse($1)", planned["error"])
    marts.connection.rollback()
    marts.meta["floor"] = 0.3
    assert marts.plan()["changing"] == []
    assert marts.rows(held) == []


def test_the_statements_by_which_dbt_publishes(marts: Marts) -> None:
    script = "select ops.publish_script($1)"
    locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    marts.run("select pg_advisory_unlock_all()")
    assert query(marts.connection, script, marts.document())[0][0] == {"warnings": [], "script": ""}
    marts.run(
        "create view build.of_people as select rental from marts.rentals",
        "alter table build.rentals add column tip numeric(12, 2)",
        "create table marts.docks (dock text)",
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'rentals', 'x')",
    )
    planned = query(marts.connection, script, marts.document())[0][0]
    ((lock,),) = marts.rows("select ops.publish_lock('marts')")
    assert planned == {
        "warnings": ["marts.docks is built by no model any more and stays as it was; drop it when nobody needs it."],
        "script": "begin; select ops.make_columns_ready('rentals'); commit; begin; select ops.publish(); commit; "
        f"begin; select ops.prune_history('marts'); commit; select pg_advisory_unlock({lock})",
    }
    marts.connection.commit()
    marts.run(planned["script"])
    assert marts.rows("select tip from marts.rentals") == [(None,)] * 3
    assert marts.rows(locks) == [(0,)]

    marts.run(
        "delete from build.rentals where rental > 1",
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'rentals', 'x')",
    )
    refused = query(marts.connection, script, marts.document())[0][0]
    assert refused["script"].startswith("select ops.refuse('nothing was published; marts stays as it was: rentals")
    with pytest.raises(psycopg.errors.RaiseException, match="rentals would shrink from 3 to 1 rows"):
        marts.run(refused["script"])


def test_a_project_describes_its_marts(marts: Marts) -> None:
    """A mart that says little, one that says all, and nodes that are none."""
    docks = {"id": "seed.rides.docks", "name": "docks", "alias": "docks", "kind": "seed", "schema": "build",
             "materialized": "seed", "partition": [], "columns": {}, "grants": {}, "meta": {}}  # fmt: skip
    ranges = {"column": "business_date", "by": "month"}
    marts.meta |= {"floor": 0.9, "business_date": "cast(began_at as date)", "range_partitions": ranges}
    marts.meta["declared_indexes"].insert(0, {"columns": ["rider", "bikes"], "type": "brin"})
    marts.mart |= {
        "partition": ["rider"],
        "columns": {"rider": {"personal": "identifier"}, "bikes": {"personal": "pseudonym"}},
    }
    others = [docks | {"kind": "snapshot"}, docks | {"schema": "staging"}, docks | {"materialized": "ephemeral"}]
    document = json.loads(marts.document()) | {"nodes": [marts.mart, docks, *others]}
    described = [one for (one,) in query(marts.connection, "select ops.marts($1)", json.dumps(document))]
    assert described == [
        {
            "name": "rentals", "node": "model.rides.rentals", "key": ["rental"], "partition": ["rider"],
            "day": "cast(began_at as date)", "measures": ["bikes"], "floor": 0.9, "masked": ["rider"], "subjects": [],
            "ranges": ranges, "grants": {"select": ["analyst", "auditor"]}, "unmasked": {"select": "analyst_pii"},
            "indexes": [
                {"name": "rentals__rider__bikes", "columns": ["rider", "bikes"], "unique": False, "type": "brin"},
                {"name": "rentals_grain", "columns": ["rental"], "unique": True, "type": "btree"},
            ],
        },
        {
            "name": "docks", "node": "seed.rides.docks", "key": [], "partition": [], "day": None, "measures": [],
            "floor": 0.5, "masked": [], "subjects": [], "ranges": None, "grants": {}, "unmasked": {}, "indexes": [],
        },
    ]  # fmt: skip
    masked = "select mart, column_name from ops.masked_columns($1)"
    assert query(marts.connection, masked, json.dumps(document)) == [("rentals", "rider")]


@pytest.mark.parametrize(
    ("table", "declared", "day"),
    [
        ("rentals", None, "business_date"),
        ("rentals", "", "business_date"),
        ("rentals", "began_on", "began_on"),
        ("docks", None, "cast(null as date)"),
        ("docks", "began_on", "began_on"),
    ],
)
def test_the_day_of_a_mart_is_the_one_that_it_declares_or_its_business_date(
    marts: Marts, table: str, declared: str | None, day: str
) -> None:
    marts.run("create table build.docks (dock text, began_on date)")
    assert query(marts.connection, "select ops.day_of($1, $2)", f"build.{table}", declared) == [(day,)]


def test_declared_indexes_take_their_names_from_the_table_that_is_replaced(marts: Marts) -> None:
    """As dbt replaces a table: the old one is there under another name until the transaction ends."""
    declared = json.dumps(
        [{"name": "bikes_grain", "columns": ["bike"], "unique": True}, {"columns": ["dock", "bike"], "type": "brin"}]
    )
    arguments = ("build.bikes", "bikes", declared)
    create, missing = "select ops.create_declared_indexes($1, $2, $3)", "select ops.missing_indexes($1, $2, $3)"
    marts.run("create table build.bikes (bike int, dock int)")
    assert query(marts.connection, missing, *arguments) == [("bikes_grain",), ("bikes__dock__bike",)]
    query(marts.connection, create, *arguments)
    kept = marts.rows("select oid from pg_class where relname like 'bikes__%'")
    query(marts.connection, create, *arguments)
    assert marts.rows("select oid from pg_class where relname like 'bikes__%'") == kept
    marts.run("alter table build.bikes rename to bikes__old", "create table build.bikes as table build.bikes__old")
    query(marts.connection, create, *arguments)
    catalogue = "select indexname::text, tablename::text, indexdef from pg_indexes where tablename ~ 'bikes'"
    assert marts.rows(catalogue) == [
        ("bikes_grain", "bikes", "CREATE UNIQUE INDEX bikes_grain ON build.bikes USING btree (bike)"),
        ("bikes__dock__bike", "bikes", "CREATE INDEX bikes__dock__bike ON build.bikes USING brin (dock, bike)"),
    ]
    assert query(marts.connection, missing, *arguments) == []
    marts.run("drop index build.bikes_grain", "create index bikes_grain on build.bikes (bike)")  # not unique
    assert query(marts.connection, missing, *arguments) == [("bikes_grain",)]


def test_what_a_build_has_written_waits_to_be_published(marts: Marts) -> None:
    """All of a mart; the partitions in which the version of this run differs; and of two columns as an array."""
    record = "select ops.record_unpublished('marts', 'rentals', 'now', $1)"
    waiting = "select partition from ops.unpublished where invocation_id = 'now' order by partition nulls first"
    query(marts.connection, record, "null")
    assert marts.rows(waiting) == [(None,)]
    marts.run(
        "delete from ops.unpublished",
        "create table build.rentals__delta as select version, sign, rentals.* from build.rentals"
        " cross join (values (1::bigint, 1), (2, 1), (2, -1)) as v (version, sign)"
        " where (version = 1) = (rental = 3)",
        "insert into ops.model_versions (version, model, is_whole, rows_inserted, rows_deleted, invocation_id)"
        " overriding system value values (1, 'build.rentals', false, 1, 0, 'before'),"
        " (2, 'build.rentals', false, 2, 2, 'now')",
    )
    query(marts.connection, record, json.dumps({"model": "build.rentals", "partition": ["business_date"]}))
    assert marts.rows(waiting) == [("",), ("2021-01-05",), ("2021-01-31",)]
    marts.run("delete from ops.unpublished")
    query(marts.connection, record, json.dumps({"model": "build.rentals", "partition": ["rental", "rider"]}))
    assert marts.rows(waiting) == [("",), ('[1, "Ada"]',), ('[2, "Bo"]',)]


@pytest.mark.parametrize("role", ["loader", "analyst", "auditor"])
def test_nobody_else_may_call_them(marts: Marts, warehouse: Settings, role: str) -> None:
    with connect(warehouse, role=role) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(other, "select ops.publish()")
