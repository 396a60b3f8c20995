"""The source database: its slot, its publication, and what it must be like to be captured."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from granary.cdc.postgres.lsn import lsn_number, lsn_text
from granary.cdc.postgres.replication import Replication
from granary.warehouse.connection import connect_uri, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from granary.sources.spec import Capture
    from granary.warehouse.connection import ArrowConnection

Answer = TypeVar("Answer")

SESSION = (
    "set datestyle = 'ISO, YMD'",
    "set timezone = 'UTC'",
    "set intervalstyle = 'postgres'",
    "set extra_float_digits = 3",
    "set bytea_output = 'hex'",
    "set client_encoding = 'UTF8'",
    "set row_security = off",  # a snapshot that row security would thin out is an error
    "set application_name = 'granary capture'",
)
"""How values are written as text, in the snapshot and in the stream alike."""

SLOT = "select to_jsonb(s)::text from pg_replication_slots as s where slot_name = $1"
CREATE = "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')"
ADVANCE = "select end_lsn::text from pg_replication_slot_advance($1, $2::text::pg_lsn)"
DROP = "select 1 from (select pg_drop_replication_slot($1)) as dropped"

ACTIVE = "55006"
"""SQLSTATE of a slot that another session is reading; one that was killed a moment ago takes a while to go."""
PATIENCE_SECONDS = 60
CANCELED = "57014"
"""SQLSTATE of a statement that was cancelled: what the driver makes of Ctrl-C."""


@dataclass(frozen=True)
class Slot:
    """A replication slot as the source shows it.

    `confirmed` is the LSN from which it gives changes, `restart` that from which it keeps the log (0 if it does not).
    `lost` says why it cannot be read any more ('' if it can).
    """

    database: str
    plugin: str
    confirmed: int
    restart: int
    wal_status: str
    active: bool
    lost: str


@dataclass(frozen=True)
class Server:
    """The source server now: who it is, where its log ends (flushed), and what time it is (ISO 8601)."""

    system: str
    timeline: str
    flushed: int
    clock: str
    database: str
    version: int


class Origin:
    """A connection to the source database, and its slot. Every statement is a transaction of its own."""

    def __init__(self, uri: str, capture: Capture, where: str) -> None:
        """Connect; the URI may hold a password and is never shown.

        Raises:
            GranaryError: the database does not answer.
        """
        self.uri, self.capture, self.where = uri, capture, where
        self.todo = f"check {capture.setting} and that the source database is up"
        self.connection = self.connect()

    def connect(self, *, autocommit: bool = True) -> ArrowConnection:
        """Open a connection whose values are written as `SESSION` says."""
        connection = connect_uri(self.uri, self.where, self.todo, autocommit=autocommit)
        for statement in SESSION:
            execute(connection, statement)
        if not autocommit:
            connection.commit()
        return connection

    def __enter__(self) -> Origin:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.connection.close()

    def cancel(self) -> None:
        """Break off what the source is doing for us, if anything; from another thread."""
        with suppress(Exception):
            self.connection.adbc_cancel()

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one query.

        Raises:
            GranaryError: the source refuses it or is gone, in its own words.
        """
        try:
            return query(self.connection, sql, *parameters)
        except DriverError as error:
            raise self.failure(error) from None

    def failure(self, error: Exception) -> GranaryError:
        """Return a driver's error as one that a person can act on.

        Raises:
            KeyboardInterrupt: the statement was cancelled by Ctrl-C.
        """
        if isinstance(error, DriverError) and error.sqlstate == CANCELED:
            raise KeyboardInterrupt("the capture was interrupted") from None
        did = "stopped answering" if isinstance(error, OSError) else "refuses"
        return GranaryError(f"the source database {did}: {reason(error)}", self.where, self.todo)

    # -- what there is ---------------------------------------------------------------------------------------

    def server(self) -> Server:
        """Return who and where the source is.

        Raises:
            GranaryError: it is a standby, which has no slots of ours.
        """
        row = self.query("select pg_is_in_recovery(), current_database(), current_setting('server_version_num')::int")
        if row[0][0]:
            raise GranaryError("the source is a standby", self.where, "capture its primary")
        found = self.query(
            "select system_identifier::text, substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8),"
            " pg_current_wal_flush_lsn()::text, to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')"
            " from pg_control_system()"
        )[0]
        return Server(found[0], found[1], lsn_number(found[2]), found[3], row[0][1], row[0][2])

    def slot(self) -> Slot | None:
        """Return our slot, or None if there is none of its name."""
        rows = self.query(
            "select to_jsonb(s)::text from pg_replication_slots as s where slot_name = $1", self.capture.slot
        )
        if not rows:
            return None
        slot = json.loads(rows[0][0])
        lost = slot.get("invalidation_reason") or ("wal_removed" if slot["wal_status"] == "lost" else "")
        return Slot(
            database=slot["database"] or "",
            plugin=slot["plugin"] or "",
            confirmed=lsn_number(slot["confirmed_flush_lsn"] or "0/0"),
            restart=lsn_number(slot["restart_lsn"] or "0/0"),
            wal_status=slot["wal_status"] or "lost",
            active=slot["active"],
            lost=lost,
        )

    # -- what changes there ----------------------------------------------------------------------------------

    def create_slot(self) -> int:
        """Make the slot anew and return the LSN where its changes begin.

        Raises:
            GranaryError: the source has no free slot, or the role may not make one.
        """
        self.drop_slot()
        made = self.query(CREATE, self.capture.slot)
        return lsn_number(made[0][0])

    def drop_slot(self) -> bool:
        """Drop the slot; return whether there was one."""
        if self.slot() is None:
            return False
        self._patiently(lambda: query(self.connection, DROP, self.capture.slot))
        return True

    def advance(self, lsn: int) -> None:
        """Let the source forget what comes before an LSN."""
        self._patiently(lambda: query(self.connection, ADVANCE, self.capture.slot, lsn_text(lsn)))

    def peek(self, most: int) -> Iterator[pa.Array]:
        """Yield the slot's messages from where it stands: whole transactions, until there are `most` messages.

        The slot does not move. The source decodes all of it first and keeps it (on its disk, if it is much); here it
        comes in pieces of about 16 MB.

        Raises:
            GranaryError: the slot cannot be read.
        """
        publication = quote_name(self.capture.publication).replace("'", "''")
        sql = (
            f"select data from pg_logical_slot_peek_binary_changes('{self.capture.slot}', null, {int(most)},"
            f" 'proto_version', '1', 'publication_names', '{publication}')"
        )
        with self.connection.cursor() as cursor:
            for batch in self.stream(lambda: self._patiently(lambda: _begun(cursor, sql))):
                yield batch.column(0)

    def replicate(self, start: int) -> Replication:
        """Have the source send what it commits from an LSN on, as it does; the slot is in use until it is closed.

        Raises:
            ReplicationRefusedError: it does not, though it may let us peek.
        """
        return Replication(self.uri, self.capture, SESSION, start, self.where)

    def stream(self, opened: Callable[[], Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        """Yield what the source sends in pieces; beside the driver's errors, an Arrow stream has some of its own.

        Raises:
            GranaryError: the source refuses it or is gone, in its own words.
        """
        try:
            yield from opened()
        except (DriverError, OSError, pa.ArrowException) as error:
            raise self.failure(error) from None

    def _patiently(self, attempt: Callable[[], Answer]) -> Answer:
        """Try, and again for a while as long as another session reads the slot.

        What the source refuses once it has begun to answer has no SQLSTATE, so the slot is asked whether it is free.
        One that has become free in between is tried once more.
        """
        patience, free = time.monotonic() + PATIENCE_SECONDS, 0
        while True:
            try:
                return attempt()
            except (DriverError, pa.ArrowInvalid) as error:
                if isinstance(error, DriverError):
                    taken = error.sqlstate == ACTIVE
                else:
                    slot = self.slot()
                    free += slot is None or not slot.active
                    taken = free <= 1
                if not taken or time.monotonic() > patience:
                    raise self.failure(error) from None
            time.sleep(0.1)


def _begun(cursor: Any, sql: str) -> Iterable[pa.RecordBatch]:
    """Return a statement's batches once the first is there, which is when the source may have refused it."""
    cursor.execute(sql)
    batches = cursor.fetch_record_batch()
    first = next(batches, None)
    return () if first is None else chain([first], batches)
