"""Kinesis through the same loop, against moto's server: shards, splits, and a position that another process moved.

Where moto differs from the service: after a split it still sends records to the closed shard and none to its children,
and it gives a closed shard an iterator without end. So the test shows that a closed shard is finished and its children
are waited for and read, but not that they hold anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.python.support.moto_server import AWS, Kinesis
from tests.python.support.stream_servers import TOPIC, differences, event, landed, positions
from tests.python.support.streaming import read, refused, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]


@pytest.fixture(scope="session")
def server() -> Iterator[Kinesis]:
    """Return a running server."""
    running = Kinesis()
    yield running
    running.stop()


@pytest.fixture
def kinesis(server: Kinesis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of a Kinesis with an empty stream of two shards that the source `events` reads."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    server.create(shards=2)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address())
    yield server.streams
    if TOPIC in server.streams.list_streams()["StreamNames"]:
        server.delete()


def numbered(*numbers: int) -> list[dict[str, object]]:
    return [event(number) for number in numbers]


def test_shards_and_a_split(server: Kinesis, kinesis: Any, warehouse: Settings, rows: Rows) -> None:
    server.send(*numbered(*range(100)))
    kinesis.put_record(StreamName=TOPIC, Data=b"\xff", PartitionKey="x")
    kinesis.put_record(StreamName=TOPIC, Data=b"\xff", PartitionKey="x")
    assert read(warehouse) == (102, 100, 2)
    assert differences(warehouse, [f"e{n}" for n in range(100)]) == (0, 0)
    assert len(positions(warehouse)) == 2
    assert rows("select reason, payload from ops.quarantine") == [("is not UTF-8 text", {"base64": "/w=="})] * 2

    server.send(*numbered(*range(100, 150)))
    shard = kinesis.list_shards(StreamName=TOPIC)["Shards"][0]
    low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
    kinesis.split_shard(StreamName=TOPIC, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2))
    server.send(*numbered(*range(150, 200)))
    read(warehouse)
    assert differences(warehouse, [f"e{n}" for n in range(200)]) == (0, 0)
    held = positions(warehouse)
    assert len(held) == 2
    assert held[f"kinesis:{TOPIC}[{shard['ShardId']}]"] == "ended"
    before = rows("select coalesce(sum(rows_read), 0) from ops.load_audit")
    assert read(warehouse) == (0, 0, 0)
    assert rows("select coalesce(sum(rows_read), 0) from ops.load_audit") == before
    lags = stream(warehouse).look()
    assert len(lags) == 3
    assert all(lag.seconds == 0 for lag in lags)


def test_two_readers(server: Kinesis, kinesis: Any, warehouse: Settings) -> None:
    """Both read the same records; who commits second is fenced, and goes on behind the first."""
    server.send(*numbered(*range(20)))
    slow = stream(warehouse)
    slow.log.open(slow.positions)
    polled = slow.log.poll(100, 0.1)
    assert read(warehouse) == (20, 20, 0)
    slow._land(polled)
    assert (slow.counts.fenced, slow.counts.rows_read) == (1, 0)
    server.send(*numbered(20))
    assert slow.run(once=True).rows_read == 1
    assert len(landed(warehouse)) == 21


def test_a_stream_that_is_not_there(kinesis: Any, warehouse: Settings) -> None:
    kinesis.delete_stream(StreamName=TOPIC)
    assert "Kinesis refuses: ResourceNotFoundException" in refused(warehouse)
