"""Events of the binary log: what kinds there are, and where one transaction ends and the next begins.

The layout is that of MySQL's libs/mysql/binlog/event/ (binlog_event.h, rows_event.h, control_events.h) and of MariaDB's
sql/log_event.h; numbers are little-endian. An event begins with a header of 19 bytes: time, kind, server, size, where
the next one is in the file, and flags.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = 19
TIME, KIND, SERVER, NEXT = 0, 4, 5, 13
"""Where the parts of a header are."""

QUERY, ROTATE, FORMAT, XID, TABLE_MAP, INCIDENT, GTID, ANONYMOUS, XA_PREPARE = 2, 4, 15, 16, 19, 26, 33, 34, 38
INSERTS, UPDATES, DELETES = (23, 30), (24, 31), (25, 32)
"""Rows; the second of each has more before its rows (MySQL since 5.6)."""
ROWS = frozenset((*INSERTS, *UPDATES, *DELETES))
PARTIAL_ROWS, PACKED_TRANSACTION, TAGGED_GTID = 39, 40, 42
MARIADB_GTID = 162
PACKED = frozenset(range(165, 172))
"""Events that MariaDB has compressed."""

UNREADABLE = {
    PARTIAL_ROWS: "set binlog_row_value_options = ''",
    PACKED_TRANSACTION: "set binlog_transaction_compression = off",
    TAGGED_GTID: "leave gtid_next without a tag",
    **dict.fromkeys(PACKED, "set log_bin_compress = off"),
}
"""Events that are not read, and what the source has to do so that there are none."""

KEPT = ROWS | UNREADABLE.keys() | {QUERY, ROTATE, XID, TABLE_MAP, INCIDENT, GTID, ANONYMOUS, XA_PREPARE, MARIADB_GTID}
"""Events that say something; of others, such as heartbeats, none has to be handed on."""

STANDALONE, PREPARED, COMPLETED = 1, 64, 128
"""Flags of MariaDB's GTIDs: a statement that is a transaction by itself; the two halves of a distributed one."""


@dataclass
class Seam:
    """Finds the ends of transactions, event by event."""

    within: bool = False

    def ends(self, kind: int, event: bytes) -> bool:
        """Return whether a transaction ends with this event."""
        if kind == MARIADB_GTID:
            self.within = not event[HEADER + 12] & STANDALONE
        elif kind in (GTID, ANONYMOUS):
            self.within = False
        elif kind in (XID, XA_PREPARE):
            self.within = False
            return True
        elif kind == QUERY:
            sql = query(event)[1]
            begins = sql[:5] == b"BEGIN" or sql[:8] == b"XA START"
            # Within one, other statements are savepoints, or what a session has logged as such.
            self.within = begins or (self.within and sql not in (b"COMMIT", b"ROLLBACK"))
            return not self.within
        return False


def query(event: bytes) -> tuple[str, bytes]:
    """Return the default database and the text of a statement."""
    schema, variables = event[HEADER + 8], int.from_bytes(event[HEADER + 11 : HEADER + 13], "little")
    at = HEADER + 13 + variables
    return event[at : at + schema].decode("utf-8", "replace"), event[at + schema + 1 :]


def rotation(event: bytes) -> tuple[str, int]:
    """Return the file that the log goes on in, and where."""
    return event[HEADER + 8 :].decode("utf-8", "replace"), int(struct.unpack_from("<Q", event, HEADER)[0])


def table_id(event: bytes) -> bytes:
    """Return the number under which a table is announced, as bytes."""
    return event[HEADER : HEADER + 6]
