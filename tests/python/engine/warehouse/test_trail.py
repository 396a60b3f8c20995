"""Who changed what and who read what is kept, whoever did it, and by whatever way."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import psycopg
import pytest

from granary.warehouse import retention, roles, server, trail
from granary.warehouse.connection import connect, execute
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


def run(settings: Settings, role: str | None, *statements: str) -> None:
    with connect(settings, role=role, autocommit=True) as connection:
        for sql in statements:
            execute(connection, sql)


def said(settings: Settings) -> list[tuple[str, str, str, str | None]]:
    """Return what the trail has since the warehouse was made, the oldest first."""
    found = [entry for entry in trail.changes(settings, LONG_AGO) if entry.action != "roles"]
    return [(one.login, one.action, one.object, one.details) for one in reversed(found)]


def test_structures_and_grants_are_kept_and_the_work_of_the_day_is_not(warehouse: Settings) -> None:
    run(
        warehouse,
        "loader",
        "create schema raw_shop",
        "create table raw_shop.t (n int)",
        "create index on raw_shop.t (n)",
        "comment on table raw_shop.t is 'x'",
        "create temporary table aside (n int)",
        "create function raw_shop.f() returns int language sql as 'select 1'",
        "grant usage on schema raw_shop to transformer",
        "grant select on raw_shop.t to transformer; select 'a value of a row'",
        "drop table raw_shop.t",
    )
    run(warehouse, "transformer", "create schema build", "create table build.m as select 1 as n", "drop table build.m")
    run(warehouse, None, "create table public.mine (n int)", "drop schema raw_shop cascade")
    assert said(warehouse) == [
        ("loader", "create schema", "raw_shop", None),
        ("loader", "create function", "raw_shop.f()", None),
        ("loader", "grant", "SCHEMA", "grant usage on schema raw_shop to transformer"),
        ("loader", "grant", "TABLE", None),
        ("transformer", "create schema", "build", None),
        ("granary", "create table", "public.mine", None),
        ("granary", "drop schema", "raw_shop", None),
    ]


def test_decisions_erasures_and_publishes_are_kept(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_STARTED_BY", "user ada o'hara; x")
    row = "('{0}', 1, 'shop', 'orders', 'f', {0}, 'n', 'is null', '{{}}', 1)"
    run(
        warehouse,
        "loader",
        "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason,"
        f" payload, contract_version) values {', '.join(row.format(n) for n in (1, 2, 3))}",
        "update ops.quarantine set status = 'dropped' where row_number < 3",
        "update ops.quarantine set status = 'superseded' where row_number = 3",
        "update ops.quarantine set last_seen_at = now()",
    )
    run(warehouse, "eraser", "insert into ops.erasures (subject, key_mark) values ('digest', 'k')")
    run(
        warehouse,
        "transformer",
        "insert into ops.publishes (schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted,"
        " loads_seen) values ('marts', 'i', now(), array['a', 'b'], 5, 2, '{}')",
    )
    assert said(warehouse) == [
        ("loader", "quarantine dropped", "shop.orders", "2 rows"),
        ("eraser", "erase", "erasure 1", None),
        ("transformer", "publish", "publish 1 of marts", "2 marts, 5 rows in, 2 out"),
    ]
    assert {one.person for one in trail.changes(warehouse, LONG_AGO, "eraser")} == {"user_ada_o_hara__x"}


def test_roles_are_compared_with_the_last_look(warehouse: Settings) -> None:
    try:
        roles.grant(warehouse, "trail_ada", "analyst")
        run(warehouse, None, "alter role trail_ada createdb")
        roles.revoke(warehouse, "trail_ada")
    finally:
        run(warehouse, None, "drop role if exists trail_ada")
    found = [one.details for one in reversed(trail.changes(warehouse, LONG_AGO)) if one.action == "roles"]
    assert found[-3:] == [
        "+ trail_ada is a analyst, + trail_ada login",
        "+ trail_ada createdb, - trail_ada is a analyst, - trail_ada login",
        "- trail_ada createdb",
    ] or found[-2:] == ["+ trail_ada is a analyst, + trail_ada login", "- trail_ada is a analyst, - trail_ada login"]


def test_what_is_old_goes_and_the_last_look_at_the_roles_stays(warehouse: Settings, rows: Rows) -> None:
    run(
        warehouse,
        None,
        "insert into ops.audit_trail (at, login, role, action, object) select now() - make_interval(days => d), 'a',"
        " 'a', 'grant', d::text from unnest(array[100, 364, 366, 4000]) as d",
        "update ops.audit_trail set at = now() - interval '3 years' where action = 'roles'",
    )
    retention.prune(warehouse, 90)
    assert rows("select object from ops.audit_trail where action = 'grant' order by at desc") == [("100",), ("364",)]
    assert rows("select count(*) from ops.audit_trail where action = 'roles'") == [(1,)]
    run(warehouse, None, "insert into ops.audit_trail (at, login, role, action, object) values"
        " (now() - interval '3 years', 'a', 'a', 'grant', 'old')")  # fmt: skip
    retention.prune(warehouse, 4_000)
    assert rows("select object from ops.audit_trail where object = 'old'") == [("old",)]


def test_a_migration_is_in_its_own_record(warehouse: Settings) -> None:
    run(warehouse, None, "delete from ops.migrations where number = 0")
    server.prepare(warehouse)
    assert said(warehouse) == []


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("select * from m where mail = 'ada@example.com' and n = 42", "select * from m where mail = '…' and n = …"),
        (
            "select $a$secret'$a$, e'it\\'s', u&'\\0061', x1 from t2 limit 1e5",
            "select '…', '…', '…', x1 from t2 limit …",
        ),
        ("select 'never ended", "select '…'"),
    ],
)
def test_no_value_of_a_statement_is_shown(sql: str, shown: str) -> None:
    assert trail.without_literals(sql) == shown


def test_what_people_ask_is_known_by_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server(monkeypatch) as settings:
        run(
            settings,
            None,
            "create role ada login",
            "grant analyst to ada",
            "create role bob login",
            "grant analyst to bob",
        )
        with connect(settings) as connection:
            assert trail.log_reads(connection, "ada")
            connection.commit()
        # The embedded server knows its owner as ada, too, from here on.
        (settings.home / "data" / "pg_ident.conf").open("a").write("owner /^.*$ ada\nowner /^.*$ bob\n")
        run(settings, None, "select pg_reload_conf()")
        began = datetime.now(timezone.utc) - timedelta(minutes=1)
        for login in ("ada", "bob"):
            with psycopg.connect(settings.uri(role=login), autocommit=True) as connection:
                connection.execute("select\n  'x@example.com' as mail,\n  7")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("set log_statement = 'none'")
        found = trail.reads(settings, began)
        assert [(one.login, one.action, one.object) for one in reversed(found)] == [
            ("ada", "read", "select '…' as mail, …"),
            ("ada", "read", "set log_statement = '…'"),
        ]
        assert trail.reads(settings, began, "bob") == []
        monkeypatch.setattr(trail, "LARGEST_LOG", 1)
        assert trail.begin_log(settings)
        assert (settings.home / "postgres.log").stat().st_size == 0
        assert len(trail.reads(settings, began)) == 2
