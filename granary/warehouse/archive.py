"""Old ranges of partitioned marts, taken out of what people read and kept as tables of the schema `archive`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.errors import DataError, RaiseException

from granary.warehouse.connection import connect, query, reason
from granary.warehouse.errors import GranaryError, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

PARTITIONED = """
    select c.relname::text, c.oid::regclass::text
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    where
        n.nspname in ($1::text, regexp_replace($1::text, 'marts$', 'personal'))
        and ops.range_column(c.oid) is not null
    order by 1
"""
RANGES = """
    select
        case when ranges.lower is null then '' else ranges.part::text end, coalesce(ranges.lower, 'the beginning'),
        ranges.upper, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
    from ops.ranges_of($1::text::regclass) as ranges
    inner join pg_class as c on ranges.part = c.oid
    order by ranges.lower is not null, c.relname
"""
LOCK = "select ops.take_lock(ops.publish_lock($1), 'publishing', true)"


@dataclass(frozen=True)
class Range:
    """A range of a mart and its table; without a name, what is archived. `upper` is not in it; rows are estimated."""

    name: str
    lower: str
    upper: str
    rows: int
    bytes: int


def ranges(settings: Settings, schema: str, mart: str) -> tuple[Range, ...]:
    """Return the ranges of a published mart.

    Raises:
        GranaryError: there is no such mart that is partitioned.
    """
    with connect(settings, role="transformer") as connection:
        return tuple(Range(*row) for row in query(connection, RANGES, _relation(connection, schema, mart)))


def archive(settings: Settings, schema: str, mart: str, before: str) -> tuple[Range, ...]:
    """Take the ranges that end at a value, or before it, out of a published mart; return their tables.

    Raises:
        GranaryError: there is no such mart that is partitioned, a table of that name is archived already, or for a
            minute some query has not let go of the mart.
        UsageError: the value is none of the mart's column.
    """
    with _publishing(settings, schema, mart) as (connection, relation):
        rows = {str(name): rows for name, _, _, rows, _ in query(connection, RANGES, relation)}
        try:
            found = query(
                connection,
                "select name, part, lower, upper, bytes from ops.archive_ranges($1::text::regclass, $2)",
                relation,
                before,
            )
        except DataError:
            raise UsageError(f"{before!r} is no value of the column that {mart} is partitioned by") from None
    return tuple(Range(name, lower, upper, rows[part], size) for name, part, lower, upper, size in found)


def undo(settings: Settings, schema: str, mart: str) -> str | None:
    """Have the next publish carry everything again; return where the mart began, or None if nothing was archived.

    Raises:
        GranaryError: there is no such mart that is partitioned, or for a minute some query has not let go of it.
    """
    with _publishing(settings, schema, mart) as (connection, relation):
        ((began,),) = query(connection, "select ops.undo_archive($1::text::regclass, $2)", relation, schema)
    return None if began is None else str(began)


@contextmanager
def _publishing(settings: Settings, schema: str, mart: str) -> Iterator[tuple[Connection, str]]:
    """Yield a transaction that has the lock of publishing, and the table of a mart; it is committed at the end."""
    with connect(settings, role="transformer") as connection:
        relation = _relation(connection, schema, mart)
        query(connection, LOCK, schema)
        try:
            yield connection, relation
        except RaiseException as error:
            raise GranaryError(reason(error), relation, "then run this again") from None
        connection.commit()


def _relation(connection: Connection, schema: str, mart: str) -> str:
    found = {str(name): str(relation) for name, relation in query(connection, PARTITIONED, schema)}
    if mart not in found:
        todo = "meta.range_partitions has a mart partitioned (`granary guide range-partitions`)"
        raise unknown("partitioned mart", mart, found, schema, todo=todo)
    return found[mart]
