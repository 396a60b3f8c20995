"""Queues without positions: RabbitMQ, SQS and Pub/Sub, which deliver again whatever was not acknowledged."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from granary.streams import opening
from granary.streams.loop import Limits
from tests.python.engine.chaos.kinds.events import ADDRESS, Sent, source, written
from tests.python.engine.chaos.world import REFUSED, SEAM, Rows, World, select
from tests.python.support import queue_servers
from tests.python.support.moto_server import AWS
from tests.python.support.queue_servers import PubSub

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings
    from tests.python.support.queue_servers import QueueServer

_number = count(1)


@cache
def server(kind: str) -> QueueServer | None:
    """Return a server of this process, where it can be had."""
    found = queue_servers.start(kind)
    if found is not None:
        atexit.register(found.stop)
    if isinstance(found, PubSub):
        found.subscribed = {"ack_deadline_seconds": 2, "enable_message_ordering": True}
    return found


@dataclass(frozen=True)
class QueueLoader:
    """Reads the queues of a source until they are empty and nobody holds a message."""

    address: str
    prefix: str
    rows: int

    def load(self, settings: Settings) -> None:
        """Run `granary stream --once`."""
        spec = source("chaos_queues", self.prefix)
        opening.SOURCES = {spec.name: spec}
        os.environ.update(AWS | {ADDRESS: self.address})
        opening.open_stream(settings, spec.name, Limits(self.rows, 0.05, patience_seconds=3)).run(once=True)


class QueueWorld(World):
    """Two queues: events that have a key, and lines that are told apart by nothing but their messages' ids."""

    points = (*SEAM, "stream-polled", "stream-before-commit", "stream-after-commit", "stream-acknowledged")
    kind = ""
    events, batch = 200, 90
    options: tuple[tuple[str, object], ...] = ()
    nameless = 0.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.prefix = f"chaos{os.getpid()}-{next(_number)}-"
        self.source = source("chaos_queues", self.prefix)
        self.tables = self.source.tables
        found = server(self.kind)
        assert found is not None, f"the server of {self.kind} cannot be had"
        self.server = found
        for table in self.tables:
            self.server.make(self.prefix + table.name)
        self.loader = QueueLoader(self.server.address(**dict(self.options)), self.prefix, self.batch)
        self.sent = Sent(self.random)
        self.refused: Rows = Counter()
        self.anonymous: Rows = Counter()
        self.messages = count(1)

    def advance(self) -> None:
        for table, messages in zip(("events", "log"), self.sent.batch(self.events), strict=True):
            sent = []
            for message in messages:
                name = self.name(table)
                if message[2] < 0 or not name:
                    self.refused[table, str(message[0])] += 1
                if not name:
                    self.anonymous[message] += 1
                sent.append((name, json.dumps(written(message)).encode()))
            if self.random.random() < 0.7:
                sent.append((f"{table}-{next(self.messages)}", b"{no json"))
                self.refused[table, None] += 1
            self.server.send(self.prefix + table, sent)

    def name(self, table: str) -> str:
        """Return the id of the next message; without one it belongs to the quarantine, in a table without a key."""
        if table == "log" and self.random.random() < self.nameless:
            return ""
        return f"{table}-{next(self.messages)}"

    def truth(self) -> dict[str, Rows]:
        truth = self.sent.truth()
        return truth | {"log": truth["log"] - self.anonymous, REFUSED: self.refused}

    def landed(self, connection: Connection) -> dict[str, Rows]:
        ids = (
            "select table_name, payload ->> 'id' from ops.quarantine"
            f" where source = '{self.source.name}' and status = 'open' and row_number > 0"
        )
        return super().landed(connection) | {REFUSED: select(connection, ids)}

    def close(self) -> None:
        for table in self.tables:
            self.server.delete(self.prefix + table.name)


class RabbitQueueWorld(QueueWorld):
    """Classic queues of RabbitMQ; some messages have no id."""

    kind = "rabbitmq"
    nameless = 0.1


class SqsWorld(QueueWorld):
    """Standard queues of SQS, by moto, whose messages are hidden for two seconds."""

    kind = "sqs"
    events, batch = 60, 40
    options = (("visibility", 2),)


class PubSubWorld(QueueWorld):
    """Subscriptions of Google's emulator, whose deadline is two seconds."""

    kind = "pubsub"
    is_slow = True
