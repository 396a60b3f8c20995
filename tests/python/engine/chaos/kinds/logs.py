"""Logs without groups: NATS JetStream, Redis Streams and RabbitMQ streams on real servers, Kinesis by moto."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.python.engine.chaos.kinds.events import LogWorld, StreamLoader
from tests.python.support import log_servers
from tests.python.support.moto_server import AWS, Kinesis

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


@cache
def _server(kind: str) -> log_servers.LogServer | Kinesis:
    """Return a server of this process."""
    server = Kinesis() if kind == "kinesis" else log_servers.start(kind)
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


@dataclass(frozen=True)
class KinesisLoader(StreamLoader):
    """Streams with the credentials that moto takes."""

    def load(self, settings: Settings) -> None:
        """Run `granary stream --once`."""
        os.environ.update(AWS)
        super().load(settings)


class KinesisWorld(NatsWorld):
    """Two streams of one shard each."""

    kind = "kinesis"
    is_slow = True  # moto takes seconds to start
    unfit = (b"{no json", b"[]")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.loader = KinesisLoader(self.address(), self.prefix)

    def place(self, topic: str, partition: int, number: int) -> tuple[str, int | None]:
        return f"{topic}[shardId-{partition:012}]", None
