"""A Kafka broker for the session, a schema registry and an empty warehouse for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from tests.python.support import stream_servers
from tests.python.support.stream_servers import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker, RegistryServer


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
