"""What the warehouse's roles are called in the server, where a role is everybody's: of all its databases.

Everywhere but there a role has its short name (`loader`). On the embedded server it is called so there, too. On an
external one its name begins with the database's (`granary_loader`), or with GRANARY_ROLE_PREFIX: whoever owns another
database has roles of their own. The warehouse knows: its function `ops.role_name` says it, and keeps saying it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from granary.warehouse.connection import query, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import LOGINS

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

VIEW_KEEPER = "view_keeper"
NAMES = (*LOGINS, VIEW_KEEPER)
PREFIX = "GRANARY_ROLE_PREFIX"
"""The variable that says how the roles' names begin in a warehouse that is made on an external server."""
MADE = """
select
    to_regprocedure('ops.role_name(text)') is not null,
    exists (
        select from pg_namespace cross join lateral aclexplode(nspacl) as given
        where nspname = 'ops' and pg_get_userbyid(given.grantee) = 'loader'
    )
"""
"""Whether a warehouse says what its roles are called; and whether it is of an earlier version: then they are short."""
_PLACE = re.compile(rf"'\{{({'|'.join(NAMES)}|prefix)\}}'|\{{({'|'.join(NAMES)})\}}")
_LONGEST = max(NAMES, key=len)


def named(sql: str, prefix: str) -> str:
    """Return SQL with the names of roles in their places: `{loader}` is an identifier, `'{loader}'` a text."""

    def name(place: re.Match[str]) -> str:
        text, identifier = place.groups()
        if identifier:
            return quote_name(prefix + identifier)
        return "'" + (prefix if text == "prefix" else prefix + text).replace("'", "''") + "'"

    return _PLACE.sub(name, sql)


def prefix_of(connection: Connection, settings: Settings, prefix: str | None = None) -> str:
    """Return how the names of this warehouse's roles begin: as it was made, or is to be made.

    `prefix` goes before the variable: a backup's.

    Raises:
        GranaryError: GRANARY_ROLE_PREFIX says otherwise, or makes names that are too long.
    """
    where = f"{settings.host}, database {settings.database}"
    wanted = os.environ.get(PREFIX) if prefix is None else prefix
    made, before = query(connection, MADE)[0]
    if made or before:
        known = str(query(connection, "select ops.role_name('loader')")[0][0])[: -len("loader")] if made else ""
        if settings.external and wanted not in (None, known):
            raise GranaryError(
                f"the roles of this warehouse begin with {known!r}, and {PREFIX} says {wanted!r}",
                where,
                f"unset {PREFIX}: the warehouse knows what its roles are called",
            )
        return known
    if not settings.external:
        return prefix or ""
    return checked(f"{settings.database}_" if wanted is None else wanted, where)


def checked(prefix: str, where: str) -> str:
    """Return a prefix with which every role has a name that Postgres keeps.

    Raises:
        GranaryError: it is too long, or has a `$`, which ends texts in SQL.
    """
    if "$" in prefix or len((prefix + _LONGEST).encode()) > 63:  # noqa: PLR2004 - NAMEDATALEN - 1
        raise GranaryError(
            f"with {prefix[:80]!r} before them, names of roles have a $ or more than 63 bytes",
            where,
            f"set {PREFIX} to a shorter word",
        )
    return prefix
