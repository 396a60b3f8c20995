"""A Kafka broker and servers of queues for the session, a schema registry and an empty warehouse for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from tests.python.support import queue_servers, stream_servers
from tests.python.support.moto_server import AWS
from tests.python.support.queue_servers import PubSub, QueueServer, Rabbit, Sqs
from tests.python.support.stream_servers import TOPIC, Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker, RegistryServer


QUICK: dict[str, dict[str, object]] = {"rabbitmq": {}, "sqs": {"visibility": 2}, "pubsub": {}}


@pytest.fixture
def kafka(kafka_server: Broker, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Broker:
    """Return the broker with an empty topic of two partitions that the source `events` reads in a group of its own."""
    kafka_server.topic(partitions=2)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka_server.address(group=request.node.name[:60]))
    return kafka_server


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    """Return an empty schema registry."""
    with stream_servers.registry() as running:
        yield running


@pytest.fixture
def start(warehouse: Settings) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a stream of this warehouse."""
    running: list[Running] = []

    def begin(**limits: float) -> Running:
        running.append(Running(open_stream(warehouse, "events", Limits(**{"seconds": 0.1} | limits))))
        return running[-1]

    yield begin
    for one in running:
        one.loop.stop()
        one.thread.join(30)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], QueueServer]]:
    """Return a function that returns the running server of a kind."""
    running: dict[str, QueueServer | None] = {}

    def of(kind: str) -> QueueServer:
        if kind not in running:
            running[kind] = queue_servers.start(kind)
        found = running[kind]
        if found is None:
            pytest.skip(f"the server of {kind} cannot be had here: see tests/python/support/queue_servers.py")
        return found

    yield of
    for one in running.values():
        if one is not None:
            one.stop()


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of queue that a test is about."""
    return str(request.param)


@pytest.fixture
def server(kind: str, servers: Callable[[str], QueueServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueServer]:
    """Return a server with an empty queue that the source `events` reads."""
    found = servers(kind)
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    if isinstance(found, Rabbit):
        found.arguments = {}
    if isinstance(found, PubSub):
        found.subscribed = {"ack_deadline_seconds": 2}
    found.make(TOPIC)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", found.address(**QUICK[kind]))
    yield found
    try:
        found.delete(TOPIC)
    except Exception:  # a test may have deleted it
        if not isinstance(found, (Rabbit, Sqs, PubSub)):
            raise
