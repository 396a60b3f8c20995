"""The captured source of the tests: its tables, a seeded write load, a capture in a process, and the comparison.

Another harness may use it whole:

    origin = OriginServer(Path("/tmp/g-src")); origin.create()
    shop = Shop(origin, "shop"); shop.create()
    with shop.writing(seed=1):                              # writers at work, in threads
        process = shop.capture(settings, kill_at="cdc-before-advance")
    shop.capture(settings).wait(); assert shop.differences(settings) == {}
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from granary.cdc.capture import opened
from granary.sources.capture import CapturedReader, changes_table
from granary.sources.spec import Capture, Column, Source, Table
from granary.warehouse.connection import connect, execute, query, quote_name
from granary.warehouse.settings import Settings
from tests.python.support.origin_server import CAPTURER, OriginServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTING = "GRANARY_SHOP_URL"

ARTICLES = Table(
    name="articles",
    description="What the shop sells.",
    location="public.articles",
    disposition="merge",
    key=("id",),
    freshness=timedelta(days=1),
    columns=(
        Column("id", pa.int64(), "Key.", nullable=False),
        Column("name", pa.string(), "Name.", nullable=False),
        Column("price", pa.decimal128(10, 2), "Price.", minimum=0),
        Column("sold", pa.bool_(), "Whether it is sold."),
        Column("since", pa.date32(), "First day."),
        Column("seen_at", pa.timestamp("us", tz="UTC"), "Last look."),
        Column("weight", pa.float64(), "Weight in kg."),
    ),
)

ORDERS = Table(
    name="orders",
    description="Lines of orders.",
    location="public.Order Lines",
    disposition="merge",
    key=("order_no", "line"),
    freshness=timedelta(days=1),
    columns=(
        Column("order_no", pa.int64(), "Order.", nullable=False, aliases=("Order No",)),
        Column("line", pa.int16(), "Line.", nullable=False),
        Column("article", pa.int64(), "Article."),
        Column("quantity", pa.int32(), "Pieces."),
        Column("note", pa.string(), "Said about it.", aliases=('a "note"',)),
    ),
)

PAGES = Table(
    name="pages",
    description="Long texts.",
    location="public.pages",
    disposition="merge",
    key=("slug",),
    freshness=timedelta(days=1),
    columns=(
        Column("slug", pa.string(), "Key.", nullable=False),
        Column("body", pa.string(), "Text, too long to be written again when it does not change."),
        Column("picture", pa.binary(), "Bytes, likewise."),
        Column("visits", pa.int64(), "Number of visits."),
    ),
)

DAYS = replace(
    PAGES,
    name="days",
    description="Numbers of days, in a table with a partition for each month.",
    location="public.days",
    key=("day", "n"),
    columns=(
        Column("day", pa.date32(), "Day.", nullable=False),
        Column("n", pa.int32(), "Number.", nullable=False),
    ),
)

CREATE_DAYS = (
    "drop table if exists days, days_2, days_5 cascade",
    "create table days (day date, n int, primary key (day, n)) partition by range (day)",
    "create table days_1 partition of days for values from ('2024-01-01') to ('2024-02-01')",
    "create table days_2 partition of days for values from ('2024-02-01') to ('2024-03-01')",
    f"grant select on days to {CAPTURER}",
    'drop publication if exists "by root"',
    'create publication "by root" for table days with (publish_via_partition_root = true)',
)
"""Two months, published under the name of the whole table."""

CREATE = (
    "create table articles (id bigint primary key, name text not null, price numeric(10,2), sold boolean, since date,"
    " seen_at timestamptz, weight double precision)",
    'create table "Order Lines" ("Order No" bigint, line smallint, article bigint, quantity int, "a ""note""" text,'
    ' primary key ("Order No", line))',
    "create table pages (slug text primary key, body text, picture bytea, visits bigint)",
    "alter table pages alter body set storage external, alter picture set storage external",
)

SOURCE = Source(
    name="shop",
    description="A shop.",
    owner="tests",
    kind="postgres",
    settings=(),
    open_reader=lambda _: CapturedReader(),
    tables=(ARTICLES, ORDERS, PAGES),
    capture=Capture(setting=SETTING, slot="granary_shop", publication="granary shop"),
)


