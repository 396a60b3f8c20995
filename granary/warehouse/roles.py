"""Who may do what: the roles of the warehouse, and the people who have them.

The roles, and what they may do outside of dbt's relations, are defined in migrations/rights.sql; what they may read of
those says dbt's configuration `grants` (docs/engine/access.md).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from granary.warehouse.connection import connect, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError, UsageError, unknown

if TYPE_CHECKING:
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


INTERNAL = ("eraser", "view_keeper")
"""Roles that no person has: see migrations/rights.sql."""


@dataclass(frozen=True)
class Role:
    """A role, what it may do, and who has it: people's logins, and other roles that include it."""

    role: str
    may: str
    members: tuple[str, ...]


def roles(settings: Settings) -> list[Role]:
    """Return the roles with their members; `granary.warehouse.server.prepare` has made them."""
    sql = (
        "select pg_get_userbyid(roleid)::text, pg_get_userbyid(member)::text from pg_auth_members"
        " where pg_get_userbyid(roleid) = any($1) and not pg_get_userbyid(member) = any($2) group by 1, 2 order by 1, 2"
    )
    with connect(settings) as connection:
        found = query(connection, sql, list(ROLES), list(INTERNAL))
    return [Role(name, may, tuple(member for role, member in found if role == name)) for name, may in ROLES.items()]


def grant(settings: Settings, person: str, role: str, password: str | None = None) -> bool:
    """Give a person a role, and a login if they have none; return whether a login was made.

    Of the password only its SCRAM verifier is sent, computed here: the server, its logs and its history of statements
    never see the password.

    Raises:
        GranaryError: there is no such role, the name belongs to somebody else, or this login may not grant it.
    """
    _check(settings, person, role)
    with connect(settings) as connection:
        try:
            is_new = not query(connection, "select 1 from pg_roles where rolname = $1", person)
            if is_new:
                execute(connection, f"create role {quote_name(person)} login")
            else:
                _refuse_owners(connection, person)
                execute(connection, f"alter role {quote_name(person)} login")
            if password is not None:
                verifier = connection.pgconn.encrypt_password(password.encode(), person.encode(), b"scram-sha-256")
                execute(connection, f"alter role {quote_name(person)} password '{verifier.decode()}'")
            execute(connection, f"grant {quote_name(role)} to {quote_name(person)}")
            connection.commit()
        except psycopg.Error as error:
            raise _not_allowed(error, person) from None
    return is_new


def revoke(settings: Settings, person: str, role: str | None = None) -> str:
    """Take a role from a person; without one, all of them, and the login.

    Returns:
        What became of the login: `kept`, `dropped`, or `closed` where it owns something that would be lost.

    Raises:
        GranaryError: there is no such person or role, or this login may not revoke it.
    """
    _check(settings, person, role)
    with connect(settings) as connection:
        try:
            if not query(connection, "select 1 from pg_roles where rolname = $1", person):
                raise UsageError(f"there is no login {person!r}", todo="see `granary roles`")
            _refuse_owners(connection, person)
            for one in (role,) if role else ROLES:
                execute(connection, f"revoke {quote_name(one)} from {quote_name(person)}")
            became = "kept" if role else _close(connection, person)
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
    if person in (*ROLES, *INTERNAL) or person == settings.user or person.startswith("pg_"):
        raise UsageError(f"{person!r} is a role of the warehouse, and no person", todo="name a person's login")
    quote_name(person)


def _refuse_owners(connection: Connection, person: str) -> None:
    """Refuse to touch logins that are above the roles of the warehouse."""
    if query(connection, "select 1 from pg_roles where rolname = $1 and (rolsuper or rolcreaterole)", person):
        raise GranaryError(f"{person!r} administers this server", todo="use the login of a person who only reads")


def _not_allowed(error: psycopg.Error, person: str) -> GranaryError:
    return GranaryError(
        f"the server refuses it: {reason(error)}", person, "the warehouse's login must administer roles"
    )
