"""Queues of RabbitMQ: ids that are missing or strange, lost connections, dead letters, and the command."""

from __future__ import annotations

import json
import socket
import struct
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pika
import pytest

from granary.quarantine.replay import entries, replay
from granary.streams.address import parse
from granary.streams.amqp_headers import one
from granary.streams.loop import StreamLoop
from granary.streams.opening import open_log
from granary.warehouse.errors import GranaryError
from tests.python.support.queue_servers import Rabbit
from tests.python.support.rabbitmq import in_milliseconds
from tests.python.support.stream_servers import TOPIC, command, ended, landed, wait_until
from tests.python.support.streaming import declare, polled, stream, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]


of_rabbit = pytest.mark.parametrize("kind", ["rabbitmq"], indirect=True)


NAMELESS = "has no id, and the table has no key: a second delivery could not be told from it"


@of_rabbit
def test_messages_without_an_id(
    kind: str, server: Rabbit, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key tells which is which. Without one each is kept in the quarantine, and those around it land."""
    server.send(TOPIC, [("", body) for _, body in written(1, 2, 2)])
    stream(warehouse).run(once=True)
    assert len(landed(warehouse)) == 2
    declare(monkeypatch, key=())
    server.send(TOPIC, [("", body) for _, body in written(3, 3)] + [("", b"{"), *written(4)])
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (1, 3)
    server.send(TOPIC, [("", body) for _, body in written(3)])
    assert stream(warehouse).run(once=True).rows_quarantined == 1
    assert server.ready(TOPIC) == 0
    assert rows("select payload ->> 'event_id', reason from ops.quarantine order by 1") == [
        *[("e3", NAMELESS)] * 3,
        (None, "is not JSON: Expecting property name enclosed in double quotes"),
    ]
    (done,) = replay(warehouse, entries(warehouse), {})
    # Replayed by the source's own contract, which has a key.
    assert (len(done.landed), [row[0] for row in landed(warehouse)]) == (3, ["e1", "e2", "e3", "e4"])


@of_rabbit
def test_messages_without_an_id_that_come_again(
    kind: str, server: Rabbit, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process dies before it acknowledges; another one before it commits. Each message is one entry."""
    declare(monkeypatch, key=())
    server.send(TOPIC, [("", body) for _, body in written(1, 2, 2)])
    dies = stream(warehouse)
    dies._commit(polled(dies, 3))
    dies.log.close()
    asked = stream(warehouse)
    polled(asked, 3)
    asked.log.close()
    server.send(TOPIC, [("", body) for _, body in written(3)])
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_quarantined, counts.known) == (1, 3)
    server.send(TOPIC, [("", body) for _, body in written(4, 4)])
    asked = stream(warehouse)
    polled(asked, 2)
    asked.log.close()
    assert stream(warehouse).run(once=True).rows_quarantined == 2
    assert [row[0] for row in rows("select payload ->> 'event_id' from ops.quarantine order by 1")] == [
        "e1", "e2", "e2", "e3", "e4", "e4",
    ]  # fmt: skip


@of_rabbit
def test_properties_that_mean_nothing(
    kind: str, server: Rabbit, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that is not UTF-8, and times in milliseconds: the messages land, and are known when they come again."""
    declare(monkeypatch, key=())
    with server.server.connect() as connection:
        for number, name in ((1, b"caf\xe9"), (1, b"caf\xe9"), (2, b"caf\xe8")):
            properties = pika.BasicProperties(message_id=name, timestamp=1_764_500_000_000)  # type: ignore[arg-type]
            connection.channel().basic_publish("", TOPIC, written(number)[0][1], properties)
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 1)
    assert rows("select data_at from ops.load_audit") == [(None,)]


@of_rabbit
def test_headers_that_pika_cannot_read(
    kind: str, server: Rabbit, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no part of the row, so it lands; one that is the id is known by its bytes; a number is not cut off."""
    declare(monkeypatch, key=())
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(id="order"))
    now = datetime.now(timezone.utc)
    every: tuple[dict[str, Any], ...] = (
        {"order": "a", "sent": now},
        {"sent": [now], "order": "b"},
        {"order": now},
        {"order": now},
        {"order": None, "sent": now},
    )
    with server.server.connect() as connection, in_milliseconds():
        channel = connection.channel()
        channel.confirm_delivery()
        for number, headers in enumerate(every):
            properties = pika.BasicProperties("application/json", "utf-8", headers, message_id=f"m{number}")
            channel.basic_publish("", TOPIC, written(number)[0][1], properties)
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.known, counts.rows_quarantined) == (4, 1, 0)
    assert [row[0] for row in landed(warehouse)] == ["e0", "e1", "e2", "e4"]
    assert server.ready(TOPIC) == 0


