"""Kafka into raw: exactly once, in order of nothing but the positions that commit with the rows."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import confluent_kafka
import pytest

from granary.cli.streams import SECOND_SIGNAL_ENDS
from granary.sources.discovery import SOURCES
from granary.streams import loop
from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.chaos.check import ledger_faults
from tests.python.support.stream_servers import (
    TOPIC,
    Broker,
    Running,
    command,
    differences,
    ended,
    event,
    landed,
    positions,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]


def test_rows_land_once_and_poison_is_kept(kafka: Broker, warehouse: Settings, rows: Rows) -> None:
    """Two partitions; one event comes twice; nine messages are none, each for another reason."""
    kafka.produce((n % 2, json.dumps(event(n)).encode()) for n in range(100))
    kafka.send(
        event(0),
        b"\xff\xfe",
        b"null",
        b"{",
        None,
        b'{"event_id": "h", "member_id": "\\ud800"}',
        event(201, type="card_lost"),
        event(202, member_id="twenty"),
        event(203, occurred_at="2017-03-12T00:00:00"),
        event(204, event_id="a\0b"),
        event(205),
    )
    counts = open_stream(warehouse, "events").run(once=True)
    assert (counts.rows_read, counts.rows_loaded, counts.rows_quarantined) == (111, 102, 9)
    assert differences(warehouse, [f"e{n}" for n in (*range(100), 205)]) == (0, 0)
    assert len(landed(warehouse)) == 101
    assert positions(warehouse) == {f"kafka:{TOPIC}[0]": "61", f"kafka:{TOPIC}[1]": "50"}
    assert rows("select unit, line, column_name, reason from ops.quarantine order by line") == [
        (f"{TOPIC}[0]", 51, "", "is not UTF-8 text"),
        (f"{TOPIC}[0]", 52, "", "is not a JSON object"),
        (f"{TOPIC}[0]", 53, "", "is not JSON: Expecting property name enclosed in double quotes"),
        (f"{TOPIC}[0]", 54, "", "is empty: an event log has no deletions"),
        (f"{TOPIC}[0]", 55, "member_id", "holds half of a surrogate pair"),
        (f"{TOPIC}[0]", 56, "type", "is none of card_scanned"),
        (f"{TOPIC}[0]", 57, "member_id", "is not a valid int64"),
        (f"{TOPIC}[0]", 58, "occurred_at", "is not a valid timestamp[us, tz=UTC]"),
        (f"{TOPIC}[0]", 59, "event_id", "holds a NUL character"),
    ]
    assert rows("select payload from ops.quarantine where line in (51, 52) order by line") == [
        ({"base64": "//4="},),
        ({"line": "null"},),
    ]
    assert rows("select rows_read = rows_loaded + rows_quarantined from ops.load_audit group by 1") == [(True,)]
    # The next process reads what is new, and nothing again: the broker is not asked how far the group had come.
    kafka.send(event(300), partition=1)
    lags = open_stream(warehouse, "events").look()
    assert [(lag.partition, lag.position) for lag in lags] == [(f"{TOPIC}[0]", "61"), (f"{TOPIC}[1]", "50")]
    # Behind a batch the test broker's "latest offset" is too low, so only what follows single messages is sure.
    assert lags[1].messages == 0 or lags[1].seconds > 0
    assert open_stream(warehouse, "events").run(once=True).rows_read == 1
    assert len(landed(warehouse)) == 102


def test_poison_does_not_stop_the_stream(kafka: Broker, warehouse: Settings, rows: Rows) -> None:
    """What a database or a parser chokes on: numbers without end, thousands of new fields, keys for no index."""
    kafka.send(
        event(1),
        json.dumps(event(2)).replace('"member_id": 3', f'"member_id": {"9" * 5000}').encode(),
        json.dumps(event(3, note=0)).replace('"note": 0', f'"note": {"9" * 5000}').encode(),
        json.dumps(event(4, note=0)).replace('"note": 0', '"note": 1e400000').encode(),
        event(5, **{f"field_{n}": n for n in range(2000)}),
        event(6, event_id="".join(f"{n:x}" for n in range(2000))),
        b'{"event_id":"e7","event_id":"e8"}',
        event(9, note={"deep": "x\0"}),
        event(10, **{f"one_{n}": n for n in range(150)}),
        event(11, **{f"two_{n}": n for n in range(150)}),
        event(12, note={"amount": 1.5}),
    )
    counts = open_stream(warehouse, "events").run(once=True)
    assert (counts.rows_read, counts.rows_loaded, counts.rows_quarantined) == (11, 3, 8)
    assert landed(warehouse) == [("e1",), ("e10",), ("e12",)]
    number = "holds a number beyond those that a double can hold"
    crowd = "would bring the table over 200 columns that its contract does not name"
    assert rows("select line, column_name, reason from ops.quarantine order by line") == [
        (1, "member_id", number),
        (2, "note", number),
        (3, "note", number),
        (4, "", crowd),
        (5, "event_id", "has more than 200 characters"),
        (6, "", "names the field 'event_id' twice"),
        (7, "note", "holds a NUL character"),
        (9, "", crowd),
    ]
    # The cap is that of the table, not of a batch.
    kafka.send(event(13, **{f"two_{n}": n for n in range(150)}), event(14, one_7=7))
    assert open_stream(warehouse, "events").run(once=True).rows_loaded == 1
    assert landed(warehouse)[-1] == ("e14",)


def test_what_the_warehouse_itself_refuses_is_kept_and_stops_nothing(
    kafka: Broker, warehouse: Settings, rows: Rows
) -> None:
    """Whatever the reason is: here a constraint that somebody has added to the raw table."""
    kafka.send(event(0))
    open_stream(warehouse, "events").run(once=True)
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, "alter table raw_events.card_scans add check (door_id <> 13)")
    kafka.send(*[event(n) for n in range(1, 30)], b"{")
    counts = open_stream(warehouse, "events").run(once=True)
    assert (counts.rows_read, counts.rows_loaded, counts.rows_quarantined) == (30, 28, 2)
    assert differences(warehouse, [f"e{n}" for n in range(30) if n != 12]) == (0, 0)
    assert positions(warehouse) == {f"kafka:{TOPIC}[0]": "31"}
    assert rows("select line, reason, payload ->> 'event_id' from ops.quarantine order by line") == [
        (12, "is refused by the warehouse (SQLSTATE 23514)", "e12"),
        (30, "is not JSON: Expecting property name enclosed in double quotes", None),
    ]


def test_batches_end_after_so_many_messages(kafka: Broker, warehouse: Settings) -> None:
    kafka.send(*[event(n) for n in range(10)])
    counts = open_stream(warehouse, "events", Limits(rows=4, seconds=5.0)).run(once=True)
    assert (counts.rows_loaded, counts.batches) == (10, 3)


def test_events_that_all_came_before_move_nothing_but_the_position(
    kafka: Broker, warehouse: Settings, rows: Rows
) -> None:
    for _ in range(2):
        kafka.send(event(1))
        open_stream(warehouse, "events").run(once=True)
    assert landed(warehouse) == [("e1",)]
    at = [json.dumps({f"kafka:{TOPIC}[0]": str(offset)}) for offset in (1, 2)]
    ledger = "select status, rows_read, watermark_before, watermark_after from ops.load_audit order by load_id"
    assert rows(ledger) == [("loaded", 1, None, at[0]), ("unchanged", 1, at[0], at[1])]
    with connect(warehouse, autocommit=True) as connection:
        assert ledger_faults(connection, "events", SOURCES["events"].tables) == []
        execute(connection, "update ops.watermarks set value = $1", json.dumps({f"kafka:{TOPIC}[0]": "3"}))
        (fault,) = ledger_faults(connection, "events", SOURCES["events"].tables)
    assert "a watermark of no load" in fault


def test_two_consumers_one_killed(kafka: Broker, warehouse: Settings) -> None:
    """One of two processes is killed just before it commits and another at the same point; the third finishes."""
    truth = [f"e{n}" for n in range(6000)]
    half = len(truth) // 2
    kafka.produce((n % 2, json.dumps(event(n)).encode()) for n in range(half))
    arguments = ("stream", "events", "--batch-rows", "100", "--batch-seconds", "0.05", "--json")
    first = command(*arguments, GRANARY_KILL_AT="stream-before-commit:3")
    second = command(*arguments, GRANARY_KILL_AT="stream-after-commit:7")
    assert ended(first)[0] == -signal.SIGKILL
    kafka.produce((n % 2, json.dumps(event(n)).encode()) for n in range(half, len(truth)))
    assert ended(second)[0] == -signal.SIGKILL
    assert 0 < len(landed(warehouse)) < len(truth)
    third = command(*arguments)
    try:
        wait_until(lambda: len(landed(warehouse)) >= len(truth), 40, "the last event's landing")
        third.send_signal(signal.SIGTERM)
        code, out, err = ended(third)
    finally:
        third.kill()
    assert code == 0, err
    assert differences(warehouse, truth) == (0, 0)
    assert positions(warehouse) == {f"kafka:{TOPIC}[0]": "3000", f"kafka:{TOPIC}[1]": "3000"}
    # Exactly once without the key's help: no process committed a message that another had committed.
    with connect(warehouse) as connection, connection.cursor() as cursor:
        cursor.execute("select sum(rows_read)::bigint from ops.load_audit where source = 'events'")
        assert cursor.fetchone() == (6000,)
    last = json.loads(out.splitlines()[-1])
    assert last["rows_quarantined"] == 0
    assert [lag["messages"] for lag in last["lag"]] == [0, 0]


def test_rebalances_in_mid_batch(kafka: Broker, warehouse: Settings, start: Callable[..., Running]) -> None:
    """Members come and go while events flow; every message is committed by exactly one of them."""
    sent = 0

    def more(number: int) -> None:
        nonlocal sent
        kafka.produce((n % 2, json.dumps(event(n)).encode()) for n in range(sent, sent + number))
        sent += number

    one = start(rows=50)
    more(500)
    wait_until(lambda: one.loop.counts.rows_read > 0)
    two = start(rows=50)
    more(1000)
    wait_until(lambda: two.loop.counts.rows_read > 0 or more(20), 40, "the second member's first batch")
    more(500)
    one.stop()
    more(500)
    wait_until(lambda: len(landed(warehouse)) == sent, 40, "the last event's landing")
    two.stop()
    assert one.loop.counts.rows_read + two.loop.counts.rows_read == sent
    assert differences(warehouse, [f"e{n}" for n in range(sent)]) == (0, 0)


def test_a_consumer_that_lost_its_partition_commits_nothing(
    kafka: Broker, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two consumers that both believe they own the partitions, as after a long pause: the slower one is fenced."""
    kafka.send(*(event(n) for n in range(20)))
    slow = open_stream(warehouse, "events")
    slow.log.open(slow.positions)
    polled: list[object] = []
    wait_until(lambda: polled or polled.extend(slow.log.poll(100, 0.2)))
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka.address(group="another"))
    assert open_stream(warehouse, "events").run(once=True).rows_read == 20
    slow._land(polled)
    assert (slow.counts.fenced, slow.counts.rows_read) == (1, 0)
    kafka.send(event(20))
    again: list[object] = []
    wait_until(lambda: again or again.extend(slow.log.poll(100, 0.2)))
    assert [(run.start, run.end, len(run.messages)) for run in again] == [("20", "21", 1)]
    slow._land(again)
    assert slow.counts.rows_read == 1
    slow.log.close()
    assert len(landed(warehouse)) == 21


