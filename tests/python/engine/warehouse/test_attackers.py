"""Somebody who has a role tries to become more: what runs in their name must run with their rights only."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from granary.cli import health
from granary.pages.dashboard.parts import Dataset
from granary.pages.dashboard.read import read
from granary.privacy import erasure, locator
from granary.privacy.identity import Identity
from granary.privacy.locations import Locations, Place
from granary.sources.subjects import Subject
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

HOUSEHOLD = Subject("household", "number")
ROLES = ("loader", "transformer", "analyst", "analyst_pii", "auditor")
SUPERUSERS = "select rolname::text from pg_roles where rolsuper order by 1"

GRAB = """
create function {schema}.grab() returns boolean language plpgsql as $$
begin
    begin
        reset role;
    exception when others then null;
    end;
    begin
        insert into {schema}.seen values (session_user::text, current_user::text, current_setting('is_superuser'));
    exception when others then null;
    end;
    begin
        execute 'alter role {role} superuser';
    exception when others then null;
    end;
    return true;
end
$$
"""


def attack(settings: Settings, role: str, *statements: str) -> None:
    """Do as a role what it may: what is refused is not done."""
    with connect(settings, role=role, autocommit=True) as connection:
        for sql in statements:
            with suppress(psycopg.Error):
                execute(connection, sql)


def armed(settings: Settings, role: str, schema: str) -> None:
    """Give a role a schema with a function that grabs what it can, and a list of as whom it ran."""
    attack(
        settings,
        role,
        f"create schema {schema}",
        f"grant usage, create on schema {schema} to public",
        f"create table {schema}.seen (login text, role text, superuser text)",
        f"grant insert on {schema}.seen to public",
        GRAB.format(schema=schema, role=role),
    )


def ran_as(rows: Rows, schema: str) -> set[tuple[object, ...]]:
    """Return as whom the function ran: login, role, and whether it was a superuser."""
    return set(rows(f"select * from {schema}.seen"))


@pytest.mark.parametrize("role", ROLES)
def test_a_session_of_a_role_has_no_way_back_to_the_owner(warehouse: Settings, rows: Rows, role: str) -> None:
    """Neither by `reset role`, nor by becoming somebody else, nor by what only the owner may."""
    with connect(warehouse, role=role, autocommit=True) as connection:
        assert query(connection, "select session_user::text, current_setting('is_superuser')") == [(role, "off")]
        for sql in ("reset role", "reset session authorization"):
            execute(connection, sql)
            assert query(connection, "select current_user::text") == [(role,)]
        others = (
            {"granary", "eraser", "view_keeper", *ROLES} - {role} - ({"analyst"} if role == "analyst_pii" else set())
        )
        for sql in (
            *(f"set role {other}" for other in others),
            *(f"set session authorization {other}" for other in others),
            f"alter role {role} superuser",
            f"grant granary to {role}",
            "create role more login",
            "copy (select 1) to program 'true'",
            "select pg_read_file('/etc/hostname')",
            "alter database granary owner to analyst",
            "create extension dblink",
            "update pg_authid set rolsuper = true",
            "alter function ops.put_views_up(regclass) security invoker",
            "create or replace function ops.put_views_up(relation regclass) returns void language sql as ''",
            "insert into ops.views_down values (1, 1, 'x', 'select 1', array['alter role loader superuser'], '1')",
            "drop event trigger granary_schemas",
        ):
            with pytest.raises(psycopg.Error):
                execute(connection, sql)
    assert rows(SUPERUSERS) == [("granary",)]


@pytest.mark.parametrize(
    "trap",
    [
        "alter table raw_evil.t add check (raw_evil.grab())",
        "create index on raw_evil.t ((raw_evil.grab_n(n)))",
        "alter table raw_evil.t add column g boolean generated always as (raw_evil.grab_n(n) > 0) stored",
        "create trigger t before insert or update or delete on raw_evil.t"
        " for each row execute function raw_evil.fire()",
    ],
)
def test_what_a_loader_puts_on_a_raw_table_runs_as_the_loader(warehouse: Settings, rows: Rows, trap: str) -> None:
    armed(warehouse, "loader", "raw_evil")
    attack(
        warehouse,
        "loader",
        "create function raw_evil.grab_n(n integer) returns integer immutable language plpgsql as"
        " $$ begin perform raw_evil.grab(); return n; end $$",
        "create function raw_evil.fire() returns trigger language plpgsql as"
        " $$ begin perform raw_evil.grab(); return coalesce(new, old); end $$",
        "create table raw_evil.t (n integer, household_id text, _load_id bigint)",
        "insert into raw_evil.t values (1, '7', 1)",
        trap,
        "select ops.widen_column('raw_evil.t'::regclass, 'n', 'bigint')",
        "insert into raw_evil.t values (2, '8', 2)",
    )
    server.prepare(warehouse)
    ran = {login for login, _, _ in ran_as(rows, "raw_evil")}
    assert ran == {"loader"} if "check" in trap or "trigger" in trap else ran <= {"loader"}
    erase(warehouse, Place("raw_evil", "t", "household_id", HOUSEHOLD), "7")
    assert ("granary", "granary", "on") not in ran_as(rows, "raw_evil")
    assert {superuser for *_, superuser in ran_as(rows, "raw_evil")} <= {"off"}
    assert rows(SUPERUSERS) == [("granary",)]


def erase(settings: Settings, place: Place, household: str) -> None:
    """Take a household out of a raw table, as `granary forget` does."""
    where = Locations(
        raw=(place,), keys_before=(), kept=(), built=(), marts=(), names={place.name: {place.column: HOUSEHOLD}},
        sources=frozenset({"evil"}),
    )  # fmt: skip
    with erasure.begin(settings, where) as connection, suppress(psycopg.Error):
        execute(
            connection,
            "insert into ops.erasures (subject, key_mark) values ('s', 'k') on conflict (subject) do nothing",
        )
        ((number,),) = query(connection, "select erasure_id from ops.erasures where subject = 's'")
        erasure.Erasing(connection, where).erase(Identity(HOUSEHOLD, household), number)
        connection.commit()


def test_a_loaders_own_type_runs_as_nobody_else_when_a_household_is_forgotten(warehouse: Settings, rows: Rows) -> None:
    armed(warehouse, "loader", "raw_evil")
    attack(
        warehouse,
        "loader",
        "create type raw_evil.number as (n integer)",
        "create function raw_evil.words(n raw_evil.number) returns text language plpgsql as"
        " $$ begin perform raw_evil.grab(); return '7'; end $$",
        "create cast (raw_evil.number as text) with function raw_evil.words(raw_evil.number)",
        "create table raw_evil.t (household_id raw_evil.number, _load_id bigint)",
        "insert into raw_evil.t values (row(7)::raw_evil.number, 1)",
    )
    erase(warehouse, Place("raw_evil", "t", "household_id", HOUSEHOLD), "7")
    with connect(warehouse, role="eraser") as connection, suppress(psycopg.Error):
        list(locator.identities(connection, Place("raw_evil", "t", "household_id", HOUSEHOLD)))
        connection.commit()
    assert {superuser for *_, superuser in ran_as(rows, "raw_evil")} == {"off"}
    assert rows(SUPERUSERS) == [("granary",)]


@pytest.mark.parametrize(("role", "schema"), [("loader", "raw_evil"), ("transformer", "evil")])
def test_functions_named_like_the_systems_are_not_found(
    warehouse: Settings, rows: Rows, role: str, schema: str
) -> None:
    """A schema named like a login is searched by default, and a better match there counts more than the system's."""
    armed(warehouse, role, schema)
    for login in ("granary", "transformer", "analyst"):
        attack(
            warehouse,
            role,
            f"create schema {login}",
            f"grant usage on schema {login} to public",
            f"create function {login}.format(a text, b name) returns text language plpgsql as"
            f" $$ begin perform {schema}.grab(); return pg_catalog.format(a, b); end $$",
            f"create function {login}.upper(a name) returns text language plpgsql as"
            f" $$ begin perform {schema}.grab(); return 'X'; end $$",
        )
    server.prepare(warehouse)
    for login in (None, "transformer", "analyst", "loader"):
        with connect(warehouse, role=login) as connection:
            query(connection, "select upper(current_database()), format('%s', current_database())")
    assert ran_as(rows, schema) == set()


