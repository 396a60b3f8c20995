"""A source's log by Spark: into the same tables as without it, exactly once, whatever is killed."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from granary.streams.opening import open_stream
from granary.warehouse.connection import connect, execute
from tests.python.engine.chaos.drill import drill
from tests.python.support.business import the_shop
from tests.python.support.stream_servers import TOPIC, Broker, command, differences, ended, event, landed, positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

pytest.importorskip("pyspark", reason="Spark is an extra: pip install 'granary-elt[spark]'")
if not shutil.which("java"):
    pytest.skip("Spark needs Java", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def business() -> Iterator[None]:
    with the_shop():
        yield


@pytest.fixture
def kafka(kafka_server: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """Return the broker with an empty topic of two partitions that the source `events` reads."""
    kafka_server.topic(partitions=2)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka_server.address(group="spark"))
    return kafka_server


def by_spark(*more: str, **environment: str) -> tuple[int, str, str]:
    """Run `granary stream events --once --spark` to its end."""
    return ended(command("stream", "events", "--once", "--spark", "local[2]", *more, **environment), 180)


def test_rows_land_as_they_do_without_spark(kafka: Broker, warehouse: Settings, rows: Rows) -> None:
    """Two partitions in small batches; events come twice, messages are none, both streams take turns."""
    kafka.produce((n % 2, json.dumps(event(n)).encode()) for n in range(100))
    kafka.send(event(0), b"{", None, event(201, type="card_lost"), event(205))
    code, _, err = by_spark("--batch-rows", "40")
    assert (code, err) == (0, "")
    assert differences(warehouse, [f"e{n}" for n in (*range(100), 205)]) == (0, 0)
    assert positions(warehouse) == {f"kafka:{TOPIC}[0]": "55", f"kafka:{TOPIC}[1]": "50"}
    assert rows("select unit, line, column_name, reason from ops.quarantine order by line") == [
        (f"{TOPIC}[0]", 51, "", "is not JSON: Expecting property name enclosed in double quotes"),
        (f"{TOPIC}[0]", 52, "", "is empty: an event log has no deletions"),
        (f"{TOPIC}[0]", 53, "type", "is none of card_scanned"),
    ]
    # Batches of 40 messages, 20 of each partition: 0-20, 20-40, 40-50 and what is left of the first.
    loads = "select unit, rows_read from ops.load_audit where rows_read > 0 order by unit, load_id"
    assert [row[1] for row in rows(loads)] == [20, 20, 15, 20, 20, 10]
    assert rows("select kind, name, status, row_count from ops.runs") == [("stream", "events", "succeeded", 102)]

    # Without Spark, then with it again: its checkpoint is behind, the warehouse is not.
    kafka.send(event(300), partition=1)
    assert open_stream(warehouse, "events").run(once=True).rows_read == 1
    kafka.send(event(1), event(301), partition=1)
    assert by_spark()[0] == 0
    assert positions(warehouse)[f"kafka:{TOPIC}[1]"] == "53"
    assert len(landed(warehouse)) == 103

    # The warehouse is as it was before, and the checkpoint says more: what is missing comes again.
    with connect(warehouse) as connection:
        gone = "delete from raw_events.card_scans where event_id in ('e300', 'e301')"
        execute(connection, gone)
        execute(connection, "update ops.watermarks set value = replace(value, '\"53\"', '\"50\"')")
        connection.commit()
    assert by_spark()[0] == 0
    assert differences(warehouse, [f"e{n}" for n in (*range(100), 205, 300, 301)]) == (0, 0)


def test_what_cannot_be_read_is_said(kafka: Broker, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka.send(event(1))
    assert by_spark()[0] == 0
    kafka.topic(partitions=2)  # created again: the offsets of before are not in it
    code, _, err = by_spark()
    assert code == 1
    assert re.search(r"messages from offset 1 on are no longer in the topic, or it was created again", err)
    assert "Traceback" not in err
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", "kafka://127.0.0.1:1?security.protocol=SASL_SSL&sasl.password=hidden")
    code, _, err = by_spark()
    assert code == 1
    assert "Kafka does not answer" in err or "Kafka refuses an option" in err
    assert "hidden" not in err
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = by_spark()
    assert (code, "Spark needs Java" in err) == (1, True)


def test_every_row_is_there_exactly_once(settings: Settings, tmp_path: Path) -> None:
    """Drivers are killed before and after their commit, at random, and beside another: `make chaos` by the hundred."""
    wanted = {"spark-before-commit": 1, "spark-after-commit": 1, "at random": 1, "two loaders": 1}
    cells = drill("spark", settings, tmp_path, wanted, seed=2017)
    assert {name: cell.runs for name, cell in cells.items()} == wanted
    assert all(cell.good for cell in cells.values()), {name: cell for name, cell in cells.items() if not cell.good}