def test_waits_while_the_warehouse_is_away(
    kafka: Broker, warehouse: Settings, start: Callable[..., Running], rows: Rows
) -> None:
    """The source's lock is held, then the connection is cut: the batch is tried again, and nothing is read twice."""
    kafka.send(*(event(n) for n in range(10)))
    running = start()
    wait_until(lambda: len(landed(warehouse)) == 10)
    others = "where datname = current_database() and pid <> pg_backend_pid()"
    for number in range(10, 40, 10):
        rows(f"select pg_terminate_backend(pid) from pg_stat_activity {others}")
        kafka.send(*(event(n) for n in range(number, number + 10)))
        wait_until(lambda number=number: len(landed(warehouse)) == number + 10)
    running.stop()
    assert running.loop.counts.retries >= 1
    assert running.loop.counts.rows_read == 40


@contextmanager
def stuck(warehouse: Settings) -> Iterator[tuple[subprocess.Popen[str], Connection]]:
    """Return a stream whose batch of three events waits in the middle of its transaction: somebody holds the table."""
    with connect(warehouse) as other:
        execute(other, "lock table raw_events.card_scans in share mode")
        stream = command("stream", "events", "--json")
        waits = "select 1 from pg_locks where not granted and relation = 'raw_events.card_scans'::regclass"
        try:
            wait_until(lambda: other.execute(waits).fetchall(), what="the batch's wait for the table")
            yield stream, other
        finally:
            stream.kill()
            stream.wait()


