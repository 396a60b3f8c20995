"""Raw tables that a capture fills: a load does not touch them, and they have to hold what was captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError
from granary.warehouse.raw_tables import lost
from granary.warehouse.records import Target

if TYPE_CHECKING:
    from granary.sources.spec import Source, Table
    from granary.warehouse.connection import Connection


class LostSlotError(GranaryError):
    """Changes since the last one stored, or rows that were, are gone: only a new snapshot makes the copy right."""

    def __init__(self, what: str, source: str, where: str, todo: str = "") -> None:
        """Say how to repair it."""
        super().__init__(
            what, where, f"the copy stays as it was; {todo or f'run `granary capture {source} --snapshot`'}"
        )


def check_held(connection: Connection, source: Source, table: Table) -> None:
    """Refuse a raw table of a captured source that does not hold what was captured.

    Raises:
        LostSlotError: somebody dropped or emptied it, or deleted rows of it.
    """
    if missing := lost(connection, Target(source.name, table.name, table.schema, ()), by_load=False):
        todo = "" if source.capture else "have Debezium make a new snapshot: see `granary guide sources/debezium`"
        raise LostSlotError(str(missing), source.name, f"{source.name}.{table.name}", todo)
