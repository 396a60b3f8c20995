"""What each role gets when it tries what it should not: the table in docs/engine/security.md is this one.

Each attempt is made with a login of the role. What is refused is refused by the server, whatever the client is.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

ROLES = ("loader", "transformer", "analyst", "analyst_pii", "auditor", "monitor", "eraser")
PAGE = PROJECT / "docs" / "engine" / "security.md"
PERSON = "ada@example.com"


@dataclass(frozen=True)
class Attempt:
    """Something that an attacker tries: statements, the last of which is what counts.

    `may` are the roles whose work it is. `harmless` is what it comes to where the server does not refuse it; the
    check says that it came to nothing else.
    """

    what: str
    statements: tuple[str, ...]
    may: tuple[str, ...] = ()
    harmless: str = ""


SUPERUSERS = "select rolname::text from pg_roles where rolsuper"
EVIL = "create function {0} language plpgsql as $$ begin execute 'alter role {{role}} superuser'; {1} end $$"
ATTEMPTS = (
    Attempt("read personal columns in raw", ("select email from raw_crm.people",), ("loader", "transformer", "eraser")),
    Attempt("read them behind a mask", ("select email from personal.people",),
            ("transformer", "analyst_pii", "eraser")),
    Attempt("read refused rows as they came", ("select payload from ops.quarantine",),
            ("loader", "transformer", "eraser")),
    Attempt("write to a mart", ("insert into marts.people values ('x')",)),
    Attempt("write to the table behind it", ("update personal.people set email = 'x'",), ("transformer", "eraser")),
    Attempt("drop a mart", ("drop view marts.people",), ("transformer", "eraser")),
    Attempt("lock readers out of a mart", ("lock table personal.people in access exclusive mode",),
            ("transformer", "eraser")),
    Attempt("change the ledger", ("delete from ops.load_audit",)),
    Attempt("publish", ("select 1 / has_function_privilege('ops.publish()', 'execute')::int",),
            ("transformer", "eraser")),
    Attempt("write the audit trail", (
        "insert into ops.audit_trail (login, role, action, object) values ('a', 'a', 'a', 'a')",)),
    Attempt("empty the audit trail", ("delete from ops.audit_trail",)),
    Attempt("write it by its function", ("select ops.note('a', 'b', 'c', null)",)),
    Attempt("drop what keeps it", ("drop event trigger granary_changes",)),
    Attempt("switch off what keeps it", ("alter table ops.publishes disable trigger note_publish",)),
    Attempt("switch off all triggers of the session", ("set session_replication_role = replica",)),
    Attempt("pose as the owner's migration", ("set granary.migrating = on", "create schema raw_hidden",
            "select 1 / (1 - count(*)) from ops.audit_trail where object = 'raw_hidden'")),
    Attempt("become the owner", ("set role granary",)),
    Attempt("become another role", ("set session authorization {other}",)),
    Attempt("be a superuser", ("alter role {role} superuser",)),
    Attempt("give itself a role", ("grant pg_read_server_files to {role}",)),
    Attempt("make a login", ("create role more login",)),
    Attempt("change what another role's sessions begin with", ("alter role granary set search_path = evil",)),
    Attempt("preload a library", ("alter role {role} set session_preload_libraries = 'evil'",)),
    Attempt("load a library", ("load '/tmp/evil.so'",)),
    Attempt("stop its statements from being logged", ("set log_statement = 'none'",)),
    Attempt("read passwords", ("select rolpassword from pg_authid",), ("eraser",)),
    Attempt("read who may come in", ("select * from pg_hba_file_rules",)),
    Attempt("read the server's files", ("select pg_read_file('/etc/passwd')",)),
    Attempt("read the server's log", ("select pg_ls_logdir()",)),
    Attempt("copy from a file", ("create temp table f (t text)", "copy f from '/etc/passwd'")),
    Attempt("write a file", ("copy (select 1) to '/tmp/evil'",)),
    Attempt("run a program", ("copy (select 1) to program 'true'",)),
    Attempt("import a file as a large object", ("select lo_import('/etc/passwd')",)),
    Attempt("reach other servers", ("create extension dblink",)),
    Attempt("bring in a language", ("create extension plpython3u",)),
    Attempt("end the owner's sessions", ("select 1 / pg_terminate_backend({owner})::int",)),
    Attempt("cancel what the owner runs", ("select 1 / pg_cancel_backend({owner})::int",)),
    Attempt("read what others run", (
        "select 1 / (query !~ 'insufficient privilege')::int from pg_stat_activity where pid = {owner}",)),
    Attempt("put a function into public", (
        "create function public.upper(name) returns text language sql as 'select 1'",)),
    Attempt("put one into pg_catalog", ("create function pg_catalog.evil() returns int language sql as 'select 1'",)),
    Attempt("replace a function of the warehouse", (
        "create or replace function ops.take_lock(key bigint, purpose text, until_commit boolean) returns void"
        " language sql as 'select 1'",)),
    Attempt("put a better match beside one", (
        EVIL.format("ops.note(text, text, text) returns void", ""),
        EVIL.format("ops.is_ordinary(text, text, name) returns boolean", "return true;"),
        "create schema raw_bait_{role}",
        "create schema bait_{role}"), harmless="not called"),
    Attempt("hide a table by a temporary one", (
        "create temp table views_down (relation oid, place int, name text, definition text, statements text[],"
        " transaction_id xid8)",
        "create temp table pg_class (relname text)",
        "select ops.put_views_up('raw_crm.people'::regclass)"), harmless="not found"),
    Attempt("put an operator in the way", (
        "create schema raw_op_{role}",
        EVIL.format("raw_op_{role}.eq(text, text) returns boolean", "return true;"),
        "create operator raw_op_{role}.= (leftarg = text, rightarg = text, function = raw_op_{role}.eq)",
        "set search_path = raw_op_{role}, pg_catalog",
        "select ops.widen_column('raw_crm.people', 'n', 'bigint')"), harmless="not found"),
    Attempt("put a cast in the way", (
        "create schema raw_cast_{role}",
        "create type raw_cast_{role}.thing as (n int)",
        EVIL.format("raw_cast_{role}.words(raw_cast_{role}.thing) returns text", "return 'x';"),
        "create cast (raw_cast_{role}.thing as text) with function raw_cast_{role}.words(raw_cast_{role}.thing)"
        " as implicit"), harmless="only for itself"),
    Attempt("put a view in the place of a record", (
        "drop table ops.publishes",)),
    Attempt("put a trigger on a record", (
        "create trigger evil before delete on ops.builds for each row execute function raw_crm.evil()",)),
    Attempt("stream the log of changes", ("select pg_create_physical_replication_slot('evil')",)),
    Attempt("make a database", ("create database evil",)),
    Attempt("change the server", ("alter system set listen_addresses = '*'",)),
)  # fmt: skip


@pytest.fixture(scope="module")
def attacked(make_warehouse: Callable[[str], Settings]) -> Settings:
    """Return a warehouse with a person in raw, behind a mask, and in the quarantine."""
    settings = make_warehouse("attacked")
    steps = {
        "loader": (
            "create schema raw_crm",
            "grant usage on schema raw_crm to transformer",
            f"create table raw_crm.people as select 1 as n, '{PERSON}' as email",
            "create function raw_crm.evil() returns trigger language plpgsql as $$ begin return old; end $$",
            "grant execute on function raw_crm.evil() to public",
        ),
        "transformer": (
            "create schema marts",
            "create schema personal",
            f"create table personal.people as select cast('{PERSON}' as text) as email",
            "create view marts.people as select cast('masked' as text) as email from personal.people",
            "grant usage on schema marts to analyst, auditor",
            "grant select on marts.people to analyst, auditor",
            "grant usage on schema personal to analyst_pii",
            "grant select on personal.people to analyst_pii",
        ),
    }
    for role, statements in steps.items():
        with connect(settings, role=role, autocommit=True) as connection:
            for sql in statements:
                execute(connection, sql)
    return settings


def result(owner: Connection, connection: Connection, role: str, attempt: Attempt) -> str:
    """Return what a role gets: refused, MAY, or what it comes to where every way is open and leads nowhere.

    What is done is taken back, but for a trap, which stays set.
    """
    words = {"role": role, "owner": str(owner.info.backend_pid), "other": ROLES[role == ROLES[0]]}
    for sql in attempt.statements:
        try:
            execute(connection, re.sub(r"\{(role|owner|other)\}", lambda found: words[found[1]], sql))
            if attempt.harmless:
                connection.commit()
        except psycopg.Error:
            connection.rollback()
            if not attempt.harmless:
                return "refused"
    connection.rollback()
    if attempt.harmless:
        connection.autocommit = True  # it runs in no transaction
        execute(connection, "discard all")
        connection.autocommit = False
    return attempt.harmless or "MAY"


@pytest.fixture(scope="module")
def table(attacked: Settings) -> dict[str, list[str]]:
    """Return what came of every attempt, by role; after a trap the owner does what it does by itself."""
    found: dict[str, list[str]] = {}
    with ExitStack() as stack:
        owner = stack.enter_context(connect(attacked))
        query(owner, "select 'a statement of the owner'")
        sessions = {role: stack.enter_context(connect(attacked, role=role)) for role in ROLES}
        for attempt in ATTEMPTS:
            found[attempt.what] = [result(owner, session, role, attempt) for role, session in sessions.items()]
            if attempt.harmless:
                server.prepare(attacked)
                assert query(owner, SUPERUSERS) == [("granary",)], attempt.what
    for what, results in found.items():
        print(f"{what:50}", *(f"{one:12}" for one in results))
    return found


def test_nobody_gets_what_is_not_their_work(table: dict[str, list[str]]) -> None:
    wrong = [
        f"{role}: {attempt.what}: {got}"
        for attempt in ATTEMPTS
        for role, got in zip(ROLES, table[attempt.what], strict=True)
        if (got == "MAY") != (role in attempt.may)
    ]
    assert wrong == [], "\n".join(wrong)


def test_the_page_has_the_table(table: dict[str, list[str]]) -> None:
    marks = {"refused": "·", "MAY": "may"}
    lines = [f"| attempt | {' | '.join(ROLES)} |", f"|---|{'---|' * len(ROLES)}"]
    lines += [f"| {what} | {' | '.join(marks.get(one, one) for one in got)} |" for what, got in table.items()]
    assert "\n".join(lines) in PAGE.read_text(encoding="utf-8"), "\n".join(lines)


def test_functions_with_the_rights_of_another_find_nobodys_names(attacked: Settings) -> None:
    """The path of each is fixed, and temporary objects, which everybody may make, are looked for last."""
    sql = (
        "select proname::text, coalesce(proconfig, '{}')::text[] from pg_proc where prosecdef"
        " and pronamespace::regnamespace::text !~ '^pg_' order by 1"
    )
    with connect(attacked) as connection:
        found = dict(query(connection, sql))
    assert {"put_views_up", "note", "note_change"} <= found.keys()
    assert {name: config for name, config in found.items() if "search_path=pg_catalog, pg_temp" not in config} == {}