def hear_of_a_second(stream: subprocess.Popen[str]) -> None:
    assert stream.stderr
    assert any(SECOND_SIGNAL_ENDS in line for line in stream.stderr)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_lets_the_batch_finish_and_a_second_one_rolls_it_back(
    kafka: Broker, warehouse: Settings, sign: signal.Signals
) -> None:
    kafka.send(event(0))
    assert open_stream(warehouse, "events").run(once=True).rows_loaded == 1
    kafka.send(*(event(n) for n in range(1, 4)))
    with stuck(warehouse) as (stream, _):
        stream.send_signal(sign)
        hear_of_a_second(stream)
        stream.send_signal(sign)
        code, _, _ = ended(stream)
    assert code not in (0, -signal.SIGKILL)
    assert landed(warehouse) == [("e0",)]
    with stuck(warehouse) as (stream, release):
        stream.send_signal(sign)
        hear_of_a_second(stream)
        release.rollback()
        code, _, err = ended(stream)
    assert code == 0, err
    assert differences(warehouse, [f"e{n}" for n in range(4)]) == (0, 0)


def test_the_status_reads_nothing_and_the_lag_is_told_at_the_end_and_logged(kafka: Broker, warehouse: Settings) -> None:
    kafka.send(*(event(n) for n in range(3)))
    code, out, err = ended(command("stream", "events", "--status", "--json"))
    assert code == 0, err
    assert {lag["partition"]: lag["position"] for lag in json.loads(out)} == {
        f"{TOPIC}[0]": None,
        f"{TOPIC}[1]": None,
    }
    assert landed(warehouse) == []
    code, out, err = ended(command("stream", "events", "--once", "--json"))
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    assert (last["rows_loaded"], [lag["messages"] for lag in last["lag"]]) == (3, [0, 0])
    logged = json.loads((warehouse.home / "logs" / "stream-events.log").read_text().splitlines()[-1])
    assert logged["lag"] == last["lag"]


