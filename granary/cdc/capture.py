"""The capture of a source: opened for one process alone, and removed."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from granary.cdc.capturing import STATE, Capturing
from granary.cdc.mysql.capturing import BinlogCapturing
from granary.cdc.postgres.capturing import PostgresCapturing
from granary.sources.spec import BinlogCapture
from granary.warehouse.connection import LockHeldError, connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.sources.spec import Source
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

LOCK_PATIENCE_SECONDS = 5
"""How long a capture waits for another one of its source, which may have been killed a moment ago."""


@contextmanager
def opened(settings: Settings, source: Source, run_id: str = "") -> Iterator[Capturing[Any]]:
    """Open a source's capture; it is this process's alone until it is closed.

    Raises:
        GranaryError: the source declares no capture, does not answer, cannot be captured, or is being captured.
    """
    if source.capture is None:
        raise GranaryError(
            f"source {source.name} declares no capture", todo="see `granary guide sources/change-capture`"
        )
    with connect(settings, role="loader", autocommit=True) as alone:
        try:  # not a row of ops.locks: a capture may follow for days, and a transaction as long would stop all vacuums
            execute(alone, f"set lock_timeout = '{LOCK_PATIENCE_SECONDS}s'")
            execute(alone, "select pg_advisory_lock(hashtextextended($1, 0))", f"granary.capture.{source.name}")
        except LockHeldError as error:
            raise GranaryError(
                f"another capture of {source.name} is running: {error.holder}", source.name, "end that one first"
            ) from None
        with (
            connect(settings, role="loader") as connection,
            closing(_capturing(settings, source, connection, run_id)) as capturing,
        ):
            try:
                yield capturing
            except BaseException as error:
                capturing.end(error)
                raise
            capturing.end()


def _capturing(settings: Settings, source: Source, connection: Connection, run_id: str) -> Capturing[Any]:
    assert source.capture is not None
    if isinstance(source.capture, BinlogCapture):
        return BinlogCapturing(settings, source, source.capture, connection, run_id)
    return PostgresCapturing(settings, source, source.capture, connection, run_id)


def drop(settings: Settings, source: Source) -> list[str]:
    """Remove what the capture has at the source, and forget the position; the raw tables stay.

    Returns:
        What was done, a sentence each.
    """
    with opened(settings, source) as capturing:
        done = capturing.drop()
        with LoadTransaction(settings, source.name) as tx:
            tx.execute("delete from ops.watermarks where source = $1 and table_name = $2", source.name, STATE)
            tx.execute("delete from ops.lags where source = $1 and kind = 'slot'", source.name)
    return done
