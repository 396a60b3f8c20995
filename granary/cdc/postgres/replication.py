"""The source's log as it is written: the replication protocol, for a capture that follows.

To peek at a slot makes the source read its log again from the oldest transaction that the slot may still need, which is
some seconds of it; a session that replicates is sent each transaction once, as soon as it is committed. The messages
are described in the Postgres manual, "Streaming Replication Protocol"
(https://www.postgresql.org/docs/current/protocol-replication.html); numbers are big-endian.
"""

from __future__ import annotations

import select
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from psycopg import pq
from psycopg.conninfo import make_conninfo

from granary.cdc.postgres.lsn import lsn_text
from granary.cdc.postgres.pgoutput import COMMIT, RELATION
from granary.warehouse.connection import quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.waits import TCP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.sources.spec import Capture

DATA, KEEPALIVE = b"w", b"k"
DATA_HEAD = 1 + 8 + 8 + 8
"""Bytes before a message of the log: the letter, where it begins, where the log ends, the clock."""
REPLY_SECONDS = 5.0
"""How often the source is told how far we are; it gives up a reader of which it hears nothing (wal_sender_timeout)."""
PART_BYTES = 16 << 20
"""How much waits at most while the warehouse is busy: memory stays flat."""
LOOK_SECONDS = 0.2
EPOCH = 946_684_800
"""Seconds from 1970 to 2000, where Postgres counts from."""


@dataclass(frozen=True)
class Part:
    """Messages as they came. `whole`: their last transaction is complete; `tables`: some announce tables."""

    messages: pa.Array
    whole: bool
    tables: bool


class ReplicationRefusedError(GranaryError):
    """The source does not let us replicate, though it may let us peek: poolers and some hosts block the protocol."""