def test_a_loader_makes_no_schema_under_a_name_of_dbt(warehouse: Settings, rows: Rows) -> None:
    with connect(warehouse, role="loader", autocommit=True) as connection:
        execute(connection, "create schema raw_shop")
        for sql in ("create schema marts", "create schema dev_ada_build", "alter schema raw_shop rename to staging"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="loader may not have a schema named"):
                execute(connection, sql)
    with (
        connect(warehouse, role="transformer", autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="transformer may not have a schema named raw_crm"),
    ):
        execute(connection, "create schema raw_crm")


def test_what_the_transformer_builds_runs_as_who_reads_it(
    warehouse: Settings, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dashboard reads as several roles in one snapshot: a function in a view must not find its way to the owner."""
    armed(warehouse, "transformer", "evil")
    attack(
        warehouse,
        "transformer",
        "create schema marts",
        "grant usage on schema marts, evil to analyst",
        "create view marts.trap as select evil.grab() as grabbed",
        "grant select on marts.trap to analyst",
    )
    (tmp_path / "trap.sql").write_text("select grabbed from marts.trap")
    (tmp_path / "trap2.sql").write_text("select grabbed from marts.trap")
    monkeypatch.setattr("granary.pages.dashboard.read.QUERIES", tmp_path)
    sets = (Dataset("trap", role="analyst"), Dataset("trap2", role="transformer"))
    assert {name: found.rows for name, found in read(warehouse, sets, lambda _: None).items()} == {
        "trap": [[True]],
        "trap2": [[True]],
    }
    assert rows(SUPERUSERS) == [("granary",)]
    with connect(warehouse, role="loader", autocommit=True) as connection, pytest.raises(psycopg.Error):
        query(connection, "select * from marts.trap")


def test_a_wider_column_puts_nothing_up_that_was_not_there(warehouse: Settings, rows: Rows) -> None:
    """What is put up again is what was taken down in the same transaction, whatever the loader does meanwhile."""
    attack(
        warehouse,
        "loader",
        "create schema raw_shop",
        "grant usage on schema raw_shop to transformer",
        "create table raw_shop.t (n integer, note text)",
        "grant select on raw_shop.t to transformer",
    )
    attack(
        warehouse,
        "transformer",
        "create schema staging",
        r"create view staging.v as select n, note, '\' as mark, ''' as x' as more from raw_shop.t",
        "create view staging.w as select n from staging.v",
    )
    with connect(warehouse, role="loader") as connection:
        execute(connection, "set standard_conforming_strings = off")
        execute(connection, "set search_path = raw_shop")
        execute(connection, "select ops.take_views_down('raw_shop.t'::regclass)")
        execute(connection, "alter table raw_shop.t alter column n type bigint")
        execute(connection, "select ops.put_views_up('raw_shop.t'::regclass)")
        connection.commit()
    assert rows("select pg_typeof(n)::text from staging.w union all select 'text' where false") == []
    assert rows(
        "select attrelid::regclass::text, format_type(atttypid, null), pg_get_userbyid(relowner)::text"
        " from pg_attribute inner join pg_class on attrelid = pg_class.oid where relname in ('v', 'w')"
        " and attname = 'n' order by 1"
    ) == [("staging.v", "bigint", "transformer"), ("staging.w", "bigint", "transformer")]
    with pytest.raises(psycopg.Error, match="is no raw table"), connect(warehouse, role="loader") as connection:
        execute(connection, "select ops.take_views_down('ops.load_audit'::regclass)")


def test_what_a_loader_puts_in_the_place_of_a_raw_table_runs_as_the_loader(warehouse: Settings, rows: Rows) -> None:
    """`granary status` looks whether raw tables hold rows. A sequence remembers as whom, also if all is rolled back."""
    attack(
        warehouse,
        "loader",
        "create schema raw_till",
        "create sequence raw_till.ran_as",
        "grant usage on schema raw_till to public",
        "grant all on raw_till.ran_as to public",
        "create function raw_till.trap() returns boolean language plpgsql as $$ begin"
        " perform setval('raw_till.ran_as', case current_setting('is_superuser') when 'on' then 2 else 1 end);"
        " return true; end $$",
        "create view raw_till.receipts as select 1 as receipt_id where raw_till.trap()",
        "insert into ops.raw_tables (source, table_name, row_count) values ('till', 'receipts', 1)",
    )
    assert health.look(warehouse).running
    assert rows("select last_value, is_called from raw_till.ran_as") == [(1, True)], "2 is a superuser"


def test_records_that_dbt_writes_are_not_its_own(warehouse: Settings, rows: Rows) -> None:
    """Else it could have a trigger or a view run as the owner, who reads and prunes them; also where they were once."""
    with connect(warehouse) as connection:
        execute(connection, "alter table ops.builds owner to transformer")
        connection.commit()
    server.prepare(warehouse)
    assert (
        rows(
            "select relname::text from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'r'"
            " and pg_get_userbyid(relowner) <> 'granary'"
        )
        == []
    )
