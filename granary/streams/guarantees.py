"""What logs and webhooks guarantee; a log's entry goes by the scheme of its address."""

from __future__ import annotations

from granary.sources.guarantees import Guarantees

LOGS = {
    "kafka": Guarantees(
        kind="Kafka",
        declared="Stream, kafka://",
        command="granary stream",
        exactly_once="yes: the offsets commit with the rows",
        deletes="no: a message without a value is refused",
        order="yes, within a partition",
        lag="yes: messages and seconds",
        page="streams",
        proofs=("kafka",),
    ),
    "kinesis": Guarantees(
        kind="Kinesis",
        declared="Stream, kinesis://",
        command="granary stream",
        exactly_once="yes: the sequence numbers commit with the rows",
        deletes="no",
        order="yes, within a shard",
        lag="in part: seconds, not messages",
        page="streams",
    ),
}
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