@dataclass
class Shop:
    """A source database with the three tables, on a server that may hold several."""

    origin: OriginServer
    database: str
    source: Source = SOURCE

    def create(self, rows: int = 50) -> None:
        """Make the database, tables, rows, publication and grants."""
        self.origin.run("postgres", [f"create database {quote_name(self.database)}"])
        self.source = replace(self.source, capture=replace(self.source.capture, slot=f"slot_{self.database}"))
        self.sql(*CREATE)
        self.sql(
            *(
                str(statement)
                for seed in range(rows)
                for statement in transaction(random.Random(-seed), truncates=False)
            ),
            'create publication "granary shop" for table articles, "Order Lines", pages',
            f'grant select on articles, "Order Lines", pages to {CAPTURER}',
        )

    def days(self) -> Source:
        """Make the partitioned table `days`, anew; return a source of it alone."""
        self.sql(*CREATE_DAYS)
        return replace(self.source, tables=(DAYS,), capture=replace(self.source.capture, publication="by root"))

    @property
    def uri(self) -> str:
        return self.origin.uri(self.database, CAPTURER)

    def sql(self, *statements: str) -> None:
        self.origin.run(self.database, statements)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.origin.rows(self.database, sql)

    # -- the write load --------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, seed: int, writers: int = 3, transactions: int | None = None) -> Iterator[threading.Event]:
        """Keep writers at work: each commits (or rolls back) transactions of its own until the block ends.

        With a number of transactions, they end when they have done so many.

        The event is set when each of them has committed some.
        """
        end, warm = threading.Event(), threading.Event()
        started = threading.Barrier(writers, warm.set)
        failures: list[BaseException] = []

        def write(number: int) -> None:
            try:
                for done, _ in enumerate(self.commits(seed * 1000 + number, transactions or 10**9)):
                    if done == 5:
                        started.wait(30)
                    if end.is_set() and not transactions:
                        break
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(writers)]
        for thread in threads:
            thread.start()
        try:
            yield warm
        finally:
            end.set()
            for thread in threads:
                thread.join(30)
        if failures:
            raise failures[0]

    def commits(self, seed: int, transactions: int) -> Iterator[None]:
        """Commit (or roll back) transactions, and yield after each."""
        dice = random.Random(seed)
        with self.origin.connect(self.database, autocommit=False) as connection:
            for _ in range(transactions):
                self._commit(connection, dice)
                yield

    def _commit(self, connection: Any, dice: random.Random) -> None:
        try:
            for statement in transaction(dice):
                execute(connection, statement)
            connection.rollback() if dice.random() < 0.05 else connection.commit()
        except (
            DriverError
        ) as error:  # a key that is there, a deadlock: the transaction is undone, and nothing of it counts
            connection.rollback()
            if error.sqlstate not in ("23505", "40P01", "40001"):
                raise

    # -- the capture -----------------------------------------------------------------------------------------

    def environment(self, settings: Settings, kill_at: str = "", uri: str = "") -> dict[str, str]:
        project = str(Path(__file__).resolve().parents[3])
        return settings.environment() | {
            SETTING: uri or self.uri,
            "GRANARY_KILL_AT": kill_at,
            "PYTHONPATH": project,
            "SHOP_SLOT": self.source.capture.slot,
        }

    def capture(self, settings: Settings, *words: str, kill_at: str = "", uri: str = "") -> subprocess.Popen[str]:
        """Start the capture in a process of its own; words are --snapshot or --follow."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.python.support.captured_shop", *words],
            env=self.environment(settings, kill_at, uri),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # -- the comparison --------------------------------------------------------------------------------------

    def differences(self, settings: Settings) -> dict[str, tuple[Any, ...]]:
        """Compare source and warehouse as multisets, and both with what the change table folds to.

        Returns:
            Per table that differs: rows that the copy lacks, rows that it has too many, and the same of the fold.
        """
        found = {}
        with connect(settings) as connection:
            for table in self.source.tables:
                there = Counter(self.rows(f"select {_columns(table, source=True)} from {_sql_name(table)}"))
                name = f"raw_{self.source.name}.{table.name}"
                here = Counter(query(connection, f"select {_columns(table)} from {name}"))
                folded = Counter(fold(connection, self.source, table))
                if not there == here == folded:
                    found[table.name] = (there - here, here - there, there - folded, folded - there)
        return found


def fold(connection: Any, source: Source, table: Table) -> Sequence[tuple[Any, ...]]:
    """Return what the change table says that the table holds: the slow way, change by change, in Python."""
    names = [column.name for column in table.columns]
    rows = query(
        connection,
        f"select cdc_op, cdc_key_before, {', '.join(f'{n}::text' for n in table.key)}, {_columns(table)}"
        f" from raw_{source.name}.{changes_table(table).name} order by _load_id, _row",
    )
    held: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    width = len(table.key)
    for op, before, *rest in rows:
        key, image = tuple(rest[:width]), tuple(rest[width:])
        assert len(image) == len(names)
        if op in ("reset", "truncate"):
            held.clear()
        elif op == "delete":
            del held[key]
        else:
            if before:
                del held[tuple(json.loads(str(before))[name] for name in table.key)]
            if op in ("insert", "snapshot"):
                assert key not in held, f"{op} of {key}, which is there"
            held[key] = image
    return list(held.values())


def _sql_name(table: Table) -> str:
    schema, _, name = table.location.partition(".")
    return f"{quote_name(schema)}.{quote_name(name)}"


def _columns(table: Table, *, source: bool = False) -> str:
    """Return the columns as text that is the same on both sides (hashes of bytes and of long texts)."""
    listed = []
    for column in table.columns:
        name = quote_name(column.aliases[0] if source and column.aliases else column.name)
        large = pa.types.is_binary(column.type) or column.name == "body"
        listed.append(f"md5({name})" if large else f"{name}::text")
    return ", ".join(listed)


def transaction(dice: random.Random, *, truncates: bool = True) -> Iterator[str]:
    """Yield the statements of a random transaction on the three tables."""
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        yield dice.choice(STATEMENTS)(dice)
    if truncates and dice.random() < 0.004:
        yield dice.choice(
            ("truncate pages", 'truncate "Order Lines"', 'truncate pages, "Order Lines"', "truncate articles")
        )


def _article(dice: random.Random) -> str:
    number = dice.randrange(10**6)
    text = dice.choice((f"article {number}", "", "ä ö 漢字 🙂", "a\\b\tc", "it''s", "null"))
    sold = dice.choice(("true", "false", "null"))
    return (
        f"insert into articles values ({dice.randrange(300)}, '{text}', {number / 100}, {sold},"
        f" date '2020-01-01' + {number % 999}, clock_timestamp(), {dice.random() * 1e-7!r})"
        " on conflict (id) do update set name = excluded.name, price = null, seen_at = excluded.seen_at"
    )


def _articles(dice: random.Random) -> str:
    first = 1000 + dice.randrange(100000)
    return (
        "insert into articles select n, 'many', n / 7.0, null, null, now(), n / 3.0"
        f" from generate_series({first}, {first + dice.randrange(60)}) as n on conflict do nothing"
    )


def _order(dice: random.Random) -> str:
    return (
        f"insert into \"Order Lines\" values ({dice.randrange(80)}, {dice.randrange(5)}, 1, 2, 'new')"
        ' on conflict ("Order No", line) do update set quantity = "Order Lines".quantity + 1'
    )


def _page(dice: random.Random) -> str:
    n = dice.randrange(30)
    return (
        f"insert into pages values ('p{n}', repeat(md5('{dice.random()}'), 200),"
        " decode(repeat('00ff41', 2000), 'hex'), 0)"
        " on conflict (slug) do update set visits = pages.visits + 1"
    )


STATEMENTS = (
    _article,
    _article,
    _articles,
    _order,
    _order,
    _page,
    _page,
    lambda dice: f"update pages set visits = visits + 1 where slug > 'p{dice.randrange(30)}'",
    lambda dice: f"update pages set slug = 'q' || slug where slug = 'p{dice.randrange(30)}'",
    lambda dice: f"update pages set body = null where slug = 'p{dice.randrange(30)}'",
    lambda dice: f"update articles set id = id + 500000 where id = {dice.randrange(300)}",
    lambda dice: f"delete from articles where id % 97 = {dice.randrange(97)}",
    lambda dice: f'update "Order Lines" set line = line + 10 where "Order No" = {dice.randrange(80)} and line < 10',
    lambda dice: f'delete from "Order Lines" where "Order No" = {dice.randrange(80)}',
)


def main(words: Sequence[str]) -> None:
    source = replace(SOURCE, capture=replace(SOURCE.capture, slot=os.environ["SHOP_SLOT"]))
    with opened(Settings.load(), source) as capturing:
        if "--follow" in words:
            with suppress(KeyboardInterrupt):
                capturing.follow()
            return
        print(capturing.once(anew="--snapshot" in words))


if __name__ == "__main__":
    main(sys.argv[1:])
