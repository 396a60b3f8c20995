"""What is said of how a capture stands, whatever log it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from granary.sources.spec import BinlogCapture, Capture


@dataclass(frozen=True)
class CaptureStatus:
    """How a capture stands.

    `lag_bytes` of the source's log come after what is stored; `held_bytes` the slot keeps from being thrown away. A
    binary log has no slots: there `slot` is our server id, `lsn` are GTIDs, and nothing is held.
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


def late(capture: Capture | BinlogCapture, waiting: int, seconds: float | None) -> list[str]:
    """Return the alarms of a capture behind which so many bytes wait, and whose copy is so many seconds old."""
    alarms = []
    if waiting > capture.alarm_bytes:
        alarms.append(f"{waiting:,} bytes wait in the source's log, over {capture.alarm_bytes:,}")
    if seconds is not None and seconds > capture.alarm_age.total_seconds():
        alarms.append(f"the copy is {seconds:,.0f} s old, over {capture.alarm_age.total_seconds():,.0f}")
    return alarms
