"""Which tables of a database its login does not get to see, and the grant that would show them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from granary.readers.database.connecting import ADVICE, Database
from granary.warehouse.connection import connect_uri, query, quote_name

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = timedelta(minutes=1)
POSTGRES = """
select n.nspname::text, c.relname::text, has_schema_privilege(n.oid, 'usage'), current_user::text
from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
where
    c.relkind in ('r', 'p', 'f') and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
    and not has_table_privilege(c.oid, 'select')
order by n.nspname, c.relname
"""
EVERYTHING = re.compile(r"(?i)^grant (all|(.*, *)?select\b).* on (\*|`(?P<database>[^`]*)`)\.\* to ")
"""A grant of MySQL's by which a login sees all tables, of the server or of a database."""


@dataclass(frozen=True)
class Withheld:
    """Tables that a login may not read, as `schema.table`, and the grant that it lacks; none where none are told."""

    tables: tuple[str, ...]
    grant: str


def withheld(uri: str) -> list[Withheld]:
    """Return what a login may not read, by schema: of Postgres the tables, of MySQL only that there may be some.

    Other databases tell a login neither, and have nothing here.

    Raises:
        GranaryError: the database does not answer.
    """
    database = Database(uri, PATIENCE)
    if database.dialect == "postgresql":
        return list(_postgres(database))
    return list(_mysql(database)) if database.is_mysql else []


def _postgres(database: Database) -> Iterator[Withheld]:
    with connect_uri(database.libpq, database.name, ADVICE) as connection:
        found = query(connection, POSTGRES)
    for (schema, usable, login), rows in groupby(found, key=lambda row: (str(row[0]), bool(row[2]), str(row[3]))):
        where, who = quote_name(schema), quote_name(login)
        grant = f"grant select on all tables in schema {where} to {who}"
        grant = grant if usable else f"grant usage on schema {where} to {who}; {grant}"
        yield Withheld(tuple(f"{schema}.{row[1]}" for row in rows), grant)


def _mysql(database: Database) -> Iterator[Withheld]:
    """Yield what a login is to be granted that has no right to its whole database: others' tables are not shown."""
    with database.session(database.engine(), database.name) as connection, database.errors(database.name):
        grants = [str(row[0]) for row in connection.exec_driver_sql("show grants")]
        (name, login), *_ = connection.exec_driver_sql("select database(), current_user()")
    found = [match for grant in grants if (match := EVERYTHING.match(grant))]
    if not any(one["database"] is None or one["database"].replace("\\", "") in (name, "%") for one in found):
        yield Withheld((), f"grant select on `{name}`.* to {login}")
