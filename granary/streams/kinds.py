"""Kinds of logs and queues, by the scheme of their address: what each guarantees, its options, and its module."""

from __future__ import annotations

from dataclasses import dataclass

from granary.sources.guarantees import Guarantees

BOTH = "yes: messages and seconds"
LOGIN = ("user", "password", "tls", "ca", "certificate", "key")


@dataclass(frozen=True)
class LogKind:
    """A kind of log or queue. `opens` is the class that reads it, in a module that needs a package of its own.

    `options` are what its address may say beside what every address may (None: whatever its client knows, which refuses
    the rest by itself). Several processes share the topics of a kind that is `grouped`, by the name of their group.
    """

    guarantees: Guarantees
    opens: str
    options: tuple[str, ...] | None
    grouped: bool = False


def _log(kind: str, scheme: str, unit: str, page: str, *proofs: str, lag: str = BOTH) -> Guarantees:
    return Guarantees(
        kind=kind,
        declared=f"Stream, {scheme}://",
        command="granary stream",
        exactly_once=f"yes: the {unit} commit with the rows",
        deletes="no: a message without a value is refused",
        order="yes, within a partition, shard or stream",
        lag=lag,
        page=page,
        proofs=proofs,
    )


def _queue(kind: str, scheme: str, order: str, lag: str) -> Guarantees:
    return Guarantees(
        kind=kind,
        declared=f"Stream, {scheme}://",
        command="granary stream",
        exactly_once="yes, by message id or the table's key: ids commit with the rows, then messages are acknowledged",
        deletes="no: a message without a value is refused",
        order=order,
        lag=lag,
        page="queues",
        proofs=("rabbitmq-queue" if scheme == "rabbitmq" else scheme,),
    )


KINDS = {
    "kafka": LogKind(
        _log("Kafka", "kafka", "offsets", "streams", "kafka", "kafka, protobuf"),
        "granary.streams.kafka:KafkaLog",
        None,
        grouped=True,
    ),
    "kinesis": LogKind(
        _log("Kinesis", "kinesis", "sequence numbers", "streams", "kinesis", lag="in part: seconds, not messages"),
        "granary.streams.kinesis:KinesisLog",
        (),
    ),
    "nats": LogKind(
        _log("NATS JetStream", "nats", "sequence numbers", "message-logs", "nats"),
        "granary.streams.nats:NatsLog",
        (*LOGIN, "token"),
    ),
    "redis": LogKind(
        _log("Redis Streams", "redis", "ids of entries", "message-logs", "redis"),
        "granary.streams.redis:RedisLog",
        (*LOGIN, "db", "field"),
    ),
    "rabbitmq-stream": LogKind(
        _log("RabbitMQ streams", "rabbitmq-stream", "offsets", "message-logs", "rabbitmq-stream"),
        "granary.streams.rabbitmq_stream:RabbitLog",
        (*LOGIN, "vhost"),
    ),
    "rabbitmq": LogKind(
        _queue("RabbitMQ queues", "rabbitmq", "in part: as delivered, and again after a failure", "yes: messages"),
        "granary.streams.rabbitmq_queue:RabbitQueues",
        (*LOGIN, "vhost", "prefetch", "id"),
    ),
    "sqs": LogKind(
        _queue("Amazon SQS", "sqs", "in part: within a group of a FIFO queue", "yes: messages"),
        "granary.streams.sqs:SqsQueues",
        ("visibility", "id"),
    ),
    "pubsub": LogKind(
        _queue("Google Pub/Sub", "pubsub", "in part: within an ordering key", "in part: seconds, not messages"),
        "granary.streams.pubsub:Subscriptions",
        ("id",),
    ),
}
DEBEZIUM = Guarantees(
    kind="changes by Debezium",
    declared='Stream, envelope="debezium"',
    command="granary stream",
    exactly_once="yes: by the place of a change in the database's log, whatever the connector sends again",
    deletes="yes: deletes, and truncates of a topic of one partition",
    order="yes: by commit",
    lag=BOTH,
    page="debezium",
    proofs=("debezium",),
)
WEBHOOKS = Guarantees(
    kind="webhooks",
    declared="Stream, secrets",
    command="granary serve-webhooks",
    exactly_once="yes, by idempotency key or the table's key: a 202 follows the commit, and repeats are known",
    deletes="no",
    order="no: as requests arrive",
    lag="no: nothing waits here",
    page="streams",
    proofs=("webhooks",),
)
