"""The binary log as the source sends it to a replica: the protocol's commands and packets, read in a thread.

The commands are described in MySQL's manual, "Replication Protocol"
(https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html), MariaDB's way to ask by GTID in
https://mariadb.com/kb/en/5-slave-registration/; numbers are little-endian.
"""

from __future__ import annotations

import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.cdc.mysql import events
from granary.cdc.mysql.server import abort
from granary.load.captured import LostSlotError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.cdc.mysql.gtid import GtidSet
    from granary.cdc.mysql.server import Server

DUMP, DUMP_GTID = 0x12, 0x1E
NON_BLOCK, THROUGH_GTID = 0x01, 0x04
OK, END, ERROR = 0x00, 0xFE, 0xFF
CHECKSUM_BYTES = 4
LONGEST = 0xFFFFFF
"""Bytes of a packet that another one continues."""
FATAL = 1236
"""Error of a log that does not have what a replica asks for: purged, reset, or another server's."""
PART_BYTES = 16 << 20
"""How much waits at most while the warehouse is busy: memory stays flat."""
READ_BYTES = 1 << 20
HEARTBEAT_SECONDS = 1


@dataclass(frozen=True)
class Part:
    """Events as they came. `whole`: their last transaction is complete."""

    events: list[bytes]
    whole: bool


