"""A mart that goes out again: to a database, an API, a topic of Kafka and a file, of which two refuse some rows.

Every target keeps what was done to it, one entry each time: so a row that is applied twice is found double.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Consumer, TopicPartition

from granary.deliver.deliver import deliver
from granary.deliver.spec import Database, Delivery, Files, HttpApi, Topic
from granary.readers.api.spec import Api
from granary.warehouse.connection import connect, execute, query
from tests.python.engine.chaos.world import Rows, World, select
from tests.python.support import stream_servers
from tests.python.support.delivery_service import service

if TYPE_CHECKING:
    from granary.deliver.spec import Target
    from granary.sources.spec import Source
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

TOPIC, PARTS = "chaos_orders", 2
REFUSED = 10
"""Targets that refuse rows refuse those whose quantity has this factor."""
PUBLISH = """
    insert into ops.publishes (schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, loads_seen)
    values ('marts', 'chaos', now(), '{}', 0, 0, '{}')
"""
BEGIN = (
    "delete from ops.deliveries where delivery like 'chaos_%'",
    "create schema if not exists marts authorization transformer",
    "grant usage on schema marts to analyst",
    "drop table if exists marts.chaos_orders",
    "create table marts.chaos_orders (order_id integer primary key, quantity integer, price numeric(12, 2))",
    "grant select on marts.chaos_orders to analyst",
    "drop schema if exists chaos_target cascade",
    "create schema chaos_target",
    "create table chaos_target.orders (order_id integer primary key, quantity integer check (quantity % 10 <> 0),"
    " price numeric(12, 2))",
    "create table chaos_target.log (op text, order_id integer, quantity integer, price numeric)",
    "create function chaos_target.log() returns trigger language plpgsql as $$ begin"
    " insert into chaos_target.log select lower(tg_op), (case tg_op when 'DELETE' then old else new end).*;"
    " return null; end $$",
    "create trigger log after insert or update or delete on chaos_target.orders"
    " for each row execute function chaos_target.log()",
)
Values = tuple[int, str]
"""Quantity and price of an order."""


@dataclass(frozen=True)
class DeliverLoader:
    """Brings every target to the last publish."""

    uri: str
    url: str
    log: str
    folder: str

    def load(self, settings: Settings) -> None:
        """Deliver to one target after the other."""
        targets: dict[str, Target] = {
            "chaos_database": Database(self.uri, "chaos_target.orders"),
            "chaos_api": HttpApi(Api(self.url), "/orders"),
            "chaos_kafka": Topic(self.log, TOPIC),
            "chaos_files": Files(self.folder),
        }
        for name, target in targets.items():
            deliver(settings, _delivery(name, target))


def _delivery(name: str, target: Target) -> Delivery:
    key = ("order_id",)
    return Delivery(name, "Orders.", "tests", (), lambda _: target, mart="chaos_orders", key=key, batch_rows=12)


class DeliverWorld(World):
    """A mart of orders, whose publishes bring new ones, change some and take some away."""

    points = (
        *("deliver-before-taken", "deliver-taken", "deliver-before-send", "deliver-sent", "deliver-settled"),
        *("deliver-row-sent", "deliver-in-database", "deliver-message", "deliver-file-written", "deliver-file-there"),
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.stack = ExitStack()
        self.service = self.stack.enter_context(service())
        self.service.refuses = lambda row: row["row"] is not None and row["row"]["quantity"] % REFUSED == 0
        self.broker = self.stack.enter_context(stream_servers.broker())
        self.broker.topic(TOPIC, PARTS)
        self.out = self.folder / "out"
        self.loader = DeliverLoader(self.settings.uri(), self.service.url, self.broker.address(), str(self.out))
        self.source, self.tables = cast("Source", SimpleNamespace(name="chaos_deliver")), ()
        self.orders: dict[int, Values] = {}
        self.there: dict[str, dict[int, Values]] = {"database": {}, "kafka": {}, "api": {}}
        self.done: dict[str, Rows] = {name: Counter() for name in self.there}
        self.next = 0
        with connect(self.settings) as connection:
            for statement in BEGIN:
                execute(connection, statement)
            connection.commit()

    def advance(self) -> None:
        random, before = self.random, dict(self.orders)
        known = sorted(self.orders)
        random.shuffle(known)
        fifth = len(known) // 5
        for number in known[:fifth]:
            del self.orders[number]
        new = random.randint(15, 40)
        for number in [*known[fifth : 2 * fifth], *range(self.next, self.next + new)]:
            self.orders[number] = (random.randint(1, 99), f"{random.randint(0, 9999)}.{random.randint(10, 99)}")
        self.next += new
        changed = {one for one in {*before, *self.orders} if before.get(one) != self.orders.get(one)}
        for name in self.there:
            self._expect(name, changed)
        with connect(self.settings) as connection:
            execute(connection, "delete from marts.chaos_orders")
            rows = json.dumps([[number, *values] for number, values in self.orders.items()])
            execute(
                connection,
                "insert into marts.chaos_orders select (row ->> 0)::int, (row ->> 1)::int, (row ->> 2)::numeric"
                " from jsonb_array_elements($1::jsonb) as row",
                rows,
            )
            execute(connection, PUBLISH)
            connection.commit()

    def _expect(self, name: str, changed: set[int]) -> None:
        """Count what a target is to do for these orders, and what it has then."""
        there, done = self.there[name], self.done[name]
        for number in changed:
            values = self.orders.get(number)
            if values is None:
                if old := there.pop(number, None):
                    done[("delete", number, *(old if name == "database" else (None, None)))] += 1
            elif name == "kafka" or values[0] % REFUSED:
                done[("update" if number in there else "insert", number, *values)] += 1
                there[number] = values

    def truth(self) -> dict[str, Rows]:
        files: Rows = Counter((number, *values) for number, values in self.orders.items())
        return {
            **self.done,
            "orders": _rows(self.there["database"]),
            "answers": _rows(self.there["api"]),
            "files": files,
        }

    def landed(self, connection: Connection) -> dict[str, Rows]:
        """Return what each target has done, and what the database, the API and the file hold."""
        api: Rows = Counter()
        for body in self.service.keys.values():
            api.update(_row(row["op"], row["key"], row["row"]) for row in json.loads(body, parse_float=str)["rows"])
        assert not self.service.changed, "a batch was sent again with other rows"
        held = "select order_id, quantity, price::text from chaos_target.orders"
        with (self.out / "chaos_files.csv").open() as file:
            lines: Rows = Counter((int(a), int(b), c) for a, b, c in list(csv.reader(file))[1:])
        assert [path.name for path in self.out.iterdir() if not path.name.endswith(".half")] == ["chaos_files.csv"]
        return {
            "database": Counter(query(connection, "select op, order_id, quantity, price::text from chaos_target.log")),
            "api": api,
            "kafka": self._messages(),
            "orders": select(connection, held),
            "answers": Counter(
                (row["order_id"], row["quantity"], str(row["price"])) for row in self.service.rows.values()
            ),
            "files": lines,
        }

    def _messages(self) -> Rows:
        reader = Consumer(
            {"bootstrap.servers": self.broker.hosts, "group.id": "t", "enable.partition.eof": True, "log_level": 2}
        )
        reader.assign([TopicPartition(TOPIC, part, 0) for part in range(PARTS)])
        found: Rows = Counter()
        ended: set[int] = set()
        while len(ended) < PARTS:
            message = reader.poll(10)
            assert message is not None, "the broker is silent"
            if message.error():
                ended.add(message.partition())
                continue
            value = message.value()
            op = dict(message.headers())["granary-op"].decode()
            found[_row(op, json.loads(message.key()), value and json.loads(value, parse_float=str))] += 1
        reader.close()
        return found

    def close(self) -> None:
        self.stack.close()
        shutil.rmtree(self.out, ignore_errors=True)


def _rows(held: dict[int, Values]) -> Rows:
    return Counter((number, *values) for number, values in held.items())


def _row(op: str, key: dict[str, Any], row: dict[str, Any] | None) -> tuple[Any, ...]:
    return (op, key["order_id"], *((row["quantity"], row["price"]) if row else (None, None)))
