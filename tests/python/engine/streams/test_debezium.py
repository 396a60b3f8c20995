"""Debezium's envelopes as captured tables: as it changed and as it is, once, whatever is sent again."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa
import pytest

from granary.load.captured import LostSlotError
from granary.quarantine import replay
from granary.sources.spec import BinlogCapture, Column, Stream, Table
from granary.streams import opening
from granary.streams.decoding import JsonDecoder
from granary.streams.log import Message
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.support.debezium_log import ADDRESS, ITEMS, PostgresLog, source, with_schema
from tests.python.support.registered_messages import header

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.streams.loop import Counts
    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker, RegistryServer

    Rows = Callable[..., list[tuple[object, ...]]]

ROOT = Path(__file__).parents[4]
TOPIC = "items"
CURRENT = "select id, name, price from raw_cdc.items order by id"
CHANGES = "select cdc_op, id, name from raw_cdc.items_changes order by _load_id, _row"


@pytest.fixture
def stream(
    kafka_server: Broker, warehouse: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Counts]:
    """Return a function that sends messages to the table's topic and streams what is there."""
    kafka_server.topic(TOPIC)
    group = f"{request.node.name[:50]}"

    def run(*messages: Any, table: Table = ITEMS, partition: int = 0, **options: object) -> Counts:
        monkeypatch.setattr(opening, "SOURCES", {"cdc": source(table, topics={table.name: TOPIC})})
        monkeypatch.setenv(ADDRESS, kafka_server.address(group=group, **options))
        if messages:
            kafka_server.send(*messages, topic=TOPIC, partition=partition)
        return opening.open_stream(warehouse, "cdc").run(once=True)

    return run


def item(number: int, name: str = "a", price: str | None = "1.50") -> dict[str, Any]:
    return {"id": number, "name": name, "price": price}


def test_changes_land_twice(stream: Callable[..., Counts], rows: Rows) -> None:
    """A copy, then inserts, updates and deletes: each as it changed, and what is there as it is."""
    log = PostgresLog()
    log.rows = {n: item(n) for n in (1, 2, 3)}
    log.snapshot()
    log.put(item(2, "b"))
    log.put(item(4, "ä", None))
    log.commit()
    log.delete(1)
    log.commit()
    counts = stream(*log.written)
    assert (counts.rows_read, counts.rows_loaded, counts.rows_quarantined) == (6, 6, 0)
    price = Decimal("1.50")
    assert rows(CURRENT) == [(2, "b", price), (3, "a", price), (4, "ä", None)]
    assert rows(CHANGES) == [
        ("snapshot", 1, "a"), ("snapshot", 2, "a"), ("snapshot", 3, "a"),
        ("update", 2, "b"), ("insert", 4, "ä"), ("delete", 1, None),
    ]  # fmt: skip
    assert rows("select cdc_xid, cdc_committed_at from raw_cdc.items_changes where cdc_op = 'delete'") == [
        (501, datetime(2023, 11, 14, 22, 13, 20, 501_000, tzinfo=timezone.utc))
    ]


def test_what_is_sent_again_is_known(stream: Callable[..., Counts], rows: Rows) -> None:
    """A connector that was restarted sends the last changes again, at other offsets of Kafka, and goes on."""
    log = PostgresLog()
    log.rows = {n: item(n) for n in range(6)}
    log.snapshot()
    for turn in range(5):
        log.put(item(1, f"turn {turn}"))
        log.put(item(10 + turn))
        log.commit()
    log.delete(10)
    log.commit()
    copied, changed = log.written[:6], log.written[6:]
    stream(*copied[:4])
    stream(*copied[2:], *changed[:3])
    stream(*copied[4:], *changed[:7])
    stream(*changed[3:])
    before = rows(CHANGES)
    assert stream(*changed).rows_loaded == 0
    assert rows(CHANGES) == before
    assert len(before) == 6 + 11
    assert rows(CURRENT) == [(n, r["name"], Decimal(r["price"])) for n, r in sorted(log.rows.items())]
    assert rows("select count(*) from ops.quarantine") == [(0,)]


def test_changes_at_one_place_of_the_log(stream: Callable[..., Counts], rows: Rows) -> None:
    """Rows of one COPY share an LSN: those that come in the next batch are no repetition."""
    log = PostgresLog(committed=900)
    same = log.source()
    made = [{"before": None, "after": item(n), "source": same, "op": "c"} for n in range(4)]
    stream(*made[:2])
    stream(*made[1:])
    assert rows(CHANGES) == [("insert", n, "a") for n in range(4)]


