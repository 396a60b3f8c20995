"""Events one by one: from a Kafka log with repeated and unfit messages, and by webhook from a sender that insists."""

from __future__ import annotations

import atexit
import json
import os
import queue
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pyarrow as pa

from granary.sources.spec import Column, Source, Stream, Table
from granary.streams import opening, webhooks
from granary.streams.loop import Limits
from granary.streams.signatures import HEADER, sign
from tests.python.engine.chaos.world import REFUSED, SEAM, Rows, World, select
from tests.python.support.stream_servers import Broker, broker

if TYPE_CHECKING:
    from random import Random

    from granary.sources.spec import Reader
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

ADDRESS, SECRETS = "GRANARY_CHAOS_STREAM", "GRANARY_CHAOS_SECRETS"
SECRET = "a-secret-of-more-than-enough-bytes"
ALONE = "session.timeout.ms=300&heartbeat.interval.ms=50"
"""The broker waits half a session before it answers the first member of a group."""

_number = count(1)


def source(name: str, prefix: str = "") -> Source:
    """Return the source: events that count once by their id, and lines that count as often as they are sent."""
    rest = (
        Column("place", pa.string(), "Where it happened."),
        Column("amount", pa.int64(), "Cents.", nullable=False, minimum=0),
    )
    events = (Column("id", pa.string(), "The sender's id.", nullable=False), *rest)
    lines = (Column("id", pa.int64(), "Number of the line.", nullable=False), *rest)
    day = timedelta(days=1)

    def reader(_: object) -> Reader:
        raise NotImplementedError

    return Source(
        name,
        "Events.",
        "tests",
        "events",
        (),
        reader,
        (
            Table("events", "Events.", "events", events, "append", day, key=("id",)),
            Table("log", "Lines.", "log", lines, "append", day),
        ),
        Stream({"events": f"{prefix}events", "log": f"{prefix}log"}, ADDRESS, SECRETS),
    )


Message = tuple[str | int, str | None, int]


class Sent:
    """What was sent, and what must become of it: repeated events count once, negative amounts do not."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.events: dict[str, Message] = {}
        self.lines: list[Message] = []

    def batch(self, number: int) -> tuple[list[Message], list[Message]]:
        """Return so many events, with some that were sent before, and so many lines."""
        fresh = [(f"e{len(self.events) + i}", *self._rest()) for i in range(number)]
        again = self.random.sample(list(self.events.values()), min(len(self.events), number // 5))
        self.events |= {str(event[0]): event for event in fresh}
        events = [*fresh, *again, *fresh[: number // 10]]
        self.random.shuffle(events)
        lines = [(len(self.lines) + i, *self._rest()) for i in range(number)]
        self.lines += lines
        return events, lines

    def _rest(self) -> tuple[str | None, int]:
        return self.random.choice(("Cincinnati", "Zoë's «corner»", None)), self.random.randrange(-9, 500)

    def truth(self) -> dict[str, Rows]:
        """Return what must be in the two tables."""
        return {
            "events": Counter(event for event in self.events.values() if event[2] >= 0),
            "log": Counter(line for line in self.lines if line[2] >= 0),
        }


def written(message: Message) -> dict[str, Any]:
    """Return a message as the sender writes it."""
    return dict(zip(("id", "place", "amount"), message, strict=True))


# -- Kafka ---------------------------------------------------------------------------------------------------------


@cache
def _broker() -> Broker:
    """Return a broker of this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(broker())


@dataclass(frozen=True)
class StreamLoader:
    """Streams until everything that is there has landed; `GROUP` in the address is a group of its own each time."""

    address: str
    prefix: str

    def load(self, settings: Settings) -> None:
        """Run `granary stream --once`."""
        spec = source("chaos_stream", self.prefix)
        opening.SOURCES = {spec.name: spec}
        os.environ[ADDRESS] = self.address.replace("GROUP", f"g{os.getpid()}-{time.time_ns()}")
        opening.open_stream(settings, spec.name, Limits(rows=600, seconds=0.05, patience_seconds=0)).run(once=True)


