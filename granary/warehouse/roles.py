"""Who may do what: the roles of the warehouse, and the people who have them.

The roles, and what they may do outside of dbt's relations, are defined in migrations/rights.sql; what they may read of
those says dbt's configuration `grants` (docs/engine/access.md).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from granary.warehouse import trail
from granary.warehouse.connection import connect, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.role_names import NAMES

if TYPE_CHECKING:
    from datetime import date

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

ROLES = {
    "loader": "create and write raw_*, and write the ledger, watermarks and quarantine in ops",
    "transformer": "read raw_* and ops; own everything that dbt builds and publishes",
    "analyst": "read marts, with a mask on personal columns",
    "analyst_pii": "what analyst may, and personal columns without the mask",
    "auditor": "read the records in ops, without the content of refused rows, and marts as analyst does; write nothing",
    "monitor": "read what the metrics are made of: counts, ages and sizes, and no row of anything",
}


HAS = (
    "(not to_jsonb(m) ? 'set_option' or (to_jsonb(m) -> 'set_option')::bool or (to_jsonb(m) -> 'inherit_option')::bool)"
)
"""Since Postgres 16 who made a role is a member that may grant it, and neither has its rights nor becomes it."""
DURATION = re.compile(r"[0-9]{1,9} ?(ms|s|min|h|d)")
INTERNAL = tuple(name for name in NAMES if name not in ROLES)
"""Roles that no person has: see migrations/rights.sql."""


@dataclass(frozen=True)
class Limits:
    """What a login may take of the server: connections at a time, how long a statement works, a transaction idles.

    The times are durations as Postgres writes them. A session begins with them and may set others, which no server can
    forbid; it cannot have more connections.
    """

    connections: int | None = None
    statement: str | None = None
    idle: str | None = None


LIMITS = {
    "loader": Limits(),
    "transformer": Limits(),
    "analyst": Limits(10, "10min", "5min"),
    "analyst_pii": Limits(10, "10min", "5min"),
    "auditor": Limits(5, "10min", "5min"),
    "monitor": Limits(3, "1min", "1min"),
}
"""What a new login gets, by its first role."""
SETTINGS = {"statement": "statement_timeout", "idle": "idle_in_transaction_session_timeout"}


@dataclass(frozen=True)
class Login:
    """A person's login: its limits, and until when its password is valid (ISO), None for ever."""

    login: str
    roles: tuple[str, ...]
    limits: Limits
    until: str | None


@dataclass(frozen=True)
class Role:
    """A role, what it may do, and who has it: people's logins, and other roles that include it.

    `name` is what the server calls it: `grant NAME to …` gives it.
    """

    role: str
    may: str
    members: tuple[str, ...]
    name: str


def roles(settings: Settings) -> list[Role]:
    """Return the roles with their members; `granary.warehouse.server.prepare` has made them."""
    sql = f"""
        select name, ops.role_name(name), array(
            select pg_get_userbyid(member)::text
            from pg_auth_members as m
            where {HAS} and pg_get_userbyid(roleid) = ops.role_name(name)
                and not pg_get_userbyid(member) = any(select ops.role_name(kept) from unnest($2::text[]) as kept)
                and member <> (select datdba from pg_database where datname = current_database())
            group by 1 order by 1
        )
        from unnest($1::text[]) as name
    """
    with connect(settings) as connection:
        found = {role: (name, members) for role, name, members in query(connection, sql, list(ROLES), list(INTERNAL))}
    return [Role(role, may, tuple(found[role][1]), found[role][0]) for role, may in ROLES.items()]


def logins(settings: Settings) -> list[Login]:
    """Return the people who have a role, by name."""
    sql = f"""
        select
            p.rolname::text,
            array(select r.name from unnest($1::text[]) as r (name) where ops.role_name(r.name) = any(has.roles)),
            nullif(p.rolconnlimit, -1),
            array(select split_part(s, '=', 1) from unnest(p.rolconfig) as s),
            array(select split_part(s, '=', 2) from unnest(p.rolconfig) as s),
            to_char(nullif(p.rolvaliduntil, 'infinity') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')
        from pg_roles as p
        cross join lateral (
            select array_agg(pg_get_userbyid(m.roleid)::text) as roles
            from pg_auth_members as m where m.member = p.oid and {HAS}
        ) as has
        where p.rolcanlogin and not p.rolsuper
            and not p.rolname in (select ops.role_name(kept) from unnest($2::text[]) as kept)
            and has.roles && array(select ops.role_name(r.name) from unnest($1::text[]) as r (name))
        order by 1
    """
    with connect(settings) as connection:
        found = query(connection, sql, list(ROLES), [*ROLES, *INTERNAL, settings.user])
    return [
        Login(name, tuple(has), Limits(most, *map(dict(zip(names, values, strict=True)).get, SETTINGS.values())), until)
        for name, has, most, names, values, until in found
    ]


