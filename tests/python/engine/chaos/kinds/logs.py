"""Logs without groups, on real servers: NATS JetStream, Redis Streams, RabbitMQ streams."""

from __future__ import annotations

import atexit
from functools import cache

import pytest

from tests.python.engine.chaos.kinds.events import LogWorld
from tests.python.support import log_servers


@cache
def _server(kind: str) -> log_servers.LogServer:
    """Return a server of this process."""
    server = log_servers.start(kind)
    if server is None:
        pytest.skip(f"there is no server of {kind} here: install the Debian package")
    atexit.register(server.stop)
    return server


class NatsWorld(LogWorld):
    """Two streams of one subject each."""

    kind = "nats"

    def address(self) -> str:
        return _server(self.kind).address()

    def create(self, topic: str) -> None:
        _server(self.kind).create(topic)

    def produce(self, topic: str, batch: list[tuple[int, bytes | None]]) -> None:
        _server(self.kind).send(*(value for _, value in batch if value is not None), topic=topic)

    def place(self, topic: str, partition: int, number: int) -> tuple[str, int | None]:
        del partition
        return f"{topic}[{topic}]", number + 1

    def close(self) -> None:
        for table in self.tables:
            _server(self.kind).delete(self.prefix + table.name)


class RedisWorld(NatsWorld):
    """Two streams of Redis."""

    kind = "redis"

    def place(self, topic: str, partition: int, number: int) -> tuple[str, int | None]:
        return f"{topic}[{partition}]", number + 1


class RabbitStreamWorld(NatsWorld):
    """Two queues of the type stream."""

    kind = "rabbitmq-stream"
    is_slow = True  # its server takes ten seconds to start

    def place(self, topic: str, partition: int, number: int) -> tuple[str, int | None]:
        return f"{topic}[{partition}]", number