class LogWorld(World):
    """Two topics of a log. Two processes read the same messages."""

    points = (*SEAM, "stream-polled", "stream-before-commit", "stream-after-commit")
    partitions = 1
    unfit: tuple[bytes | None, ...] = (b"{no json", b"")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.prefix = f"chaos{os.getpid()}-{next(_number)}-"
        self.source = source("chaos_stream", self.prefix)
        self.tables = self.source.tables
        for table in self.tables:
            self.create(self.prefix + table.name)
        self.loader = StreamLoader(self.address(), self.prefix)
        self.sent = Sent(self.random)
        self.refused: Rows = Counter()
        self.ends: Counter[tuple[str, int]] = Counter()

    def address(self) -> str:
        """Return where the log is."""
        raise NotImplementedError

    def create(self, topic: str) -> None:
        """Make a topic."""
        raise NotImplementedError

    def produce(self, topic: str, batch: list[tuple[int, bytes | None]]) -> None:
        """Send messages, each to a partition."""
        raise NotImplementedError

    def place(self, topic: str, partition: int, number: int) -> tuple[str, int | None]:
        """Return what the quarantine calls the place of a partition's message with this number."""
        return f"{topic}[{partition}]", number

    def advance(self) -> None:
        for table, messages in zip(("events", "log"), self.sent.batch(900), strict=True):
            topic = self.prefix + table
            payloads: list[bytes | None] = [self.payload(table, message) for message in messages]
            bad = {index for index, message in enumerate(messages) if message[2] < 0}
            payloads += self.unfit[: self.random.randrange(3)]
            bad |= set(range(len(messages), len(payloads)))
            batch = [(self.random.randrange(self.partitions), payload) for payload in payloads]
            for index, (partition, _) in enumerate(batch):
                number = self.ends[table, partition]
                self.ends[table, partition] += 1
                if index in bad:
                    self.refused[(table, *self.place(topic, partition, number))] += 1
            self.produce(topic, batch)

    def payload(self, table: str, message: Message) -> bytes:
        """Return a message as the sender writes it."""
        del table
        return json.dumps(written(message)).encode()

    def truth(self) -> dict[str, Rows]:
        return self.sent.truth() | {REFUSED: self.refused}

    def landed(self, connection: Connection) -> dict[str, Rows]:
        places = (
            "select table_name, unit, line from ops.quarantine"
            f" where source = '{self.source.name}' and status = 'open' and row_number > 0"
        )
        return super().landed(connection) | {REFUSED: select(connection, places)}


class StreamWorld(LogWorld):
    """Two topics of Kafka, of two partitions. Every process is a group of its own."""

    partitions = 2
    unfit = (b"{no json", None)

    def address(self) -> str:
        return f"kafka://{_broker().hosts}?{ALONE}&group=GROUP"

    def create(self, topic: str) -> None:
        _broker().topic(topic, self.partitions)

    def produce(self, topic: str, batch: list[tuple[int, bytes | None]]) -> None:
        _broker().produce(batch, topic=topic)


# -- webhooks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WebhookLoader:
    """A receiver of webhooks and its sender, who sends a delivery until it is told that it has arrived."""

    folder: str

    def load(self, settings: Settings) -> None:
        """Serve, and send what is in the outbox; a delivery that was answered is taken out of it."""
        spec = source("chaos_webhooks")
        webhooks.SOURCES = {spec.name: spec}
        os.environ[SECRETS] = SECRET
        ready: queue.Queue[str] = queue.Queue()
        threading.Thread(target=webhooks.serve, args=(settings, "127.0.0.1", 0, ready.put), daemon=True).start()
        url = f"{ready.get(timeout=30)}/{spec.name}"
        waiting = sorted((Path(self.folder) / "outbox").iterdir())
        with ThreadPoolExecutor(4) as senders:
            list(senders.map(lambda path: self._send(url, path), waiting))

    def _send(self, url: str, path: Path) -> None:
        number, table = path.stem.split("-")
        try:
            body = path.read_bytes()
        except FileNotFoundError:  # another sender was quicker
            return
        key = f"delivery-{number}" if table == "log" else None
        headers = {HEADER: sign(SECRET, int(time.time()), body, key)} | ({"Idempotency-Key": key} if key else {})
        try:
            build_opener(ProxyHandler({})).open(Request(f"{url}/{table}", body, headers), timeout=60).close()
        except HTTPError as error:
            if error.code != 422:  # it was refused, and is kept for good; anything else has to be sent again
                raise
        path.unlink(missing_ok=True)


class WebhookWorld(World):
    """Deliveries of events, and of lines that are told apart by nothing but the delivery's idempotency key."""

    points = ("extracted", "mid-copy", "stream-before-commit", "stream-after-commit", "before-commit", "after-commit")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.source = source("chaos_webhooks")
        self.tables = self.source.tables
        self.loader = WebhookLoader(str(self.folder))
        self.outbox = self.folder / "outbox"
        self.outbox.mkdir()
        self.sent = Sent(self.random)
        self.deliveries = 0

    def advance(self) -> None:
        for table, messages in zip(("events", "log"), self.sent.batch(800), strict=True):
            for start in range(0, len(messages), 80):
                self.deliveries += 1
                body = json.dumps([written(message) for message in messages[start : start + 80]])
                (self.outbox / f"{self.deliveries:06}-{table}.json").write_text(body)

    def truth(self) -> dict[str, Rows]:
        bad = [("events", event[0]) for event in self.sent.events.values() if event[2] < 0]
        bad += [("log", str(line[0])) for line in self.sent.lines if line[2] < 0]
        return self.sent.truth() | {REFUSED: Counter(bad)}

    def landed(self, connection: Connection) -> dict[str, Rows]:
        ids = (
            "select distinct table_name, payload ->> 'id' from ops.quarantine"
            f" where source = '{self.source.name}' and status = 'open' and row_number > 0"
        )
        return super().landed(connection) | {REFUSED: select(connection, ids)}