def test_the_lag_is_told_every_so_many_seconds(
    kafka: Broker, warehouse: Settings, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop.REPORT_SECONDS == 30
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.1)
    running, told = start(), []
    running.loop.report = lambda counts, lags: told.append(sorted(lag.partition for lag in lags))
    wait_until(lambda: told.count([f"{TOPIC}[0]", f"{TOPIC}[1]"]) >= 3, what="the third report of both partitions")
    running.stop()


def test_the_client_holds_32_mb_at_most(warehouse: Settings, kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue and the answer that is under way. The test broker sends everything at once, so this is by option."""
    options: dict[str, str] = {}
    consumer = confluent_kafka.Consumer
    monkeypatch.setattr(confluent_kafka, "Consumer", lambda given: options.update(given) or consumer(given))
    assert open_stream(warehouse, "events").run(once=True).batches == 0
    assert int(options["queued.max.messages.kbytes"]) * 1024 + int(options["fetch.max.bytes"]) == 32 * 1024 * 1024


def test_gives_up_when_patience_is_over(kafka: Broker, warehouse: Settings, rows: Rows) -> None:
    kafka.send(event(1))
    loop = open_stream(warehouse, "events", Limits(patience_seconds=0.5))
    with connect(warehouse, "postgres", autocommit=True) as connection:
        execute(connection, f'alter database "{warehouse.database}" with allow_connections false')
    try:
        began = time.monotonic()
        with pytest.raises(GranaryError, match=r"gave up after 0\.5 s: .*nothing is lost"):
            loop.run(once=True)
        assert time.monotonic() - began < 15
    finally:
        with connect(warehouse, "postgres", autocommit=True) as connection:
            execute(connection, f'alter database "{warehouse.database}" with allow_connections true')
    assert landed(warehouse) == []


def test_wrong_addresses(warehouse: Settings, kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(address: str) -> str:
        monkeypatch.setenv("GRANARY_EVENTS_STREAM", address)
        with pytest.raises(GranaryError) as caught:
            open_stream(warehouse, "events").run(once=True)
        return str(caught.value)

    hosts = kafka.hosts
    assert fails("mqtt://x").startswith("GRANARY_EVENTS_STREAM is not an address of a log")
    assert fails("kafka://u:secret@host").startswith("GRANARY_EVENTS_STREAM names no host, or more than hosts")
    assert "names no registry" in fails(f"kafka://{hosts}?format=avro")
    assert "may not set enable.auto.commit" in fails(f"kafka://{hosts}?enable.auto.commit=true")
    assert "No such configuration property" in fails(f"kafka://{hosts}?sasl.passwort=secret")
    for message in (fails("kafka://u:secret@host"), fails(f"kafka://{hosts}?sasl.passwort=secret")):
        assert "secret" not in message
    kafka.topic("another")
    source = replace(SOURCES["events"], stream=replace(SOURCES["events"].stream, topics={TOPIC: "nowhere"}))
    monkeypatch.setattr("granary.streams.opening.SOURCES", {"events": source})
    assert fails(f"kafka://{hosts}").startswith("Kafka has no topic 'nowhere'")
