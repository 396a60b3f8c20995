"""Queues into raw: whatever is delivered again is known by its id, and acknowledged only after its commit."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import granary
from granary.sources.discovery import SOURCES
from granary.streams import opening
from granary.streams.log import UnavailableError
from granary.streams.loop import Limits, StreamLoop
from granary.streams.queues import Queues, Received
from granary.warehouse import retention
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.chaos.check import ledger_faults
from tests.python.support.moto_server import AWS
from tests.python.support.queue_servers import QueueServer, Sqs
from tests.python.support.stream_servers import TOPIC, differences, event, landed, wait_until
from tests.python.support.streaming import declare, polled, stream, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

KINDS = ("rabbitmq", "sqs", "pubsub")


every = pytest.mark.parametrize("kind", KINDS, indirect=True)
of_sqs = pytest.mark.parametrize("kind", ["sqs"], indirect=True)


@every
def test_messages_land_once_and_poison_is_kept(kind: str, server: QueueServer, warehouse: Settings, rows: Rows) -> None:
    server.send(TOPIC, written(*range(60)))
    bad = json.dumps(event(99, member_id="x")).encode()
    server.send(TOPIC, [("p1", b"{"), ("p2", b'"a text"'), ("p3", bad), ("p4", b"{")])
    counts = stream(warehouse, rows=40).run(once=True)
    assert (counts.rows_read, counts.rows_loaded, counts.rows_quarantined) == (64, 60, 4)
    assert counts.known == 0 or kind == "sqs"  # moto gives a message twice when it is asked twice at once
    assert differences(warehouse, [f"e{n}" for n in range(60)]) == (0, 0)
    assert rows("select unit, column_name, payload ->> 'line' from ops.quarantine order by 3, 2") == [
        (TOPIC, "", '"a text"'),
        (TOPIC, "", "{"),
        (TOPIC, "", "{"),
        (TOPIC, "member_id", None),
    ]
    assert rows("select count(*) from ops.known_messages") == [(64,)]
    assert stream(warehouse).run(once=True).rows_read == 0  # all are acknowledged
    lag = stream(warehouse).look()[0]
    assert (lag.partition, lag.messages, lag.seconds) == (TOPIC, None if kind == "pubsub" else 0, lag.seconds)
    assert abs(time.time() - float(rows("select extract(epoch from $1::timestamptz)", lag.position)[0][0])) < 60
    with connect(warehouse) as connection:
        assert not ledger_faults(connection, "events", SOURCES["events"].tables)


@every
def test_what_was_not_acknowledged_is_known(
    kind: str, server: QueueServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process commits and dies before it acknowledges; the table has no key by which the rows would be known."""
    declare(monkeypatch, key=())
    server.send(TOPIC, written(*range(20)))
    first = stream(warehouse)
    first._commit(polled(first, 20))
    server.send(TOPIC, written(20, 21))
    first.log.close()  # as if it had died: what it held comes again
    second = stream(warehouse)
    counts = second.run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 20)
    assert len(landed(warehouse)) == 22
    assert stream(warehouse).run(once=True).known == 0
    assert rows("select rows_read, rows_loaded from ops.load_audit order by load_id") == [(20, 20), (2, 2)]


@every
def test_nothing_is_acknowledged_that_did_not_land(kind: str, server: QueueServer, warehouse: Settings) -> None:
    server.send(TOPIC, written(*range(10)))
    asked = stream(warehouse)
    polled(asked, 10)
    asked.log.close()
    assert stream(warehouse).run(once=True).rows_loaded == 10


