"""How many rows each raw table is to hold, by what its loads did: how a load notices that others changed the table.

Every statement of ours that adds rows to a raw table, or takes some away, moves `ops.raw_tables` in its transaction.
A table that was dropped, renamed, emptied or deleted from outside then holds fewer rows than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import execute, query
from granary.warehouse.records import LOAD_ID
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.records import Target

COUNTED_BYTES = 256 * 1024 * 1024
"""Up to this size, two million rows, a table is counted by each of its loads, in a tenth of a second. Of a larger one
a load counts only when its file is another (it was rewritten or restored); else it asks for a row of some loads."""
ASKED_LOADS = 100
"""Loads of a large table of which a row must be there, others each time: each costs some milliseconds."""

NOTE = """
    insert into ops.raw_tables as known (source, table_name, row_count, file)
    values ($1, $2, greatest($3, 0), pg_relation_filenode(to_regclass($4)))
    on conflict (source, table_name) do update
    set row_count = greatest(known.row_count + $3, 0), file = excluded.file
"""


@dataclass(frozen=True)
class Lost:
    """A raw table that holds fewer rows than its loads brought; `exists` says whether there is a table at all."""

    expected: int
    present: int
    exists: bool

    def __str__(self) -> str:
        """What happened, as a clause."""
        if not self.exists:
            return f"the raw table is gone, and its loads had brought {plural(self.expected, 'row')}"
        return f"the raw table holds {plural(self.present, 'row')}, and its loads had brought {self.expected:,}"


def note(connection: Connection, target: Target, rows: int) -> None:
    """Keep that a raw table has so many rows more, or fewer if negative."""
    if rows:
        execute(connection, NOTE, target.source, target.table, rows, target.sql_name)


def expected(connection: Connection, target: Target) -> int:
    """Return the rows that a raw table is to hold."""
    rows = query(
        connection,
        "select row_count from ops.raw_tables where source = $1 and table_name = $2",
        target.source,
        target.table,
    )
    return int(rows[0][0]) if rows else 0


def counted(connection: Connection, target: Target) -> int:
    """Count a raw table, and keep that as what it is to hold from now on."""
    execute(connection, "delete from ops.raw_tables where source = $1 and table_name = $2", target.source, target.table)
    ((rows,),) = query(connection, f"select count(*) from {target.sql_name}")
    note(connection, target, int(rows))
    return int(rows)


def archived(connection: Connection, target: Target) -> int:
    """Return how many rows of a table's loads that count lie in an archive and not in the raw table."""
    ((rows,),) = query(
        connection,
        "select coalesce(sum(rows_loaded), 0)::bigint from ops.load_audit"
        " where source = $1 and table_name = $2 and archive_id is not null and superseded_by is null",
        target.source,
        target.table,
    )
    return int(rows)


def lost(connection: Connection, target: Target, *, by_load: bool) -> Lost | None:
    """Return how a raw table lacks rows that its loads brought, or None if it does not.

    Args:
        connection: to the warehouse.
        target: the raw table.
        by_load: the rows of a load stay together until another replaces it, so each has some there.
    """
    wanted = expected(connection, target)
    if not wanted:
        return None
    known = query(
        connection,
        "select pg_relation_size(c.oid), pg_relation_filenode(c.oid) is not distinct from t.file"
        " from pg_class as c inner join ops.raw_tables as t on t.source = $1 and t.table_name = $2"
        " where c.oid = to_regclass($3)",
        target.source,
        target.table,
        target.sql_name,
    )
    if not known:
        return Lost(wanted, 0, exists=False)
    ((size, same),) = known
    if same and size > COUNTED_BYTES and not (by_load and _lacking(connection, target)):
        return None
    ((present,),) = query(connection, f"select count(*) from {target.sql_name}")
    return Lost(wanted, int(present), exists=True) if present < wanted else None


def _lacking(connection: Connection, target: Target) -> bool:
    """Return whether a table has no row of one of some loads that brought rows, by its block range index."""
    execute(connection, "set local enable_seqscan = off")  # it expects a load's rows anywhere, and they are together
    ((lacking,),) = query(
        connection,
        "select exists (select from (select load_id from ops.load_audit where source = $1 and table_name = $2"
        " and status = 'loaded' and superseded_by is null and rows_loaded > 0 and archive_id is null"
        f" order by random() limit {ASKED_LOADS}) as l"
        f" where not exists (select from {target.sql_name} as r where r.{LOAD_ID} = l.load_id))",
        target.source,
        target.table,
    )
    execute(connection, "set local enable_seqscan = on")
    return bool(lacking)
