"""How a slot is lost: everything that can come between what is stored and the changes that the source still has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.cdc.postgres.lsn import lsn_text
from granary.cdc.postgres.schema_changes import altered, attached
from granary.cdc.rows import source_names
from granary.load.captured import LostSlotError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.cdc.postgres.catalog import Origins
    from granary.cdc.postgres.origin import Origin, Server, Slot
    from granary.cdc.postgres.state import State
    from granary.sources.spec import Capture, Source


def check_slot(source: Source, capture: Capture, where: str, state: State, server: Server, slot: Slot | None) -> None:
    """Refuse a slot that no longer holds everything since the position.

    Raises:
        LostSlotError: it says what happened to the slot.
    """

    def gone(what: str) -> LostSlotError:
        return LostSlotError(what, source.name, where)

    name = capture.slot
    if (server.system, server.timeline) != (state.system, state.timeline):
        raise gone("the source is another server than before, was restored, or failed over")
    if server.flushed < state.position:
        raise gone(
            f"the source's log ends at {lsn_text(server.flushed)}, before what is stored ({state.lsn}): it was restored"
        )
    if slot is None:
        raise gone(f"replication slot {name} is gone")
    if slot.database != server.database:
        raise gone(f"replication slot {name} belongs to database {slot.database}, not {server.database}")
    if slot.plugin != "pgoutput":
        raise gone(f"replication slot {name} is made for {slot.plugin}, not pgoutput")
    if slot.lost:
        raise gone(f"the source has thrown away changes that replication slot {name} needed ({slot.lost})")
    if slot.confirmed > state.position:
        raise gone(
            f"replication slot {name} was moved by somebody else, from {state.lsn} to {lsn_text(slot.confirmed)}"
        )


def check_tables(source: Source, origin: Origin, state: State, tables: Mapping[str, Origins]) -> None:
    """Refuse tables that are not those which were copied, or whose rows were altered without a change in the log.

    Raises:
        LostSlotError: one was made anew or was altered since.
        GranaryError: one has not been copied yet.
    """
    where = origin.where
    for table in source.tables:
        now = tables[table.name]
        if table.name not in state.tables:
            todo = f"run `granary capture {source.name}`, which copies it and goes on with the others"
            raise GranaryError(f"table {table.name} has not been copied yet", where, todo)
        known = state.tables[table.name]
        if known.oid != now.oid:
            raise LostSlotError(f"table {table.name} was dropped and created again at the source", source.name, where)
        found = altered(known.shape, now.shape, source_names(table)) or attached(
            origin, now.sql_name, known.shape, now.shape
        )
        if found:
            raise LostSlotError(
                f"table {table.name} was altered at the source so that rows differ and no change says so: {found}",
                source.name,
                where,
            )
