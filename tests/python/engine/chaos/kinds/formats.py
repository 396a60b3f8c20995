"""A Kafka log in other formats: Protobuf by a registry, and Debezium's envelopes from a connector that is restarted."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from granary.sources.capture import changes_table
from granary.streams import opening
from granary.streams.loop import Limits
from tests.python.engine.chaos.kinds.events import ALONE, StreamWorld, _broker, written
from tests.python.engine.chaos.world import SEAM, Rows, World, raw
from tests.python.support import debezium_log, stream_servers
from tests.python.support.debezium_log import ITEMS, PostgresLog
from tests.python.support.registered_messages import header, message_type

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import RegistryServer

_number = count(1)
PARTITIONS = 2
SENT_AGAIN = 400
"""Changes that a connector sends again at most after it was restarted."""


@cache
def _registry() -> RegistryServer:
    """Return a schema registry of this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(stream_servers.registry())


class ProtobufWorld(StreamWorld):
    """The topics of `StreamWorld`, in Protobuf."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.types: dict[str, tuple[bytes, Any]] = {}
        for table, kind in (("events", "string"), ("log", "int64")):
            text = f'syntax = "proto3"; message M {{ {kind} id = 1; optional string place = 2; int64 amount = 3; }}'
            schema_id = _registry().register(f"{self.prefix}{table}-value", text, kind="PROTOBUF")
            self.types[table] = header(schema_id, 0), message_type(text, "M")

    def address(self) -> str:
        return f"{super().address()}&format=protobuf&registry={_registry().url}"

    def payload(self, table: str, message: Any) -> bytes:
        """Return a message as the sender writes it."""
        head, kind = self.types[table]
        return bytes(head + kind(**written(message)).SerializeToString())


@dataclass(frozen=True)
class EnvelopeLoader:
    """Streams until every change that is there has landed."""

    hosts: str
    topic: str

    def load(self, settings: Settings) -> None:
        """Run `granary stream --once`."""
        spec = debezium_log.source(ITEMS, topics={"items": self.topic}, name="chaos_cdc")
        opening.SOURCES = {spec.name: spec}
        os.environ[debezium_log.ADDRESS] = f"kafka://{self.hosts}?{ALONE}&group=g{os.getpid()}-{time.time_ns()}"
        opening.open_stream(settings, spec.name, Limits(rows=400, seconds=0.05, patience_seconds=0)).run(once=True)


class DebeziumWorld(World):
    """A database whose connector is restarted: changes are sent again, at other offsets, from somewhere before."""

    points = (*SEAM, "stream-polled", "stream-before-commit", "stream-after-commit", "cdc-changes", "cdc-applied")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.topic = f"cdc{os.getpid()}-{next(_number)}"
        _broker().topic(self.topic, partitions=PARTITIONS)
        self.source = debezium_log.source(ITEMS, topics={"items": self.topic}, name="chaos_cdc")
        self.tables = (ITEMS, changes_table(ITEMS))
        self.loader = EnvelopeLoader(_broker().hosts, self.topic)
        self.log = PostgresLog()
        self.sent = 0
        self.log.rows = {number: self._row(number) for number in range(300)}
        self.log.snapshot()

    def _row(self, number: int) -> dict[str, Any]:
        price = self.random.choice((None, f"{self.random.randrange(9_999) / 100:.2f}"))
        return {"id": number, "name": self.random.choice(("a", "Zoë's «corner»")), "price": price}

    def advance(self) -> None:
        log = self.log
        for _ in range(250):
            for _ in range(self.random.randrange(1, 5)):
                number = self.random.randrange(400)
                if number in log.rows and self.random.random() < 0.3:
                    log.delete(number)
                else:
                    log.put(self._row(number))
            log.commit()
        while self.sent < len(log.written):
            start = max(0, self.sent - self.random.randrange(SENT_AGAIN))
            self.sent = min(len(log.written), self.sent + self.random.randrange(200, 900))
            part = log.written[start : self.sent]
            keys = [(one["after"] or one["before"])["id"] if one else None for one in part]
            places = [part[at - 1] is not None and keys[at - 1] if key is None else key for at, key in enumerate(keys)]
            values = [json.dumps(one).encode() if one else None for one in part]
            _broker().produce(
                [(int(key) % PARTITIONS, value) for key, value in zip(places, values, strict=True)], topic=self.topic
            )

    def truth(self) -> dict[str, Rows]:
        made = Counter(_change(one) for one in self.log.written if one)
        rows = Counter((r["id"], r["name"], r["price"] and Decimal(r["price"])) for r in self.log.rows.values())
        return {"items": rows, "items_changes": made}

    def landed(self, connection: Connection) -> dict[str, Rows]:
        return {table.name: raw(connection, self.source.name, table) for table in self.tables}


def _change(one: dict[str, Any]) -> tuple[Any, ...]:
    """Return a message as the row of the change table that it must become."""
    source = one["source"]
    committed, lsn = json.loads(source["sequence"])
    at = datetime.fromtimestamp(source["ts_ms"] // 1000, timezone.utc).replace(
        microsecond=source["ts_ms"] % 1000 * 1000
    )
    op = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot"}[one["op"]]
    row = one["after"] or {"id": one["before"]["id"], "name": None, "price": None}
    price = row["price"] and Decimal(row["price"])
    return op, int(committed or lsn), int(lsn), source["txId"], at, None, row["id"], row["name"], price
