"""What the published marts hold, as rows and digests: taken with a backup, compared by a drill.

A digest is the sum of a hash of each row, so that the order of rows counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg.errors import UndefinedFunction

from granary.warehouse.connection import connect, execute, query, quote_relation

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

PUBLISHED = """
    select distinct on (schema_name, mart) publishes.schema_name, mart, publishes.publish_id
    from ops.publishes as publishes
    cross join lateral unnest(publishes.marts) as mart
    order by schema_name, mart, publish_id desc
"""
"""Each mart with the last publish that changed it."""
TABLE = """
    select n.nspname::text
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    where
        n.nspname in ($1::text, regexp_replace($1::text, 'marts$', 'personal'))
        and c.relname = $2 and c.relkind in ('r', 'p', 'm')
    order by n.nspname = $1 desc
    limit 1
"""
KNOWN = "select schema_name, mart, publish_id, row_count, digest from ops.mart_digests"
KEEP = """
    insert into ops.mart_digests (publish_id, schema_name, mart, row_count, digest) values ($1, $2, $3, $4, $5)
    on conflict (schema_name, mart) do update set
        publish_id = excluded.publish_id, row_count = excluded.row_count, digest = excluded.digest,
        taken_at = clock_timestamp()
"""


@dataclass(frozen=True)
class Digest:
    """What a mart held as of a publish."""

    rows: int
    digest: Decimal


def published(connection: Connection) -> dict[tuple[str, str], int]:
    """Return each published mart with the last publish that changed it."""
    return {(str(schema), str(mart)): int(number) for schema, mart, number in query(connection, PUBLISHED)}


def known(connection: Connection) -> dict[tuple[str, str], tuple[int, Digest]]:
    """Return what was taken last, with the publish that it is of."""
    rows = query(connection, KNOWN)
    return {(row[0], row[1]): (int(row[2]), Digest(int(row[3]), Decimal(row[4]))) for row in rows}


def take(settings: Settings) -> int:
    """Take the digests of the marts that a publish has changed since they were taken; return how many these are."""
    with connect(settings) as connection:
        execute(connection, "set transaction isolation level repeatable read")
        before = known(connection)
        wanted = {one: at for one, at in published(connection).items() if before.get(one, (0, None))[0] != at}
        taken = 0
        for (schema, mart), publish in wanted.items():
            if found := digest_of(connection, schema, mart):
                execute(connection, KEEP, publish, schema, mart, found.rows, found.digest)
                taken += 1
        connection.commit()
    return taken


def digest_of(connection: Connection, schema: str, mart: str) -> Digest | None:
    """Return what a published mart holds now; None if it is not there."""
    found = query(connection, TABLE, schema, mart)
    if not found:
        return None
    relation = quote_relation(str(found[0][0]), mart)
    execute(connection, "savepoint digest")
    try:
        rows = query(connection, _sum(relation, "hash_record_extended(one, 0)"))
    except UndefinedFunction:  # a type that has no hash, such as json
        execute(connection, "rollback to savepoint digest")
        rows = query(connection, _sum(relation, "hashtextextended(cast(one as text), 0)"))
    execute(connection, "release savepoint digest")
    return Digest(int(rows[0][0]), Decimal(rows[0][1]))


def _sum(relation: str, expression: str) -> str:
    return f"select count(*), coalesce(sum({expression}), 0) from {relation} as one"
