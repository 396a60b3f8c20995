"""How a capture stands: how much of the log is not stored, whether the log still has it, how old the copy is."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from granary.cdc.capture_status import CaptureStatus, late
from granary.cdc.capturing import check_rows, stored_text
from granary.cdc.mysql.catalog import check_server, look
from granary.cdc.mysql.gtid import GtidSet
from granary.cdc.mysql.server import Server
from granary.cdc.mysql.state import State
from granary.load.captured import LostSlotError
from granary.sources.config import setting
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from granary.warehouse.run_ledger import Lag

if TYPE_CHECKING:
    from granary.cdc.mysql.server import Now
    from granary.sources.spec import BinlogCapture, Source
    from granary.warehouse.settings import Settings

KEPT, PURGED, UNKNOWN = "kept", "purged", "unknown"
"""Whether the log has everything since what is stored (the `wal_status` of a slot)."""


def check_log(source: Source, server: Server, state: State, now: Now) -> None:
    """Refuse a log that no longer has everything since the position.

    Raises:
        LostSlotError: it was purged, or is that of a server which lacks what is stored.
    """
    stored = state.stored
    if not stored.holds(purged := server.purged()):
        raise LostSlotError(
            f"the source has thrown away log files that were needed: they begin after {purged}, and what is stored"
            f" ends at {state.gtid or 'the beginning'}",
            source.name,
            server.where,
        )
    if not GtidSet.parse(now.gtid).holds(stored):
        raise LostSlotError(
            f"the source's log ends at {now.gtid or 'the beginning'} and lacks what is stored ({state.gtid}): it was"
            " reset or restored, or a server has taken over that had not received all",
            source.name,
            server.where,
        )


def waiting(server: Server, state: State, now: Now) -> int | None:
    """Return how many bytes of the log come after what is stored; None if another server has taken over since."""
    if now.server != state.server:
        return None
    logs = server.logs()
    files = [name for name, _ in logs]
    if state.file not in files:
        return None
    sizes = dict(logs) | {now.file: now.position}
    return max(0, sum(sizes[name] for name in files[files.index(state.file) :]) - state.position)


def lag_of(source: Source, server: Server, state: State | None) -> list[Lag]:
    """Return for the run ledger how much is not stored, and how old the copy is; nothing if the source is away."""
    if state is None or not state.as_of:
        return []
    try:
        now = server.now()
        left = waiting(server, state, now)
    except GranaryError:
        return []
    return [Lag(source.name, "slot", _reader(server.capture), None, left, round(_age(state, now), 3))]


def status(settings: Settings, source: Source, capture: BinlogCapture) -> CaptureStatus:
    """Return how a source's capture stands; a source that does not answer is an alarm, not an error.

    Raises:
        GranaryError: the warehouse does not answer.
    """
    with connect(settings, role="loader") as connection:
        text = stored_text(connection, source)
    state = State.load(text) if text else None
    alarms: list[str] = []
    left = seconds = None
    kept = UNKNOWN
    try:
        with closing(Server(setting(settings, capture.setting), capture, source.name)) as server:
            check_server(server)
            now = server.now()
            if state is None or state.phase == "snapshot":
                alarms.append(f"nothing has been copied yet; run `granary capture {source.name}`")
            else:
                left, seconds = waiting(server, state, now), _age(state, now)
                kept = PURGED
                check_log(source, server, state, now)
                kept = KEPT
                look(server, source.tables)
                with connect(settings, role="loader") as connection:
                    check_rows(connection, source)
    except GranaryError as error:
        alarms.append(str(error))
    return CaptureStatus(
        source=source.name,
        slot=_reader(capture),
        publication="",
        phase=state.phase if state else "never captured",
        lsn=state.lsn if state else "",
        confirmed_lsn="",
        active=False,
        wal_status=kept,
        lag_bytes=left,
        held_bytes=None,
        lag_seconds=seconds,
        alarm_bytes=capture.alarm_bytes,
        alarm_seconds=capture.alarm_age.total_seconds(),
        alarms=(*alarms, *late(capture, left or 0, seconds)),
    )


def _reader(capture: BinlogCapture) -> str:
    return f"server_id {capture.server_id}"


def _age(state: State, now: Now) -> float:
    """Return for how many seconds it has not been known that the copy is complete."""
    return max(0.0, (datetime.fromisoformat(now.clock) - datetime.fromisoformat(state.as_of)).total_seconds())
