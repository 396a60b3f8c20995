"""Amazon's services by moto, in a process of its own. It has no rights: it takes any credentials."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.python.support.stream_servers import TOPIC, answers, free_port, wait_until

AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
"""What a client has to find in its environment."""
REGION = "eu-central-1"

SERVER = """
import time
from moto.server import main
from moto.sqs import models

models.unix_time_millis = lambda: time.time() * 1000
models.SQSBackend.is_message_valid_based_on_retention_period = lambda *_: True
delete = models.Queue.delete_message


def alone(queue, handle):
    with queue._messages_lock:
        delete(queue, handle)


models.Queue.delete_message = alone
main()
"""
"""moto counts all messages of a queue a dozen times for each that is received, to know how long it keeps them, and asks
a slow clock for each of those: of 500 messages, ten took 0.7 s, and now 0.01 s. None is here for days. And of two
deletions at once it forgets one for good: the message comes again, and can no longer be deleted."""


class Moto:
    """A running server, empty at first."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-c", SERVER, "-H", "127.0.0.1", "-p", str(self.port)]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        wait_until(lambda: answers("127.0.0.1", self.port), 120, "moto's start")

    def client(self, service: str) -> Any:
        """Return a client of a service."""
        from botocore.session import get_session  # noqa: PLC0415 - half a second, and only some tests need it

        return get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
        )

    def stop(self) -> None:
        """Stop the server; it keeps nothing."""
        self.process.kill()
        self.process.wait()


class Kinesis(Moto):
    """A server whose streams are made, filled and deleted."""

    kind = "kinesis"

    def __init__(self) -> None:
        super().__init__()
        self.streams = self.client("kinesis")

    def address(self) -> str:
        """Return the address that a source's setting holds."""
        return f"kinesis://{REGION}?endpoint={self.endpoint}"

    def create(self, topic: str = TOPIC, shards: int = 1) -> None:
        """Make an empty stream."""
        self.streams.create_stream(StreamName=topic, ShardCount=shards)
        self.streams.get_waiter("stream_exists").wait(StreamName=topic, WaiterConfig={"Delay": 1})

    def delete(self, topic: str = TOPIC) -> None:
        """Delete a stream."""
        self.streams.delete_stream(StreamName=topic)

    def send(self, *values: bytes | dict[str, object], topic: str = TOPIC) -> None:
        """Send messages to the shards in turn; objects are written as JSON."""
        for start in range(0, len(values), 500):
            records = [
                {"Data": value if isinstance(value, bytes) else json.dumps(value).encode(), "PartitionKey": f"key-{n}"}
                for n, value in enumerate(values[start : start + 500], start)
            ]
            assert not self.streams.put_records(StreamName=topic, Records=records)["FailedRecordCount"]

    def stop(self) -> None:
        """Stop the server; it keeps nothing."""
        self.streams.close()
        super().stop()
