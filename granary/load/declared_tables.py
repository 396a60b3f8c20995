"""Raw tables that are there, empty, before anything is loaded: models and tests find what contracts declare."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from granary.sources.capture import changes_table
from granary.sources.discovery import SOURCES
from granary.warehouse import run_ledger
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import Target
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

HERE = (
    "select n.nspname::text || '.' || c.relname::text from pg_class as c inner join pg_namespace as n"
    " on n.oid = c.relnamespace where n.nspname like 'raw\\_%' union all"
    " select 'raw_' || source || '.' || table_name from ops.raw_tables where row_count > 0"
)
"""Raw tables that need not be made. One that is gone with its rows is not an empty table: the next load says
so, and until then what reads it fails rather than finding nothing."""


def targets() -> Iterator[Target]:
    """Yield the raw table of every contract; a captured table has two."""
    for source in SOURCES.values():
        for table in source.tables:
            yield Target(source.name, table.name, table.schema, table.key)
            if source.is_captured:
                changes = changes_table(table)
                yield Target(source.name, changes.name, changes.schema, ())


def keep_objectives(settings: Settings) -> None:
    """Have the warehouse know who owns each table, and how long it may have nothing new; written when it differs."""
    declared = [
        {
            "relation": f"raw_{source.name}.{table.name}",
            "source": source.name,
            "owner": source.owner,
            "fresh_seconds": table.freshness.total_seconds(),
        }
        for source in SOURCES.values()
        for table in source.tables
    ]
    run_ledger.keep_objectives(settings, declared)


def create_missing(settings: Settings) -> list[str]:
    """Create the raw tables that contracts declare and that are not there, and return their names.

    It is one query where nothing is missing. A source that is being loaded is left to its load.
    """
    made = []
    with connect(settings, role="loader") as connection:
        here = {str(row[0]) for row in query(connection, HERE)}
        for target in targets():
            name = f"raw_{target.source}.{target.table}"
            if name in here:
                continue
            # The source may be loaded just now, or another `granary up` be making the table.
            with suppress(GranaryError, psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
                with LoadTransaction(settings, target.source, connection, wait_seconds=0.01) as tx:
                    tx.ensure_table(target, bulk=True)
                made.append(name)
    return made