def test_the_one_header_that_is_wanted() -> None:
    def field(kind: str, value: bytes) -> bytes:
        return kind.encode() + (struct.pack(">I", len(value)) if kind in "SxAF" else b"") + value

    def table(*pairs: tuple[str, bytes]) -> bytes:
        return b"".join(bytes([len(name)]) + name.encode() + value for name, value in pairs)

    deep = b""
    for _ in range(5_000):
        deep = table(("in", field("F", deep)))
    far, half = field("T", struct.pack(">Q", 1_764_500_000_000)), field("d", struct.pack(">d", 1.5))
    pairs = [("far", far), ("deep", field("F", deep)), ("half", half), ("name", field("S", b"x")), ("none", b"V")]
    pairs.insert(0, ("seven", field("l", struct.pack(">q", 7))))
    found = [one(table(*pairs), name) for name in ("seven", "far", "half", "name", "none", "elsewhere", "")]
    assert found == [{"seven": 7}, {"far": far.hex()}, {"half": half.hex()}, {"name": "x"}, {"none": None}, {}, {}]
    assert one(table(*pairs), "deep") == {"deep": field("F", deep).hex()}


@of_rabbit
def test_a_sender_that_sends_again(
    kind: str, server: Rabbit, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the message id, or by the header that the address names."""
    declare(monkeypatch, key=())
    server.send(TOPIC, [*written(1, 2), *written(2)])
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 1)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(id="order"))
    with server.server.connect() as connection:
        for order, name in ((7, "x"), (7, "y"), (8, "z")):
            properties = pika.BasicProperties(message_id=name, headers={"order": order})
            connection.channel().basic_publish("", TOPIC, written(order)[0][1], properties)
    assert stream(warehouse).run(once=True).known == 1


@of_rabbit
@pytest.mark.parametrize("queue", ["classic", "quorum"])
def test_dead_letters_of_a_queue_are_a_queue(kind: str, server: Rabbit, warehouse: Settings, queue: str) -> None:
    """A queue of either type that has what another one gave up; more messages than the prefetch."""
    server.arguments = {"x-queue-type": queue}
    server.make(TOPIC)
    with server.server.connect() as connection:
        channel = connection.channel()
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": TOPIC, "x-message-ttl": 0}
        channel.queue_declare("given-up", arguments=arguments)
    server.send("given-up", written(*range(300)))
    wait_until(lambda: server.ready(TOPIC) == 300, what="the dead letters")
    counts = stream(warehouse, rows=70).run(once=True)
    assert (counts.rows_loaded, counts.batches >= 5) == (300, True)
    assert [row[0] for row in landed(warehouse)] == sorted(f"e{n}" for n in range(300))
    server.delete("given-up")


@of_rabbit
def test_the_connection_is_lost_between_commit_and_acknowledgement(
    kind: str, server: Rabbit, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, key=())
    server.send(TOPIC, written(*range(30)))
    reading = stream(warehouse, rows=30)
    commit = StreamLoop._commit

    def cut(loop: StreamLoop, runs: Any) -> None:
        commit(loop, runs)
        if loop.counts.batches == 1:
            loop.log._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

    monkeypatch.setattr(StreamLoop, "_commit", cut)
    counts = reading.run(once=True)
    assert (counts.rows_loaded, counts.known) == (30, 30)
    assert server.ready(TOPIC) == 0


@of_rabbit
def test_a_queue_that_is_deleted_meanwhile(kind: str, server: Rabbit, warehouse: Settings) -> None:
    reading = stream(warehouse)
    polled(reading, 0)
    server.delete(TOPIC)

    def poll() -> bool:
        reading._patiently(reading._poll, time.sleep)
        return False

    with pytest.raises(GranaryError, match=f"RabbitMQ has no queue '{TOPIC}'"):
        wait_until(poll, what="the end")
    reading.log.close()


@of_rabbit
def test_wrong_credentials(kind: str, server: Rabbit, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(password="not-it"))
    with pytest.raises(GranaryError, match="RabbitMQ refuses the login 'owner'") as found:
        stream(warehouse).run(once=True)
    assert "not-it" not in str(found.value)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(vhost="nowhere"))
    with pytest.raises(GranaryError, match="RabbitMQ has no virtual host 'nowhere'"):
        stream(warehouse).run(once=True)
    ports = server.server.ports
    secured = server.address(tls="true", ca=server.server.authority).replace(f":{ports[0]}", f":{ports[1]}")
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", secured)
    server.send(TOPIC, written(1))
    assert stream(warehouse).run(once=True).rows_loaded == 1


@of_rabbit
def test_what_the_server_does_not_let_a_login_do(kind: str, server: Rabbit) -> None:
    """Nothing is taken by asking, so that a message still has not been given to anybody."""
    server.send(TOPIC, written(1))
    where = server.server.hosts
    server.server.run("add_user", "reader", "sesame")
    try:
        assert looked(server, user="reader", password="sesame") == (
            "RabbitMQ does not let the login 'reader' into the virtual host '/'",
            where,
            "check vhost in the address, or give the login rights there: `rabbitmqctl set_permissions`",
        )
        server.server.run("set_permissions", "reader", "^$", "^$", "^$")
        assert looked(server, user="reader", password="sesame") == (
            f"the login 'reader' may not read RabbitMQ's queue '{TOPIC}'",
            where,
            "give it the right: the last pattern of `rabbitmqctl set_permissions` says what a login may read",
        )
        server.server.run("set_permissions", "reader", "^$", "^$", TOPIC)
        assert looked(server, user="reader", password="sesame") is None
    finally:
        server.server.run("delete_user", "reader")
    assert looked(server, user="guest", password="not-it") == (
        "RabbitMQ refuses the login 'guest'",
        where,
        "check user and password in the address; `guest` may log in on the server's own machine only",
    )
    assert looked(server, "gone") == ("RabbitMQ has no queue 'gone'", where, "create it, or fix the source's topics")
    with server.server.connect() as connection:
        method, _, _ = connection.channel().basic_get(TOPIC)
        assert not method.redelivered
    server.arguments = {"x-queue-type": "quorum"}
    server.make(TOPIC)
    assert looked(server) is None
    server.arguments = {"x-queue-type": "stream"}
    server.make(TOPIC)
    assert looked(server) == (f"the queue '{TOPIC}' is a stream", where, "read it by an address of rabbitmq-stream://")
    log = open_log(parse(server.address(), "GRANARY_EVENTS_STREAM"), [TOPIC], "")
    with pytest.raises(GranaryError, match="is a stream"):  # nor is it read: where it ended, nothing would come again
        log.open(dict)
    log.close()


def looked(server: Rabbit, topic: str = TOPIC, **options: object) -> tuple[str, str, str] | None:
    """Return what is in the way of looking at a queue: what, where, and what to do."""
    log = open_log(parse(server.address(**options), "GRANARY_EVENTS_STREAM"), [topic], "")
    try:
        log.look({})
    except GranaryError as error:
        return error.what, error.where, error.todo
    finally:
        log.close()
    return None


@of_rabbit
def test_huge_messages(kind: str, server: Rabbit, warehouse: Settings, rows: Rows) -> None:
    """They go to the quarantine, and a batch takes no more of them than fit into memory."""
    big = b'{"event_id":"' + b"x" * 9_000_000 + b'"}'
    server.send(TOPIC, [(f"h{n}", big) for n in range(5)] + written(1))
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (1, 5)
    assert counts.batches > 1
    assert rows("select distinct reason from ops.quarantine") == [("is larger than 1,048,576 bytes",)]


@of_rabbit
def test_the_command(kind: str, server: Rabbit, warehouse: Settings) -> None:
    server.send(TOPIC, written(*range(5)))
    environment = warehouse.environment()
    shown = ended(command("stream", "events", "--status", "--json", **environment))
    assert shown[0] == 0, shown
    assert json.loads(shown[1])[0]["messages"] == 5
    running = command("stream", "events", "--json", **environment)
    wait_until(lambda: len(landed(warehouse)) == 5, what="the landing")
    running.terminate()
    code, out, _ = ended(running)
    assert code == 0
    assert json.loads(out.splitlines()[-1])["rows_loaded"] == 5