def test_a_new_copy_takes_away_what_is_gone(stream: Callable[..., Counts], rows: Rows) -> None:
    """A connector that lost its slot copies anew; what was deleted meanwhile nobody tells."""
    log = PostgresLog()
    log.rows = {n: item(n) for n in (1, 2, 3)}
    log.snapshot()
    log.put(item(9))
    log.commit()
    stream(*log.written)
    del log.rows[2]
    log.rows[3] = item(3, "changed in silence")
    log.lsn += 5_000
    log.written.clear()
    log.snapshot()
    stream(*log.written[:2])
    assert len(rows(CURRENT)) == 4
    stream(*log.written[1:])
    assert rows("select id, name from raw_cdc.items order by id") == [(1, "a"), (3, "changed in silence"), (9, "a")]
    assert rows(CHANGES)[-4:] == [
        ("snapshot", 1, "a"), ("snapshot", 3, "changed in silence"), ("snapshot", 9, "a"), ("delete", 2, None),
    ]  # fmt: skip


def test_messages_that_are_no_changes(stream: Callable[..., Counts], rows: Rows) -> None:
    """What is no envelope, has no place in a log, or breaks the contract waits in the quarantine."""
    log = PostgresLog(committed=900)
    good = log.envelope("c", None, item(1))
    old = log.envelope("c", None, item(2))
    oracle = log.envelope("c", None, item(3)) | {"source": {"connector": "oracle"}}
    nowhere = log.envelope("c", None, item(4), sequence=None)
    no_key = log.envelope("d", None, None)
    negative = log.envelope("c", None, item(5, price="-1"))
    nameless = log.envelope("u", None, {"id": 6, "name": None})
    last = log.envelope("c", None, item(7))
    stream(b"{no json", {"op": "c"}, good | {"op": "x"}, good, oracle, nowhere, no_key, negative, nameless, last)
    assert rows("select id from raw_cdc.items") == [(1,), (7,)]
    assert sorted(rows("select column_name, reason from ops.quarantine where table_name = 'items_changes'")) == [
        ("", "does not say at which place of its log it lies"),
        ("", "has no row before the change: the table at the source needs a key or a replica identity"),
        ("", "is no envelope of Debezium: it has no op and source"),
        ("", "is no envelope of Debezium: its op is none of c, u, d, r, t"),
        ("", "is not JSON: Expecting property name enclosed in double quotes"),
        ("", "is of a connector whose order is not known here: there are postgresql, mysql and mariadb"),
        ("name", "is null"),
        ("price", "is below 0"),
    ]
    stream(old)
    assert rows("select reason from ops.quarantine where reason like '%before what%'") == [
        ("lies before what has landed, and is not known: was the source restored to an earlier state?",)
    ]


def test_truncates(stream: Callable[..., Counts], rows: Rows) -> None:
    log = PostgresLog(committed=900)
    log.put(item(1))
    log.envelope("t", None, None)
    log.put(item(2))
    stream(*log.written)
    stream(*log.written)
    assert rows("select id from raw_cdc.items") == [(2,)]
    assert rows(CHANGES) == [("insert", 1, "a"), ("truncate", None, None), ("insert", 2, "a")]


def test_large_values_that_did_not_change(stream: Callable[..., Counts], rows: Rows) -> None:
    """They are taken from the row before, from a change before, or from the table; else they are not guessed."""
    log = PostgresLog(committed=900)
    away = "__debezium_unavailable_value"
    log.put(item(1, "long"))
    log.envelope("u", None, item(1, away, "2.00"))
    stream(*log.written)
    log.written.clear()
    log.envelope("u", None, item(1, away, "3.00"))
    log.envelope("u", item(2, "was"), item(2, away, "4.00"))
    log.envelope("u", None, item(3, away, "5.00"))
    stream(*log.written)
    assert rows(CURRENT) == [(1, "long", Decimal("3.00")), (2, "was", Decimal("4.00"))]
    assert rows("select column_name, reason from ops.quarantine") == [
        ("name", "did not change, and its value is not here")
    ]


def test_a_key_that_changed(stream: Callable[..., Counts], rows: Rows) -> None:
    log = PostgresLog(committed=900)
    log.put(item(1))
    log.envelope("u", item(1), item(2, "moved"))
    stream(*log.written)
    assert rows(CURRENT) == [(2, "moved", Decimal("1.50"))]
    assert rows("select cdc_key_before from raw_cdc.items_changes where cdc_op = 'update'") == [('{"id": "1"}',)]


