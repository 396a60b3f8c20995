"""Kinesis through the same loop, against moto's server: shards, splits, and a position that another process moved.

Where moto differs from the service: after a split it still sends records to the closed shard and none to its children,
and it gives a closed shard an iterator without end. So the test shows that a closed shard is finished and its children
are waited for and read, but not that they hold anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from botocore.session import get_session
from moto.server import ThreadedMotoServer

from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from granary.warehouse.errors import GranaryError
from tests.python.support.stream_servers import TOPIC, differences, event, free_port, landed, positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def kinesis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of a Kinesis with an empty stream of two shards that the source `events` reads."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{port}"
    requests.post(f"{endpoint}/moto-api/reset", timeout=10)  # all its servers of a process share one state
    client = get_session().create_client("kinesis", region_name="eu-central-1", endpoint_url=endpoint)
    client.create_stream(StreamName=TOPIC, ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName=TOPIC, WaiterConfig={"Delay": 1})
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", f"kinesis://eu-central-1?endpoint={endpoint}")
    yield client
    client.close()
    server.stop()


def put(client: Any, *numbers: int) -> None:
    records = [{"Data": json.dumps(event(n)).encode(), "PartitionKey": f"key-{n}"} for n in numbers]
    assert client.put_records(StreamName=TOPIC, Records=records)["FailedRecordCount"] == 0


def test_shards_and_a_split(kinesis: Any, warehouse: Settings, rows: Rows) -> None:
    put(kinesis, *range(100))
    kinesis.put_record(StreamName=TOPIC, Data=b"\xff", PartitionKey="x")
    counts = open_stream(warehouse, "events", Limits(seconds=0.05)).run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (100, 1)
    assert differences(warehouse, [f"e{n}" for n in range(100)]) == (0, 0)
    assert len(positions(warehouse)) == 2
    assert rows("select reason, payload from ops.quarantine") == [("is not UTF-8 text", {"base64": "/w=="})]

    put(kinesis, *range(100, 150))
    shard = kinesis.list_shards(StreamName=TOPIC)["Shards"][0]
    low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
    kinesis.split_shard(StreamName=TOPIC, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2))
    put(kinesis, *range(150, 200))
    open_stream(warehouse, "events", Limits(seconds=0.05)).run(once=True)
    assert differences(warehouse, [f"e{n}" for n in range(200)]) == (0, 0)
    held = positions(warehouse)
    assert len(held) == 2
    assert held[f"kinesis:{TOPIC}[{shard['ShardId']}]"] == "ended"
    read = rows("select coalesce(sum(rows_read), 0) from ops.load_audit")
    assert open_stream(warehouse, "events", Limits(seconds=0.05)).run(once=True).rows_read == 0
    assert rows("select coalesce(sum(rows_read), 0) from ops.load_audit") == read
    lags = open_stream(warehouse, "events").look()
    assert len(lags) == 3
    assert all(lag.seconds == 0 for lag in lags)


def test_two_readers(kinesis: Any, warehouse: Settings) -> None:
    """Both read the same records; who commits second is fenced, and goes on behind the first."""
    put(kinesis, *range(20))
    slow = open_stream(warehouse, "events")
    slow.log.open(slow.positions)
    polled = slow.log.poll(100, 0.1)
    assert open_stream(warehouse, "events", Limits(seconds=0.05)).run(once=True).rows_read == 20
    slow._land(polled)
    assert (slow.counts.fenced, slow.counts.rows_read) == (1, 0)
    put(kinesis, 20)
    assert slow.run(once=True).rows_read == 1
    assert len(landed(warehouse)) == 21


def test_a_stream_that_is_not_there(kinesis: Any, warehouse: Settings) -> None:
    kinesis.delete_stream(StreamName=TOPIC)
    with pytest.raises(GranaryError, match="Kinesis refuses: ResourceNotFoundException"):
        open_stream(warehouse, "events").run(once=True)