def grant(
    settings: Settings,
    person: str,
    role: str,
    password: str | None = None,
    limits: Limits | None = None,
    until: date | None = None,
) -> bool:
    """Give a person a role, and a login if they have none; return whether a login was made.

    Of the password only its SCRAM verifier is sent, computed here: the server, its logs and its history of statements
    never see the password. It is valid to the end of the day `until` (UTC), or for ever. Of `limits` what is given is
    set; a new login has for the others those of its role. What they ask of the warehouse is logged from then on, where
    the server lets us say so.

    Raises:
        GranaryError: there is no such role, the name belongs to somebody else, this login may not grant it, or a limit
            is none.
    """
    _check(settings, person, role)
    wanted = limits or Limits()
    with connect(settings) as connection:
        _check_name(connection, person)
        try:
            is_new = not query(connection, "select 1 from pg_roles where rolname = $1", person)
            if is_new:
                execute(connection, f"create role {quote_name(person)} login")
                wanted = Limits(*(getattr(wanted, one) or getattr(LIMITS[role], one) for one in Limits.__match_args__))
            else:
                _refuse_owners(connection, person)
                if not query(connection, "select 1 from pg_roles where rolname = $1 and rolcanlogin", person):
                    execute(connection, f"alter role {quote_name(person)} login")
            if password is not None:
                verifier = connection.pgconn.encrypt_password(password.encode(), person.encode(), b"scram-sha-256")
                execute(connection, f"alter role {quote_name(person)} password '{verifier.decode()}'")
            if password is not None or until is not None:
                end = f"{until + timedelta(days=1)} 00:00:00+00" if until else "infinity"
                execute(connection, f"alter role {quote_name(person)} valid until '{end}'")
            _limit(connection, person, wanted)
            execute(connection, f"grant {_name(connection, role)} to {quote_name(person)}")
            trail.log_reads(connection, person)
            execute(connection, "select ops.note_roles()")
            connection.commit()
        except psycopg.Error as error:
            raise _not_allowed(error, person) from None
    return is_new


def _limit(connection: Connection, person: str, limits: Limits) -> None:
    """Set those limits of a login that are given."""
    if limits.connections is not None:
        execute(connection, f"alter role {quote_name(person)} connection limit {int(limits.connections)}")
    for name, setting in SETTINGS.items():
        if value := getattr(limits, name):
            if not DURATION.fullmatch(value):
                raise UsageError(f"{value[:40]!r} is no duration", todo="write one, such as 90s, 10min or 2h")
            execute(connection, f"alter role {quote_name(person)} set {setting} = '{value}'")


def revoke(settings: Settings, person: str, role: str | None = None) -> str:
    """Take a role from a person; without one, all of them, and the login.

    Returns:
        What became of the login: `kept`, `dropped`, or `closed` where it owns something that would be lost.

    Raises:
        GranaryError: there is no such person or role, or this login may not revoke it.
    """
    _check(settings, person, role)
    with connect(settings) as connection:
        _check_name(connection, person)
        try:
            if not query(connection, "select 1 from pg_roles where rolname = $1", person):
                raise UsageError(f"there is no login {person!r}", todo="see `granary roles`")
            _refuse_owners(connection, person)
            for one in (role,) if role else ROLES:
                execute(connection, f"revoke {_name(connection, one)} from {quote_name(person)}")
            became = "kept" if role else _close(connection, person)
            execute(connection, "select ops.note_roles()")
            connection.commit()
        except psycopg.Error as error:
            raise _not_allowed(error, person) from None
    return became


def _close(connection: Connection, person: str) -> str:
    """End what the person has open and drop the login; one that owns something may only not log in any more."""
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        execute(connection, "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", person)
    try:
        with connection.transaction():
            execute(connection, f"drop role {quote_name(person)}")
    except psycopg.errors.DependentObjectsStillExist:
        execute(connection, f"alter role {quote_name(person)} nologin")
        return "closed"
    return "dropped"


def _check(settings: Settings, person: str, role: str | None) -> None:
    if role is not None and role not in ROLES:
        raise unknown("role", role, ROLES)
    if person in NAMES or person == settings.user or person.startswith("pg_"):
        raise _no_person(person)
    quote_name(person)


def _check_name(connection: Connection, person: str) -> None:
    names = "select ops.role_name(name) from unnest($1::text[]) as name"
    if (person,) in query(connection, names, list(NAMES)):
        raise _no_person(person)


def _no_person(person: str) -> UsageError:
    return UsageError(f"{person!r} is a role of the warehouse, and no person", todo="name a person's login")


def _name(connection: Connection, role: str) -> str:
    """Return what the server calls a role, as SQL."""
    return quote_name(str(query(connection, "select ops.role_name($1)", role)[0][0]))


def _refuse_owners(connection: Connection, person: str) -> None:
    """Refuse to touch logins that are above the roles of the warehouse."""
    if query(connection, "select 1 from pg_roles where rolname = $1 and (rolsuper or rolcreaterole)", person):
        raise GranaryError(f"{person!r} administers this server", todo="use the login of a person who only reads")


def _not_allowed(error: psycopg.Error, person: str) -> GranaryError:
    return GranaryError(
        f"the server refuses it: {reason(error)}", person, "the warehouse's login must administer roles"
    )
