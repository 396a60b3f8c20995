"""Postgres as a source: its catalogue, and its rows by binary COPY."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from ingestion.readers.database.connecting import ADVICE
from ingestion.readers.database.shapes import ColumnShape, TableShape, cursor_candidates
from ingestion.readers.database.types import of_postgres
from warehouse.connection import connect_uri, query

if TYPE_CHECKING:
    from ingestion.readers.database.connecting import Database

CATALOGUE = """
select
    n.nspname::text, c.relname::text, c.relkind in ('v', 'm'), c.reltuples::bigint, obj_description(c.oid, 'pg_class'),
    a.attname::text, format_type(a.atttypid, a.atttypmod), not a.attnotnull, col_description(c.oid, a.attnum),
    array_position(i.indkey::smallint[], a.attnum)::int
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_index as i on i.indrelid = c.oid and i.indisprimary
where
    c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
    and ($1::text is null or n.nspname = $1) and has_table_privilege(c.oid, 'select')
order by n.nspname, c.relname, a.attnum
"""


def describe(database: Database, schema: str | None) -> list[TableShape]:
    """Return the tables and views that the login may read; partitions count as their parent."""
    with connect_uri(database.libpq, database.name, ADVICE) as connection:
        found = query(connection, CATALOGUE, schema)
    shapes = []
    for (namespace, name, is_view, rows, comment), members in groupby(found, key=lambda row: row[:5]):
        each = list(members)
        columns = tuple(
            ColumnShape(
                str(row[5]),
                of_postgres(str(row[6])).type,
                bool(row[7]),
                str(row[6]),
                None if row[8] is None else str(row[8]),
            )
            for row in each
        )
        places = {int(str(row[9])): str(row[5]) for row in each if row[9] is not None}
        shapes.append(
            TableShape(
                schema=str(namespace),
                name=str(name),
                columns=columns,
                key=tuple(places[place] for place in sorted(places)),
                rows=int(str(rows)) if int(str(rows)) >= 0 and not is_view else None,
                cursors=cursor_candidates(columns),
                comment=None if comment is None else str(comment),
                is_view=bool(is_view),
            )
        )
    return shapes
