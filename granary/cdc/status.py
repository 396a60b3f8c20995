"""How a capture stands: what its slot holds back at the source, how old the copy is, and whether to raise an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from granary.cdc.catalog import look
from granary.cdc.lost_slot import check_rows, check_slot, check_tables
from granary.cdc.lsn import lsn_text
from granary.cdc.origin import Origin
from granary.cdc.state import STATE, State
from granary.sources.config import setting
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.run_ledger import Lag

if TYPE_CHECKING:
    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class CaptureStatus:
    """How a capture stands.

    `lag_bytes` of the source's log come after what is stored; `held_bytes` the slot keeps from being thrown away.
    `lag_seconds` is how long ago the copy was last known to be complete. `alarms` are empty if all is well.
    """

    source: str
    slot: str
    publication: str
    phase: str
    lsn: str
    confirmed_lsn: str
    active: bool
    wal_status: str
    lag_bytes: int | None
    held_bytes: int | None
    lag_seconds: float | None
    alarm_bytes: int
    alarm_seconds: float
    alarms: tuple[str, ...]


def lag_of(source: Source, origin: Origin, state: State | None) -> list[Lag]:
    """Return for the run ledger what the slot holds back, and how old the copy is; nothing if the source is away."""
    if state is None or source.capture is None or not state.as_of:
        return []
    try:
        server, slot = origin.server(), origin.slot()
    except GranaryError:
        return []
    held = server.flushed - (slot.restart if slot and slot.restart else state.position)
    age = (datetime.fromisoformat(server.clock) - datetime.fromisoformat(state.as_of)).total_seconds()
    return [Lag(source.name, "slot", source.capture.slot, None, max(0, held), round(max(0.0, age), 3))]


def status(settings: Settings, source: Source) -> CaptureStatus:
    """Return how a source's capture stands; a source that does not answer is an alarm, not an error.

    Raises:
        GranaryError: the source declares no capture, or the warehouse does not answer.
    """
    capture = source.capture
    if capture is None:
        raise GranaryError(
            f"source {source.name} declares no capture", todo="see docs/engine/sources/change-capture.md"
        )
    with connect(settings, role="loader") as connection:
        rows = query(
            connection, "select value from ops.watermarks where source = $1 and table_name = $2", source.name, STATE
        )
    state = State.load(str(rows[0][0])) if rows else None
    alarms: list[str] = []
    server = slot = None
    try:
        with Origin(setting(settings, capture.setting), capture, f"source {source.name}") as origin:
            server, slot = origin.server(), origin.slot()
            if state is None or state.phase == "snapshot":
                alarms.append(f"nothing has been copied yet; run `granary capture {source.name}`")
            else:
                check_slot(source, origin.where, state, server, slot)
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
    if max(held or 0, lag or 0) > capture.alarm_bytes:
        alarms.append(f"{max(held or 0, lag or 0):,} bytes wait in the source's log, over {capture.alarm_bytes:,}")
    if seconds is not None and seconds > capture.alarm_age.total_seconds():
        alarms.append(f"the copy is {seconds:,.0f} s old, over {capture.alarm_age.total_seconds():,.0f}")
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