def test_with_schemas_and_types(stream: Callable[..., Counts], rows: Rows) -> None:
    """The JSON converter's own schema: decimals in base64, and columns that no contract names in their types."""
    log = PostgresLog(committed=900)
    row = {"id": 1, "name": "a", "price": b64encode((-5).to_bytes(1, "big", signed=True)).decode()}
    schema = {
        "type": "struct",
        "fields": [
            {"field": "id", "type": "int64"},
            {"field": "name", "type": "string"},
            {
                "field": "price",
                "type": "bytes",
                "name": "org.apache.kafka.connect.data.Decimal",
                "parameters": {"scale": "2"},
            },
            {"field": "made", "type": "int64", "name": "io.debezium.time.MicroTimestamp"},
            {"field": "day", "type": "int32", "name": "io.debezium.time.Date"},
            {"field": "seen", "type": "string", "name": "io.debezium.time.ZonedTimestamp"},
            {"field": "raw", "type": "bytes"},
            {"field": "tags", "type": "array"},
            {"field": "ratio", "type": "double"},
        ],
    }
    more = {
        "made": 1_700_000_000_123_456,
        "day": 19_782,
        "seen": "2024-02-29T23:00:00.5+01:00",
        "raw": "/w==",
        "tags": ["x", 1],
        "ratio": 0.1,
    }
    table = replace(ITEMS, columns=(*ITEMS.columns[:2], Column("price", pa.decimal128(12, 2), "Price.")))
    stream(with_schema(log.envelope("c", None, row | more), schema), table=table)
    assert rows("select price, made, day, seen, raw, tags from raw_cdc.items") == [
        (
            Decimal("-0.05"),
            datetime(2023, 11, 14, 22, 13, 20, 123_456),  # noqa: DTZ001 - in no zone
            date(2024, 2, 29),
            datetime(2024, 2, 29, 22, 0, 0, 500_000, tzinfo=timezone.utc),
            b"\xff",
            '["x",1]',
        )
    ]


def avro_envelope() -> dict[str, Any]:
    price = {
        "type": "bytes",
        "logicalType": "decimal",
        "precision": 12,
        "scale": 2,
        "connect.name": "org.apache.kafka.connect.data.Decimal",
    }
    value = {
        "type": "record",
        "name": "Value",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": ["null", "string"]},
            {"name": "price", "type": ["null", price]},
            {"name": "made", "type": {"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"}},
        ],
    }
    where = {
        "type": "record",
        "name": "Source",
        "namespace": "io.debezium.connector.mysql",
        "fields": [
            {"name": name, "type": kind}
            for name, kind in {
                "connector": "string",
                "ts_ms": "long",
                "file": "string",
                "pos": "long",
                "row": "int",
                "server_id": "long",
                "gtid": ["null", "string"],
            }.items()
        ],
    }
    return {
        "type": "record",
        "name": "Envelope",
        "namespace": "shop.public.items",
        "fields": [
            {"name": "before", "type": ["null", value], "default": None},
            {"name": "after", "type": ["null", "Value"], "default": None},
            {"name": "source", "type": where},
            {"name": "op", "type": "string"},
        ],
    }


def test_avro_of_mysql(stream: Callable[..., Counts], registry: RegistryServer, rows: Rows) -> None:
    """By a registry; after a failover the same transactions come from another server's files."""
    schema = avro_envelope()
    schema_id = registry.register("items-value", schema)

    def change(number: int, gtid: int, file: int, pos: int, op: str = "c") -> bytes:
        row = {"id": number, "name": f"n{gtid}", "price": Decimal("1.50"), "made": 1_700_000_000_123_456_789}
        place = {"connector": "mysql", "ts_ms": 5, "file": f"binlog.{file:06}", "pos": pos, "row": 0, "server_id": 1}
        before, after = (row, None) if op == "d" else (None, row)
        envelope = {"before": before, "after": after, "source": place | {"gtid": f"3e11fa47-71ca:{gtid}"}, "op": op}
        out = BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), envelope)
        return header(schema_id) + out.getvalue()

    options = {"format": "avro", "registry": registry.url}
    stream(change(1, 10, 7, 400), change(2, 11, 7, 900), **options)
    stream(
        change(1, 10, 2, 120), change(2, 11, 7, 900), change(1, 12, 2, 700, "u"), change(2, 13, 2, 800, "d"), **options
    )
    made = datetime(2023, 11, 14, 22, 13, 20, 123_456)  # noqa: DTZ001 - in no zone
    assert rows("select id, name, price, made from raw_cdc.items") == [(1, "n12", Decimal("1.50"), made)]
    assert rows("select cdc_op, id, cdc_xid from raw_cdc.items_changes order by _load_id, _row") == [
        ("insert", 1, 10), ("insert", 2, 11), ("update", 1, 12), ("delete", 2, 13),
    ]  # fmt: skip


