"""How a capture stands: what its slot holds back at the source, how old the copy is, and whether to raise an alarm."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from granary.cdc.capture_status import CaptureStatus, late
from granary.cdc.capturing import check_rows, stored_text
from granary.cdc.postgres.catalog import look
from granary.cdc.postgres.lost_slot import check_slot, check_tables
from granary.cdc.postgres.lsn import lsn_text
from granary.cdc.postgres.origin import Origin
from granary.cdc.postgres.state import State
from granary.sources.config import setting
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from granary.warehouse.run_ledger import Lag

if TYPE_CHECKING:
    from granary.sources.spec import Capture, Source
    from granary.warehouse.settings import Settings


def lag_of(source: Source, origin: Origin, state: State | None) -> list[Lag]:
    """Return for the run ledger what the slot holds back, and how old the copy is; nothing if the source is away."""
    if state is None or not state.as_of:
        return []
    try:
        server, slot = origin.server(), origin.slot()
    except GranaryError:
        return []
    held = server.flushed - (slot.restart if slot and slot.restart else state.position)
    age = (datetime.fromisoformat(server.clock) - datetime.fromisoformat(state.as_of)).total_seconds()
    return [Lag(source.name, "slot", origin.capture.slot, None, max(0, held), round(max(0.0, age), 3))]


def status(settings: Settings, source: Source, capture: Capture) -> CaptureStatus:
    """Return how a source's capture stands; a source that does not answer is an alarm, not an error.

    Raises:
        GranaryError: the warehouse does not answer.
    """
    with connect(settings, role="loader") as connection:
        text = stored_text(connection, source)
    state = State.load(text) if text else None
    alarms: list[str] = []
    server = slot = None
    try:
        with Origin(setting(settings, capture.setting), capture, f"source {source.name}") as origin:
            server, slot = origin.server(), origin.slot()
            if state is None or state.phase == "snapshot":
                alarms.append(f"nothing has been copied yet; run `granary capture {source.name}`")
            else:
                check_slot(source, capture, origin.where, state, server, slot)
                check_tables(source, origin, state, look(origin, source.tables))
                with connect(settings, role="loader") as connection:
                    check_rows(connection, source)
    except GranaryError as error:
        alarms.append(str(error))
    held = server.flushed - slot.restart if server and slot and slot.restart else None
    lag = server.flushed - state.position if server and state and state.phase == "stream" else None
    seconds = None
    if server and state and state.as_of:
        age = datetime.fromisoformat(server.clock) - datetime.fromisoformat(state.as_of)
        seconds = max(0.0, age.total_seconds())
    if slot and slot.wal_status == "unreserved":
        alarms.append("wal_status is unreserved: at its next checkpoint the source throws away what is still needed")
    alarms += late(capture, max(held or 0, lag or 0), seconds)
    return CaptureStatus(
        source=source.name,
        slot=capture.slot,
        publication=capture.publication,
        phase=state.phase if state else "never captured",
        lsn=state.lsn if state else "",
        confirmed_lsn=lsn_text(slot.confirmed) if slot else "",
        active=bool(slot and slot.active),
        wal_status=slot.wal_status if slot else "no slot",
        lag_bytes=lag,
        held_bytes=held,
        lag_seconds=seconds,
        alarm_bytes=capture.alarm_bytes,
        alarm_seconds=capture.alarm_age.total_seconds(),
        alarms=tuple(alarms),
    )
