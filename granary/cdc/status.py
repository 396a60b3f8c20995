"""How a capture stands: how far behind it is, how old the copy is, and whether to raise an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.cdc.mysql import status as of_binlog
from granary.cdc.postgres import status as of_slot
from granary.sources.spec import BinlogCapture
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.cdc.capture_status import CaptureStatus
    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings


def status(settings: Settings, source: Source) -> CaptureStatus:
    """Return how a source's capture stands; a source that does not answer is an alarm, not an error.

    Raises:
        GranaryError: the source declares no capture, or the warehouse does not answer.
    """
    capture = source.capture
    if capture is None:
        raise GranaryError(
            f"source {source.name} declares no capture", todo="see `granary guide sources/change-capture`"
        )
    if isinstance(capture, BinlogCapture):
        return of_binlog.status(settings, source, capture)
    return of_slot.status(settings, source, capture)
