"""Debezium's envelope: what happened to a row, and where in the source's log.

The envelope is https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-change-events.
A place in the log is a pair that grows with it, within what one server or one timeline of transactions writes: its era.

| connector | era | place |
|---|---|---|
| postgresql | the database | LSN of the last commit before, and of the change (`source.sequence`) |
| mysql, mariadb | the GTID's server, else binary log and server | number of the file and position in it, row |

Where there are GTIDs their number goes before the place: another server has other files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from granary.streams.debezium.fields import of_avro, of_connect
from granary.streams.decoding import UnfitError, checked, parse_object
from granary.warehouse.json_text import decode, flaw_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.streams.debezium.fields import Field
    from granary.streams.log import Message
    from granary.streams.registered import RegistryDecoder

OPS = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate"}
LAST = ("last", "last_in_data_collection")
GTID = re.compile(r"([0-9A-Za-z-]+):(\d+)|(\d+)-(\d+)-(\d+)")
FILE_BITS = 40
"""Of a place in binary logs: the number of the file lies above the position within it."""
BIGINT = 2**63

Place = tuple[int, int]


@dataclass(frozen=True)
class Event:
    """A change. `place` is where it lies in the log of its `era`; `snapshot` is what its source says of copying."""

    op: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    fields: Mapping[str, Field]
    era: str
    number: int
    place: Place
    xid: int | None
    at: datetime
    snapshot: str
    message: Message

    @property
    def order(self) -> tuple[int, int, int]:
        """Return what grows within an era: the GTID's number, or zero, and the place."""
        return (self.number, *self.place)

    @property
    def row(self) -> Mapping[str, Any]:
        """Return the row that the change is about; a delete has what was there before."""
        return (self.before if self.op == "delete" else self.after) or {}


def event(message: Message, topic: str, max_bytes: int, registered: RegistryDecoder | None) -> Event | None:
    """Return the change that a message tells, or None for a tombstone, which tells Kafka only.

    Raises:
        UnfitError: it is no envelope, or of a database whose log's order is not known here.
        RegistryUnavailableError: its schema is not known yet and cannot be asked for now.
    """
    if message.value is None:
        return None
    value = checked(message.value, max_bytes)
    fields: Mapping[str, Field]
    if registered is None:
        envelope = parse_object(value)
        fields = {}
        if "payload" in envelope and "schema" in envelope:
            fields, envelope = of_connect(envelope["schema"]), envelope["payload"]
            if envelope is None:
                return None
    else:
        envelope, described = registered.record(topic, value)
        fields = of_avro(described)
    return _event(envelope, fields, message)


def _event(envelope: Any, fields: Mapping[str, Field], message: Message) -> Event:
    if not isinstance(envelope, dict) or not isinstance(envelope.get("source"), dict):
        raise UnfitError("is no envelope of Debezium: it has no op and source")
    source, op = envelope["source"], OPS.get(str(envelope.get("op")))
    if op is None:
        raise UnfitError("is no envelope of Debezium: its op is none of c, u, d, r, t")
    before, after = envelope.get("before"), envelope.get("after")
    if flaw := flaw_in([one for one in (before, after) if not isinstance(one, dict)]):
        raise UnfitError(flaw)
    needed = before if op == "delete" else after
    if op != "truncate" and not isinstance(needed, dict):
        words = "before" if op == "delete" else "after"
        raise UnfitError(f"has no row {words} the change: the table at the source needs a key or a replica identity")
    era, number, place = _place(source)
    if not all(0 <= part < BIGINT for part in place):
        raise UnfitError("lies at no place of a log")
    return Event(
        op,
        before if isinstance(before, dict) else None,
        after if isinstance(after, dict) else None,
        fields,
        era,
        number,
        place,
        _xid(source),
        _at(source, message),
        str(source.get("snapshot") or "false"),
        message,
    )


def _place(source: Mapping[str, Any]) -> tuple[str, int, Place]:
    """Return the era that a source block tells, the number of its GTID or zero, and the place."""
    connector = str(source.get("connector"))
    try:
        if connector == "postgresql":
            return str(source.get("db")), 0, _of_postgres(source)
        if connector in ("mysql", "mariadb"):
            return _of_mysql(source)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise UnfitError("does not say at which place of its log it lies") from None
    raise UnfitError("is of a connector whose order is not known here: there are postgresql, mysql and mariadb")


def _of_postgres(source: Mapping[str, Any]) -> Place:
    """Return the place: commits follow on each other in the log's order, changes of a transaction within it."""
    given = source.get("sequence")
    if given is None:
        raise ValueError("written by Debezium before 1.6")
    committed, lsn = decode(given) if isinstance(given, str) else given
    at = int(lsn if lsn is not None else source["lsn"])
    return int(committed) if committed is not None else at, at


def _of_mysql(source: Mapping[str, Any]) -> tuple[str, int, Place]:
    file, number = str(source["file"]).rsplit(".", 1)
    place = ((int(number) << FILE_BITS) + int(source["pos"]), int(source.get("row") or 0) + 1)
    found = GTID.fullmatch(str(source.get("gtid") or ""))
    if found is None:
        return f"{file}@{int(source.get('server_id') or 0)}", 0, place
    uuid, of_mysql, domain, server, of_mariadb = found.groups()
    return uuid or f"{domain}-{server}", int(of_mysql or of_mariadb), place


def _xid(source: Mapping[str, Any]) -> int | None:
    if source.get("txId") is not None:
        return int(source["txId"])
    found = GTID.fullmatch(str(source.get("gtid") or ""))
    return int(found[2] or found[5]) if found else None


def _at(source: Mapping[str, Any], message: Message) -> datetime:
    """Return when the transaction was committed, or else when the message was sent."""
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for name, units in (("ts_us", 1), ("ts_ms", 1_000)):
        number = source.get(name)
        if isinstance(number, (int, Decimal)) and 0 < number < 2**62 // 1_000:
            try:
                return epoch + timedelta(microseconds=int(number) * units)
            except OverflowError:
                break
    return epoch + timedelta(seconds=message.at)