class Log:
    """A session to which the source sends its log from a position on."""

    def __init__(self, server: Server, stored: GtidSet, *, follow: bool) -> None:
        """Ask for everything that is not stored; without `follow` the log ends where it does now.

        Raises:
            GranaryError: the source does not answer.
        """
        self.server, self._follow = server, follow
        self._session = server.connect()
        self._closed = threading.Event()
        self._change = threading.Condition()
        self._events: list[bytes] = []
        self._whole, self._bytes = 0, 0
        self._ended = False
        self._checksum = 0
        self._error: Exception | None = None
        self._seam = events.Seam()
        try:
            self._ask(stored, follow=follow)
        except BaseException:
            self._session.close()
            raise
        self._thread = threading.Thread(target=self._work, name="granary-binlog", daemon=True)
        self._thread.start()

    def _ask(self, stored: GtidSet, *, follow: bool) -> None:
        nanoseconds = HEARTBEAT_SECONDS * 10**9
        flags = 0 if follow else NON_BLOCK
        for name, value in (("master_heartbeat_period", nanoseconds), ("source_heartbeat_period", nanoseconds)):
            self.server.query(f"set @{name} = %s", value, session=self._session)
        # A server with checksums sends nothing to a replica that does not say it knows them.
        for name in ("master_binlog_checksum", "source_binlog_checksum"):
            self.server.query(f"set @{name} = @@global.binlog_checksum", session=self._session)
        [(checksum,)] = self.server.query("select @@global.binlog_checksum", session=self._session)
        self._checksum = CHECKSUM_BYTES if checksum != "NONE" else 0
        number = self.server.capture.server_id
        if self.server.is_mariadb:
            for name, given in (
                ("mariadb_slave_capability", 4),
                ("slave_connect_state", str(stored)),
                ("slave_gtid_strict_mode", 1),
                ("slave_gtid_ignore_duplicates", 0),
            ):
                self.server.query(f"set @{name} = %s", given, session=self._session)
            command = struct.pack("<BIHI", DUMP, 4, flags, number)
        else:
            encoded = stored.encoded()
            command = struct.pack("<BHIIQI", DUMP_GTID, flags | THROUGH_GTID, number, 0, 4, len(encoded)) + encoded
        with suppress(OSError):  # said by the first read
            self._session._sock.sendall(struct.pack("<I", len(command)) + command)

    def close(self) -> None:
        """End the session."""
        self.cancel()
        self._thread.join()
        self._session._force_close()

    def cancel(self) -> None:
        """Wake the thread that waits for changes, and let it end; to be called from another one."""
        with self._change:
            self._closed.set()
            self._change.notify_all()
        abort(self._session)

    def wait(self, seconds: float | None = None) -> Part | None:
        """Return what has come since the last call; None if no transaction has for so long, or the log has ended.

        Raises:
            LostSlotError: the source does not have what is not stored yet.
            GranaryError: the session has ended, or was cancelled.
        """
        with self._change:
            self._change.wait_for(self._is_due, seconds)
            if self._closed.is_set():
                raise GranaryError("the capture was ended", self.server.where)
            if self._has_part():
                return self._taken()
            if self._error:
                raise self._error
        return None

    def transactions(self, part: Part) -> Iterator[Part]:
        """Yield a part, and further ones until the transaction that it may end in the middle of is complete."""
        yield part
        while not part.whole:
            following = self.wait()
            if following is None:
                raise GranaryError("the log ended in the middle of a transaction", self.server.where, self.server.todo)
            part = following
            yield part

    def _has_part(self) -> bool:
        """Whether there is enough: any transaction for one who follows, else as much as may wait, or the last ones."""
        waits = not self._follow and not self._ended and self._error is None
        return self._bytes >= PART_BYTES or bool(self._whole and not waits)

    def _is_due(self) -> bool:
        return bool(self._has_part() or self._error or self._ended or self._closed.is_set())

    def _taken(self) -> Part:
        count = self._whole or len(self._events)
        taken, self._events = self._events[:count], self._events[count:]
        part = Part(taken, bool(self._whole))
        self._whole, self._bytes = 0, sum(map(len, self._events))
        self._change.notify_all()
        return part

    # -- the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._read()
        except Exception as error:  # handed to the thread that waits
            with self._change:
                self._error = self._said(error)
                self._change.notify_all()

    def _said(self, error: Exception) -> Exception:
        if isinstance(error, GranaryError):
            return error
        return GranaryError(
            f"the source database stopped sending its log: {error or type(error).__name__}",
            self.server.where,
            self.server.todo,
        )

    def _read(self) -> None:
        """Take packets from the socket, many at a time, until the log ends."""
        socket, buffer, long = self._session._sock, b"", b""
        while not self._closed.is_set():
            received = socket.recv(READ_BYTES)
            if not received:
                raise ConnectionError("it closed the connection")
            buffer = buffer + received if buffer else received
            at, size, events_here = 0, len(buffer), []
            while at + 4 <= size:
                length = int.from_bytes(buffer[at : at + 3], "little")
                end = at + 4 + length
                if end > size:
                    break
                if length == LONGEST or long:
                    long += buffer[at + 4 : end]
                    if length != LONGEST:
                        events_here.append(long)
                        long = b""
                else:
                    events_here.append(buffer[at + 4 : end])
                at = end
            buffer = buffer[at:]
            if events_here and self._keep(events_here):
                return

    def _keep(self, packets: list[bytes]) -> bool:
        """Keep events for the thread that waits; return whether the log has ended."""
        seam = self._seam
        with self._change:
            self._change.wait_for(lambda: self._bytes < PART_BYTES or self._closed.is_set())
            for packet in packets:
                if packet[0] != OK:
                    if packet[0] == END and len(packet) < 9:  # noqa: PLR2004 - a longer one is a number, not an end
                        self._ended = True
                        self._change.notify_all()
                        return True
                    raise self._refusal(packet)
                kind = packet[5]
                if kind == events.FORMAT:  # each file of the log says whether it has checksums
                    self._checksum = CHECKSUM_BYTES if packet[-CHECKSUM_BYTES - 1] else 0
                elif kind in events.KEPT:
                    event = packet[1 : len(packet) - self._checksum]
                    self._events.append(event)
                    self._bytes += len(event)
                    if seam.ends(kind, event):
                        self._whole = len(self._events)
            if self._is_due():
                self._change.notify_all()
        return False

    def _refusal(self, packet: bytes) -> Exception:
        code = int.from_bytes(packet[1:3], "little") if packet[0] == ERROR else 0
        words = packet[9:].decode("utf-8", "replace")
        if code == FATAL:
            return LostSlotError(
                f"the source's log does not go on from what is stored: {words}", self.server.source, self.server.where
            )
        return GranaryError(
            f"the source refuses to send its log: {words} ({code})", self.server.where, self.server.todo
        )
