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
        os.environ.update(queue_servers.AWS | {ADDRESS: self.address})
        opening.open_stream(settings, spec.name, Limits(self.rows, 0.05, patience_seconds=3)).run(once=True)


class QueueWorld(World):
    """Two queues: events that have a key, and lines that are told apart by nothing but their messages' ids."""

    points = (*SEAM, "stream-polled", "stream-before-commit", "stream-after-commit", "stream-acknowledged")
    kind = ""
    events, batch = 200, 90
    options: tuple[tuple[str, object], ...] = ()

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
        self.poison: Rows = Counter()
        self.messages = count(1)

    def advance(self) -> None:
        for table, messages in zip(("events", "log"), self.sent.batch(self.events), strict=True):
            bodies = [json.dumps(written(message)).encode() for message in messages]
            if self.random.random() < 0.7:
                bodies.append(b"{no json")
                self.poison[table, None] = 1
            self.server.send(self.prefix + table, ((f"{table}-{next(self.messages)}", body) for body in bodies))

    def truth(self) -> dict[str, Rows]:
        bad = [("events", event[0]) for event in self.sent.events.values() if event[2] < 0]
        bad += [("log", str(line[0])) for line in self.sent.lines if line[2] < 0]
        return self.sent.truth() | {REFUSED: Counter(bad) + self.poison}

    def landed(self, connection: Connection) -> dict[str, Rows]:
        ids = (
            "select distinct table_name, payload ->> 'id' from ops.quarantine"
            f" where source = '{self.source.name}' and status = 'open' and row_number > 0"
        )
        return super().landed(connection) | {REFUSED: select(connection, ids)}

    def close(self) -> None:
        for table in self.tables:
            self.server.delete(self.prefix + table.name)


class RabbitQueueWorld(QueueWorld):
    """Classic queues of RabbitMQ."""

    kind = "rabbitmq"


class SqsWorld(QueueWorld):
    """Standard queues of SQS, by moto, whose messages are hidden for two seconds."""

    kind = "sqs"
    events, batch = 60, 40
    options = (("visibility", 2),)


class PubSubWorld(QueueWorld):
    """Subscriptions of Google's emulator, whose deadline is two seconds."""

    kind = "pubsub"
    is_slow = True