@every
def test_the_warehouse_is_away(
    kind: str, server: QueueServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are held, and the queue is asked for more time, for longer than their deadline."""
    server.send(TOPIC, written(*range(10)))
    away = time.monotonic() + 4
    begin = StreamLoop._begin

    def refuse(loop: StreamLoop) -> Any:
        if time.monotonic() < away:
            raise OSError("away")
        return begin(loop)

    monkeypatch.setattr(StreamLoop, "_begin", refuse)
    counts = stream(warehouse, patience_seconds=30).run(once=True)
    assert (counts.rows_loaded, counts.known) == (10, 0)
    assert counts.retries >= 2
    assert len(landed(warehouse)) == 10


@every
def test_no_such_queue(kind: str, server: QueueServer, warehouse: Settings) -> None:
    server.delete(TOPIC)
    with pytest.raises(GranaryError, match=r"no (such queue|queue|subscription)"):
        stream(warehouse).run(once=True)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("rabbitmq://127.0.0.1:1?user=u&password=secret", "RabbitMQ does not answer"),
        ("sqs://eu-central-1?endpoint=http://127.0.0.1:1", "SQS does not answer"),
        ("pubsub://project?endpoint=http://127.0.0.1:1", "Pub/Sub does not answer"),
        ("pubsub://project", "no credentials for Pub/Sub"),
        ("rabbitmq://a?user=u&password=secret&prefetch=0", "prefetch is not a number"),
        ("rabbitmq://a?user=u&password=secret&tls=yes", "has a tls that is neither"),
        ("rabbitmq://a?user=u&password=secret&tls=true&ca=/no/file", "certificates of the log.s address cannot"),
        ("sqs://eu-central-1?visibility=0", "visibility is not a number"),
        ("sqs://eu-central-1?password=secret", "has the option password, which sqs has not"),
    ],
)
def test_bad_addresses(warehouse: Settings, monkeypatch: pytest.MonkeyPatch, address: str, what: str) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", address)
    with pytest.raises(GranaryError, match=what) as found:
        stream(warehouse).run(once=True)
    assert "secret" not in str(found.value)


@every
def test_the_worked_example(
    kind: str, server: QueueServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spec and the message of docs/engine/sources/queues.md."""
    page = (Path(granary.__file__).parents[1] / "docs" / "engine" / "sources" / "queues.md").read_text()
    spec: dict[str, Any] = {}
    exec(re.findall(r"```py\n(.*?)```", page, re.DOTALL)[0], spec)
    (message,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    source = spec["SOURCE"]
    monkeypatch.setattr(opening, "SOURCES", {source.name: source})
    monkeypatch.setenv("GRANARY_BILLING_STREAM", os.environ["GRANARY_EVENTS_STREAM"])
    server.make("payments")
    server.send("payments", [("m1", message.encode())])
    opening.open_stream(warehouse, "billing", Limits(seconds=0.1)).run(once=True)
    assert rows("select payment_id, cents from raw_billing.payments") == [("p-1", 1250)]
    server.delete("payments")


class Beside(Queues):
    """A queue with two messages beside one that does not answer once."""

    kind = "beside"

    def __init__(self) -> None:
        super().__init__(["full", "away"])
        self.there, self.given_back, self.done = ["m1", "m2"], [], []  # type: ignore[var-annotated]
        self.fails = True

    def _connect(self) -> None:
        pass

    def _receive(self, topic: str, most: int, seconds: float) -> list[Received]:
        if topic == "away":
            if self.fails:
                self.fails = False
                raise UnavailableError("away")
            return []
        found, self.there = self.there[:most], self.there[most:]
        return [Received(name, name.encode(), 1.0, name) for name in found]

    def _acknowledge(self, topic: str, receipts: Any) -> None:
        self.done += receipts

    def _give_back(self, topic: str, receipts: Any) -> None:
        self.given_back += receipts
        self.there += receipts

    def _waiting(self, topic: str) -> int:
        return len(self.there)

    def at_end(self) -> bool:
        return not self.there

    def _hang_up(self) -> None:
        pass


def test_what_was_not_returned_is_not_acknowledged() -> None:
    """One queue gave messages before the next one failed: they go back, and are acknowledged when they landed."""
    queues = Beside()
    queues.open(dict)
    with pytest.raises(UnavailableError):
        queues.poll(9, 0.1)
    assert queues.poll(0, 0) == []
    assert (queues.given_back, queues.there, queues.done) == (["m1", "m2"], ["m1", "m2"], [])
    (run,) = queues.poll(9, 0.05)
    assert (run.ids, run.end) == (("m1", "m2"), "1970-01-01T00:00:01.000+00:00")
    queues.landed([run])
    assert queues.done == ["m1", "m2"]
    queues.close()
    assert queues.given_back == ["m1", "m2"]


def test_pruning_keeps_what_a_queue_may_deliver_again(warehouse: Settings, rows: Rows) -> None:
    """The window ends at the newest message that landed: while a queue is not read, nothing is forgotten."""
    with connect(warehouse) as connection:
        for name, days in (("a", 34), ("b", 36), ("c", 200)):
            execute(
                connection,
                "insert into ops.known_messages (source, table_name, message, landed_at) values ('events',"
                " 'card_scans', cast(md5($1) as uuid), now() - make_interval(days => $2))",
                name,
                days,
            )
        connection.commit()
    retention.prune(warehouse, 1)
    assert rows("select count(*) from ops.known_messages") == [(3,)]
    with connect(warehouse) as connection:
        execute(connection, "insert into ops.watermarks values ('events', 'card_scans', '{}', 1, now())")
        connection.commit()
    retention.prune(warehouse, 90)
    assert rows("select count(*) from ops.known_messages") == [(2,)]
    retention.prune(warehouse, 1)
    assert rows("select count(*) from ops.known_messages") == [(1,)]


# -- SQS -----------------------------------------------------------------------------------------------------------


@of_sqs
def test_fifo_keeps_the_order_of_its_groups(
    kind: str, server: Sqs, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, {TOPIC: "scans.fifo"})
    server.make("scans.fifo")
    server.send("scans.fifo", [("ab"[n % 2] + str(n), json.dumps(event(n)).encode()) for n in range(40)])
    assert stream(warehouse).run(once=True).rows_loaded == 40
    found = [int(str(row[0])[1:]) for row in rows("select event_id from raw_events.card_scans order by _load_id, ctid")]
    assert [n for n in found if n % 2 == 0] == list(range(0, 40, 2))
    assert [n for n in found if n % 2] == list(range(1, 40, 2))
    server.delete("scans.fifo")


@of_sqs
def test_what_a_redrive_policy_has_put_aside(
    kind: str, server: Sqs, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages with which consumers died: they are seen in their queue, and land in a table of its own.

    What our contract refuses is acknowledged, and never gets there.
    """
    attributes = server.queues.get_queue_attributes(QueueUrl=server.url(TOPIC), AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": attributes["Attributes"]["QueueArn"], "maxReceiveCount": "2"}
    server.make("scans", RedrivePolicy=json.dumps(policy))
    server.send("scans", written(1, 2, 3))

    def die() -> bool:
        arguments = {"MaxNumberOfMessages": 10, "VisibilityTimeout": 0, "WaitTimeSeconds": 0}
        return not server.queues.receive_message(QueueUrl=server.url("scans"), **arguments).get("Messages")

    wait_until(die, what="the end of patience")
    server.send("scans", [("p1", b"{"), *written(4)])
    declare(monkeypatch, {TOPIC: "scans", "given_up": TOPIC})
    assert {lag.partition: lag.messages for lag in stream(warehouse).look()} == {"scans": 2, TOPIC: 3}
    assert stream(warehouse).run(once=True).rows_quarantined == 1
    assert rows("select event_id from raw_events.card_scans") == [("e4",)]
    assert rows("select event_id from raw_events.given_up order by 1") == [("e1",), ("e2",), ("e3",)]
    assert {lag.partition: lag.messages for lag in stream(warehouse).look()} == {"scans": 0, TOPIC: 0}
    server.delete("scans")
