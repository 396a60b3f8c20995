"""The kinds of sources that are put to the proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.python.engine.chaos.kinds.api import ApiWorld
from tests.python.engine.chaos.kinds.archive import ArchiveWorld
from tests.python.engine.chaos.kinds.binlog import BinlogWorld
from tests.python.engine.chaos.kinds.capture import CaptureWorld
from tests.python.engine.chaos.kinds.connectors import DltWorld, SingerWorld
from tests.python.engine.chaos.kinds.databases import DatabaseWorld
from tests.python.engine.chaos.kinds.deliver import DeliverWorld
from tests.python.engine.chaos.kinds.events import StreamWorld, WebhookWorld
from tests.python.engine.chaos.kinds.files import EventFilesWorld, FilesWorld, WebFilesWorld
from tests.python.engine.chaos.kinds.formats import DebeziumWorld, ProtobufWorld
from tests.python.engine.chaos.kinds.logs import KinesisWorld, NatsWorld, RabbitStreamWorld, RedisWorld
from tests.python.engine.chaos.kinds.queues import PubSubWorld, RabbitQueueWorld, SqsWorld
from tests.python.engine.chaos.kinds.replay import ReplayWorld
from tests.python.engine.chaos.kinds.restore import RestoreWorld
from tests.python.engine.chaos.kinds.spark import SparkWorld

if TYPE_CHECKING:
    from tests.python.engine.chaos.world import World

KINDS: dict[str, type[World]] = {
    "files": FilesWorld,
    "files, append": EventFilesWorld,
    "files, web": WebFilesWorld,
    "database": DatabaseWorld,
    "api": ApiWorld,
    "singer": SingerWorld,
    "dlt": DltWorld,
    "change capture": CaptureWorld,
    "mysql": BinlogWorld,
    "kafka": StreamWorld,
    "kinesis": KinesisWorld,
    "nats": NatsWorld,
    "redis": RedisWorld,
    "rabbitmq-stream": RabbitStreamWorld,
    "rabbitmq-queue": RabbitQueueWorld,
    "sqs": SqsWorld,
    "pubsub": PubSubWorld,
    "kafka, protobuf": ProtobufWorld,
    "debezium": DebeziumWorld,
    "webhooks": WebhookWorld,
    "quarantine replay": ReplayWorld,
    "deliver": DeliverWorld,
    "archive": ArchiveWorld,
    "restore": RestoreWorld,
    "spark": SparkWorld,
}
"""What a person calls each kind -> its world."""