class Replication:
    """A session that replicates, and a thread that reads it; the slot is in use until it is closed."""

    def __init__(self, uri: str, capture: Capture, session: Sequence[str], start: int, where: str) -> None:
        """Connect and begin at an LSN.

        Args:
            uri: of the source; it may hold a password and is never shown.
            capture: names the slot and the publication.
            session: the statements that say how values are written as text.
            start: the LSN up to which everything is stored.
            where: the source, for errors.

        Raises:
            ReplicationRefusedError: the source refuses it, or does not answer.
        """
        self.where = where
        self.stored = start
        """The LSN before which the source may discard its log: set once the changes up to it are stored."""
        self._told, self._spoke = start, time.monotonic()
        self._closed = threading.Event()
        self._change = threading.Condition()
        self._messages: list[bytes] = []
        self._whole, self._bytes, self._tables = 0, 0, False
        self._reached = start
        self._error: GranaryError | None = None
        info = make_conninfo(uri, replication="database", **TCP)
        self._connection = pq.PGconn.connect(info.encode())
        try:
            if self._connection.status != pq.ConnStatus.OK:
                raise self._failure(ReplicationRefusedError)
            for statement in session:
                self._run(statement, pq.ExecStatus.COMMAND_OK)
            publication = quote_name(capture.publication).replace("'", "''")
            self._run(
                f"START_REPLICATION SLOT {quote_name(capture.slot)} LOGICAL {lsn_text(start)}"
                f" (proto_version '1', publication_names '{publication}')",
                pq.ExecStatus.COPY_BOTH,
            )
        except BaseException:
            self._connection.finish()
            raise
        self._connection.nonblocking = 1
        self._thread = threading.Thread(target=self._work, name="granary-replication", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell the source how far we are, and end the session."""
        self.cancel()
        self._thread.join()

    def cancel(self) -> None:
        """Wake the thread that waits for changes, and let it end; to be called from another one."""
        with self._change:
            self._closed.set()
            self._change.notify_all()

    def wait(self, seconds: float) -> Part | None:
        """Return what has come since the last call, or None if no transaction has, for so long.

        Raises:
            GranaryError: the session has ended, or was cancelled.
        """
        with self._change:
            self._change.wait_for(self._is_due, seconds)
            if self._closed.is_set():
                raise GranaryError("the capture was ended", self.where)
            if self._whole or self._bytes >= PART_BYTES:
                count = self._whole or len(self._messages)
                part = Part(pa.array(self._messages[:count], pa.binary()), bool(self._whole), self._tables)
                del self._messages[:count]
                self._whole, self._bytes, self._tables = 0, sum(map(len, self._messages)), self._announced()
                self._change.notify_all()
                return part
            if self._error:
                raise self._error
        return None

    def transactions(self, part: Part) -> Iterator[Part]:
        """Yield a part, and further ones until the transaction that it may end in the middle of is complete."""
        yield part
        while not part.whole:
            following = self.wait(REPLY_SECONDS)
            if following is not None:
                part = following
                yield part

    def reached(self) -> int:
        """Return an LSN before which nothing is left that has not been handed over."""
        with self._change:
            return 0 if self._messages else self._reached

    def _is_due(self) -> bool:
        return bool(self._whole or self._bytes >= PART_BYTES or self._error or self._closed.is_set())

    def _announced(self) -> bool:
        return any(message[0] == RELATION for message in self._messages)

    # -- the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._closed.is_set():
                self._receive()
                self._reply()
            self._reply(now=True)
        except GranaryError as error:
            self._end(error)
        except Exception as error:
            self._end(GranaryError(f"the source's stream cannot be read: {error}", self.where))
        finally:
            self._connection.finish()

    def _end(self, error: GranaryError) -> None:
        with self._change:
            self._error = error
            self._change.notify_all()

    def _receive(self) -> None:
        """Take what has come; wait a little if nothing has, or if the warehouse is behind."""
        if select.select([self._connection.socket], [], [], LOOK_SECONDS)[0]:
            self._connection.consume_input()
        come: list[bytes] = []
        length, data = self._connection.get_copy_data(1)
        while length > 0:
            come.append(bytes(data))
            length, data = self._connection.get_copy_data(1)
        with self._change:
            wanted = sum(self._take(each) for each in come) > 0
            self._change.notify_all()
        if length < 0:
            raise self._failure(GranaryError, self._connection.get_result())
        if wanted:
            self._reply(now=True)
        with self._change:
            while self._bytes >= PART_BYTES and not self._closed.is_set():
                self._change.wait(LOOK_SECONDS)
                self._reply()  # the warehouse is busy, and we are alive

    def _take(self, data: bytes) -> bool:
        """Keep a message; return whether the source wants an answer at once."""
        kind = data[:1]
        if kind == DATA:
            message = data[DATA_HEAD:]
            self._messages.append(message)
            self._bytes += len(message)
            self._tables |= message[0] == RELATION
            if message[0] == COMMIT:
                self._whole = len(self._messages)
        elif kind == KEEPALIVE:
            self._reached, _, wanted = struct.unpack_from(">QQB", data, 1)
            return bool(wanted)
        return False

    def _reply(self, *, now: bool = False) -> None:
        """Tell the source what is stored, if that has changed or it has heard nothing for a while."""
        stored, clock = self.stored, time.monotonic()
        if not now and stored == self._told and clock - self._spoke < REPLY_SECONDS:
            return
        self._told, self._spoke = stored, clock
        micros = int((time.time() - EPOCH) * 1_000_000)
        self._connection.put_copy_data(b"r" + struct.pack(">QQQQB", stored, stored, stored, micros, 0))
        while self._connection.flush():
            select.select([], [self._connection.socket], [], 1.0)

    # -- errors ----------------------------------------------------------------------------------------------

    def _run(self, sql: str, expected: pq.ExecStatus) -> None:
        result = self._connection.exec_(sql.encode())
        if result.status != expected:
            raise self._failure(ReplicationRefusedError, result)

    def _failure(self, kind: type[GranaryError], result: Any = None) -> GranaryError:
        """Return an error in the source's own words, without the connection's."""
        words = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) if result else None
        text = words.decode("utf-8", "replace") if words else "the connection was lost"
        return kind(f"the source database refuses to replicate: {text}", self.where)
