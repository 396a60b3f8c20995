"""Servers of queues, each with the same few words: RabbitMQ, moto's SQS, and Google's emulator of Pub/Sub.

Google's emulator is a jar that Google's own package repository for Debian has (`google-cloud-cli-pubsub-emulator`) and
package indexes do not; where it or Java is missing, `pubsub_emulator` returns None and tests skip. It has message
ordering, exactly-once subscriptions, dead-letter topics, schemas, and seek to times and snapshots.
"""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika

from tests.python.support import rabbitmq
from tests.python.support.moto_server import REGION, Moto
from tests.python.support.stream_servers import answers, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

EMULATOR = Path("/usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib")
PROJECT = "granary-tests"

Message = tuple[str, bytes]
"""A message's id, for servers that let the sender choose it, and its body."""


class QueueServer(ABC):
    """A running server."""

    @abstractmethod
    def address(self, **options: object) -> str:
        """Return the address that a source's setting holds."""

    @abstractmethod
    def make(self, name: str) -> None:
        """Make an empty queue."""

    @abstractmethod
    def send(self, name: str, messages: Iterable[Message]) -> None:
        """Send messages, and wait until the server has them."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a queue."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server."""


def _written(scheme: str, hosts: str, options: dict[str, object]) -> str:
    return f"{scheme}://{hosts}?" + "&".join(f"{name}={value}" for name, value in options.items())


class Rabbit(QueueServer):
    """RabbitMQ; `arguments` are those of the queues that are made."""

    def __init__(self, server: rabbitmq.RabbitMQ) -> None:
        self.server = server
        self.arguments: dict[str, Any] = {}

    def address(self, **options: object) -> str:
        return _written("rabbitmq", self.server.hosts, {"user": "owner", "password": self.server.password} | options)

    def make(self, name: str) -> None:
        with self.server.connect() as connection:
            channel = connection.channel()
            channel.queue_delete(name)
            channel.queue_declare(name, durable=True, arguments=self.arguments)

    def send(self, name: str, messages: Iterable[Message]) -> None:
        with self.server.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for message_id, body in messages:
                properties = pika.BasicProperties(message_id=message_id or None, delivery_mode=1)
                channel.basic_publish("", name, body, properties, mandatory=True)

    def delete(self, name: str) -> None:
        with self.server.connect() as connection:
            connection.channel().queue_delete(name)

    def ready(self, name: str) -> int:
        """Return how many messages wait that nobody holds."""
        with self.server.connect() as connection:
            return int(connection.channel().queue_declare(name, passive=True).method.message_count)

    def stop(self) -> None:
        self.server.stop()


class Sqs(Moto, QueueServer):
    """moto's SQS; a name that ends with .fifo is of a FIFO queue, with one group for each first letter of an id."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = self.client("sqs")

    def address(self, **options: object) -> str:
        return _written("sqs", REGION, {"endpoint": self.endpoint} | options)

    def url(self, name: str) -> str:
        """Return a queue's URL."""
        return str(self.queues.get_queue_url(QueueName=name)["QueueUrl"])

    def make(self, name: str, **attributes: str) -> None:
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        self.queues.create_queue(QueueName=name, Attributes=fifo | attributes)

    def send(self, name: str, messages: Iterable[Message]) -> None:
        waiting = list(messages)
        for start in range(0, len(waiting), 10):
            entries: list[dict[str, Any]] = [
                {"Id": str(number), "MessageBody": body.decode()}
                for number, (_, body) in enumerate(waiting[start : start + 10])
            ]
            if name.endswith(".fifo"):
                for entry, (message_id, _) in zip(entries, waiting[start : start + 10], strict=True):
                    entry |= {"MessageGroupId": message_id[0], "MessageDeduplicationId": message_id}
            assert not self.queues.send_message_batch(QueueUrl=self.url(name), Entries=entries).get("Failed")

    def delete(self, name: str) -> None:
        self.queues.delete_queue(QueueUrl=self.url(name))

    def stop(self) -> None:
        self.queues.close()
        super().stop()


class PubSub(QueueServer):
    """Google's emulator; a queue is a subscription, and a topic of the same name. `subscribed` is said of new ones."""

    def __init__(self, jar: Path) -> None:
        import grpc  # noqa: PLC0415 - a second, and only some tests need it
        from google.pubsub_v1 import PublisherClient, SchemaServiceClient, SubscriberClient  # noqa: PLC0415
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport  # noqa: PLC0415
        from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport  # noqa: PLC0415
        from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport  # noqa: PLC0415

        self.subscribed: dict[str, Any] = {"ack_deadline_seconds": 10}
        self.port = free_port()
        self.process = subprocess.Popen(
            [
                "java",
                "-XX:TieredStopAtLevel=1",
                "-Xmx256m",
                "-jar",
                str(jar),
                "--host=127.0.0.1",
                f"--port={self.port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: answers("127.0.0.1", self.port), 60, "the emulator's start")
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        self.schemas = SchemaServiceClient(transport=SchemaServiceGrpcTransport(channel=channel))

    def address(self, **options: object) -> str:
        return _written("pubsub", PROJECT, {"endpoint": f"http://127.0.0.1:{self.port}"} | options)

    def topic(self, name: str) -> str:
        """Return a topic's path."""
        return f"projects/{PROJECT}/topics/{name}"

    def subscription(self, name: str) -> str:
        """Return a subscription's path."""
        return f"projects/{PROJECT}/subscriptions/{name}"

    def schema(self, name: str, definition: str, kind: str = "AVRO") -> str:
        """Make a schema and return its name."""
        schema = {"type_": kind, "definition": definition}
        request = {"parent": f"projects/{PROJECT}", "schema": schema, "schema_id": name}
        return str(self.schemas.create_schema(request=request).name)

    def make(self, name: str) -> None:
        self.publisher.create_topic(request={"name": self.topic(name)})
        self.subscribe(name, name)

    def subscribe(self, name: str, topic: str, **more: Any) -> None:
        """Make a subscription of a topic."""
        request = {"name": self.subscription(name), "topic": self.topic(topic)} | self.subscribed | more
        self.subscriber.create_subscription(request=request)

    def send(self, name: str, messages: Iterable[Message], **more: str) -> None:
        waiting = [{"data": body, "attributes": {"sender": message_id}, **more} for message_id, body in messages]
        for start in range(0, len(waiting), 500):
            request = {"topic": self.topic(name), "messages": waiting[start : start + 500]}
            self.publisher.publish(request=request)

    def delete(self, name: str) -> None:
        self.subscriber.delete_subscription(request={"subscription": self.subscription(name)})
        self.publisher.delete_topic(request={"topic": self.topic(name)})

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def rabbit() -> Rabbit | None:
    """Start RabbitMQ, where it can be had."""
    found = rabbitmq.program()
    return Rabbit(rabbitmq.start(found)) if found else None


def pubsub_emulator() -> PubSub | None:
    """Start Google's emulator, where it is."""
    found = sorted(EMULATOR.glob("cloud-pubsub-emulator-*-all.jar"))
    return PubSub(found[-1]) if found and shutil.which("java") else None


def start(kind: str) -> QueueServer | None:
    """Start the server of a kind, or return None where it cannot be had."""
    return {"rabbitmq": rabbit, "sqs": Sqs, "pubsub": pubsub_emulator}[kind]()
