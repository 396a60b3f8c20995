"""What a kind of source needs for being put to the proof: a source that changes, the truth, and what landed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any

from granary.load import api as load
from granary.warehouse.connection import execute, query, quote_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    from granary.sources.spec import Source, Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings
    from tests.python.engine.chaos.loader_process import Loader

Rows = Counter[tuple[Any, ...]]
"""Rows as a multiset."""

REFUSED = "quarantine"
"""The name under which refused rows are compared: (table, unit, place in the unit, column, id of the row)."""

OPS = ("raw_tables", "load_audit", "watermarks", "known_messages", "quarantine", "schema_changes", "archives")


SEAM = ("extracted", "mid-copy", "before-commit", "after-commit")
"""Named points that every load passes."""


class World(ABC):
    """One source with its loader. It begins empty; `advance` changes it as such a source changes in a day.

    Its loader passes the named `points`; those that are `first` only in the first load, when there is nothing yet. With
    `disruptions` only these are done to it. It lives for some `rounds`; then everything begins anew, with raw tables
    that have to be created. One that `is_slow` is for `make chaos` alone.
    """

    points: tuple[str, ...] = SEAM
    disruptions: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    apart = False
    """Whether it needs an installation of its own, and its tests are elsewhere."""
    rounds = 5
    is_slow = False
    loader: Loader
    source: Source
    tables: tuple[Table, ...]

    def __init__(self, settings: Settings, folder: Path, random: Random) -> None:
        """Be an empty source that lives in a folder, or on the warehouse's server."""
        self.settings, self.folder, self.random = settings, folder, random

    @abstractmethod
    def advance(self) -> None:
        """Change: new units, corrected ones, late rows."""

    def settle(self) -> None:  # noqa: B027 - most worlds change at once
        """Come to rest: what goes on changing while loaders are disrupted has come to its end."""

    @abstractmethod
    def truth(self) -> dict[str, Rows]:
        """Return what each raw table must hold, and the quarantine, if this source has rows that are refused."""

    def landed(self, connection: Connection) -> dict[str, Rows]:
        """Return what each raw table holds, without load columns, and the quarantine's open rows."""
        found = {table.name: raw(connection, self.source.name, table) for table in self.tables}
        return found | {REFUSED: refused(connection, self.source.name)}

    def close(self) -> None:  # noqa: B027 - most worlds have nothing to give back
        """Give back what is not in the folder or on the server."""


def raw(connection: Connection, source: str, table: Table) -> Rows:
    """Return the rows of a raw table as a multiset, without load columns; nothing if it is missing."""
    name = f'"raw_{source}"."{table.name}"'
    if query(connection, "select to_regclass($1)::text", name) == [(None,)]:
        return Counter()
    columns = ", ".join(quote_name(column.name) for column in table.columns)
    return select(connection, f"select {columns} from {name}")


def select(connection: Connection, sql: str) -> Rows:
    """Return the rows of a query as a multiset."""
    return Counter(query(connection, sql))


def refused(connection: Connection, source: str) -> Rows:
    """Return the open rows of the quarantine."""
    return Counter(
        query(
            connection,
            "select table_name, unit, row_number, column_name, payload ->> 'id' from ops.quarantine"
            " where source = $1 and status = 'open' and row_number > 0",
            source,
        )
    )


def forget(connection: Connection, source: str) -> None:
    """Make the warehouse as it was before the source's first load."""
    execute(connection, f"drop schema if exists {quote_name('raw_' + source)} cascade")
    for table in OPS:
        execute(connection, f"delete from ops.{table} where source = $1", source)


def load_all(settings: Settings, source: Source, tables: Sequence[str] = ()) -> None:
    """Load the tables of a source that is in no module: what `granary load` does, in a loader process."""
    load.SOURCES = {source.name: source}
    for table in tables or [table.name for table in source.tables]:
        load.load_table(settings, source.name, table)