def test_raw_rows_that_are_gone_stop_the_stream(stream: Callable[..., Counts], warehouse: Settings, rows: Rows) -> None:
    log = PostgresLog(committed=900)
    log.put(item(1))
    stream(*log.written)
    with connect(warehouse) as connection:
        execute(connection, "delete from raw_cdc.items")
        connection.commit()
    with pytest.raises(LostSlotError, match="have Debezium make a new snapshot"):
        stream()


def test_specs_that_make_no_sense() -> None:
    fine = source(ITEMS)
    with pytest.raises(ValueError, match="by webhook"):
        Stream({"items": "items"}, ADDRESS, "SECRETS", envelope="debezium")
    with pytest.raises(ValueError, match="a topic for each"):
        source(ITEMS, replace(ITEMS, name="others"), topics={"items": "items"})
    with pytest.raises(ValueError, match="disposition merge"):
        source(replace(ITEMS, disposition="append"))
    with pytest.raises(ValueError, match="in two ways"):
        replace(fine, capture=BinlogCapture("GRANARY_X", 5))


def test_protobuf_is_refused(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(opening, "SOURCES", {"cdc": source(ITEMS)})
    monkeypatch.setenv(ADDRESS, "kafka://127.0.0.1:1?format=protobuf&registry=http://127.0.0.1:1")
    with pytest.raises(GranaryError, match="not read here"):
        opening.open_stream(settings, "cdc")


def test_the_page(kafka_server: Broker, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec and the messages of docs/engine/sources/debezium.md do what it says."""
    page = ROOT.joinpath("docs/engine/sources/debezium.md").read_text()
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)
    messages = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    spec = names["SOURCE"]
    assert spec.stream is not None
    (topic,) = spec.stream.topics.values()
    kafka_server.topic(topic)
    kafka_server.send(*messages, topic=topic)
    monkeypatch.setattr(opening, "SOURCES", {spec.name: spec})
    monkeypatch.setenv(spec.stream.address, kafka_server.address(group="page"))
    opening.open_stream(warehouse, spec.name).run(once=True)
    assert rows("select cdc_op, price from raw_till.articles_changes order by _load_id, _row") == [
        ("insert", Decimal("1.50")), ("update", Decimal("1.80")),
    ]  # fmt: skip
    assert rows("select id, name, price from raw_till.articles") == [(7, "pear", Decimal("1.80"))]


def test_replay(
    stream: Callable[..., Counts], warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused change lands with a value that fits, unless a later one has; a message that is no change never does."""
    log = PostgresLog(committed=900)
    bad = log.envelope("c", None, item(1, price="-1"))
    log.put(item(2, price="-2"))
    log.put(item(2, "later"))
    stream(b"{}", bad, *log.written[1:])
    monkeypatch.setattr(replay, "SOURCES", opening.SOURCES)
    found = replay.entries(warehouse, tables=[("cdc", "items_changes")])
    (done,) = replay.replay(warehouse, found, {"price": "9.00"})
    assert [entry.payload.get("id") for entry in found if entry.quarantine_id in done.landed] == ["1"]
    assert sorted(reason for _, reason in done.refused) == [
        "has been overtaken: a later change of its row has landed; drop the entry",
        replay.NO_CHANGE,
    ]
    assert rows(CURRENT) == [(1, "a", Decimal("9.00")), (2, "later", Decimal("1.50"))]


def test_the_topic_of_transactions_is_an_ordinary_one() -> None:
    """Its messages begin and end transactions: JSON objects, for a table of another source."""
    columns = (
        Column("id", pa.string(), "Transaction.", nullable=False),
        Column("status", pa.string(), "BEGIN or END.", nullable=False),
        Column("event_count", pa.int64(), "Changes."),
    )
    table = replace(ITEMS, name="transactions", columns=columns, key=("id", "status"), disposition="append")
    every = {"data_collections": [{"data_collection": "public.items", "event_count": 2}], "ts_ms": 1}
    begin = {"id": "571:53195829", "status": "BEGIN", "event_count": None, "data_collections": None, "ts_ms": 1}
    end = {"id": "571:53195829", "status": "END", "event_count": 2} | every
    (decoded,) = JsonDecoder(table, 1_000).decode("", [Message(json.dumps(one).encode()) for one in (begin, end)])
    assert [tuple(row.values())[:3] for row in decoded.batch.to_pylist()] == [
        ("571:53195829", "BEGIN", None), ("571:53195829", "END", 2),
    ]  # fmt: skip
