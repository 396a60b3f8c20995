"""The source of the tests that is captured by its binary log: tables, a seeded write load, and the comparison."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pymysql

from granary.sources.capture import CapturedReader
from granary.sources.spec import BinlogCapture, Column, Source, Table
from granary.warehouse.connection import connect, query
from tests.python.support import captured_shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings
    from tests.python.support.mariadb import MariaDB

SETTING = "GRANARY_STALL_URL"
SERVER_ID = 4711

ARTICLES = replace(captured_shop.ARTICLES, location="articles")
ORDERS = replace(captured_shop.ORDERS, location="Order Lines")
PAGES = replace(captured_shop.PAGES, location="pages")

CREATE = (
    "create table articles (id bigint primary key, name text not null, price decimal(10,2), sold tinyint(1),"
    " since date, seen_at timestamp(6) null, weight double)",
    "create table `Order Lines` (`Order No` bigint, line smallint, article bigint, quantity int,"
    ' `a "note"` text, primary key (`Order No`, line))',
    "create table pages (slug varchar(40) character set latin1 collate latin1_bin primary key, body mediumtext,"
    " picture blob, visits bigint)",
)

SOURCE = Source(
    name="stall",
    description="A market stall.",
    owner="tests",
    kind="mysql",
    settings=(),
    open_reader=lambda _: CapturedReader(),
    tables=(ARTICLES, ORDERS, PAGES),
    capture=BinlogCapture(setting=SETTING, server_id=SERVER_ID),
)

RETRIED = (1062, 1213, 1205)
"""A key that is there, a deadlock, a lock that takes too long: the transaction is undone, and nothing of it counts."""


@dataclass
class BinlogShop:
    """A database with the three tables, on a server that may hold several."""

    server: MariaDB
    database: str
    source: Source = SOURCE

    def create(self, rows: int = 30) -> None:
        """Make the database, the tables and some rows."""
        self.server.run(f"create database {self.database} character set utf8mb4")
        self.sql(*CREATE)
        for seed in range(rows):
            self.sql(*transaction(random.Random(-seed), truncates=False))

    def drop(self) -> None:
        """Remove the database."""
        self.server.run("set foreign_key_checks = 0", f"drop database {self.database}")

    @property
    def uri(self) -> str:
        return self.server.captured(self.database)

    def sql(self, *statements: str) -> None:
        self.server.run(f"use {self.database}", "set time_zone = '+00:00'", "set sql_mode = ansi_quotes", *statements)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.run(f"use {self.database}", "set time_zone = '+00:00'", sql)

    def captures(self, *tables: Table) -> Source:
        """Return a source of other tables."""
        return replace(self.source, tables=tables)

    def commits(self, seed: int, transactions: int) -> Iterator[None]:
        """Commit (or roll back) transactions, and yield after each."""
        dice = random.Random(seed)
        with closing(self.server.connect()) as session, session.cursor() as cursor:
            for statement in (f"use {self.database}", "set autocommit = 0", "set time_zone = '+00:00'"):
                cursor.execute(statement)
            for _ in range(transactions):
                try:
                    for statement in transaction(dice):
                        cursor.execute(statement)
                    session.rollback() if dice.random() < 0.05 else session.commit()
                except pymysql.MySQLError as error:
                    session.rollback()
                    if error.args[0] not in RETRIED:
                        raise
                yield

    def differences(self, settings: Settings) -> dict[str, tuple[Any, ...]]:
        """Compare source and warehouse as multisets, and both with what the change table folds to.

        Returns:
            Per table that differs: rows that the copy lacks, rows that it has too many, and the same of the fold.
        """
        found = {}
        with connect(settings) as connection:
            for table in self.source.tables:
                there = self.truth(table)
                name = f"raw_{self.source.name}.{table.name}"
                here = Counter(query(connection, f"select {captured_shop._columns(table)} from {name}"))
                folded = Counter(captured_shop.fold(connection, self.source, table))
                if not there == here == folded:
                    found[table.name] = (there - here, here - there, there - folded, folded - there)
        return found

    def truth(self, table: Table) -> Counter[tuple[Any, ...]]:
        """Return the rows of a table at the source, as texts that are the same on both sides."""
        return Counter(self.rows(f"select {', '.join(map(_text, table.columns))} from `{table.location}`"))


def _text(column: Column) -> str:
    name = "`" + (column.aliases[0] if column.aliases else column.name) + "`"
    if pa.types.is_binary(column.type) or column.name == "body":
        return f"md5(convert({name} using utf8mb4))" if column.name == "body" else f"md5({name})"
    if pa.types.is_boolean(column.type):
        return f"if({name} is null, null, if({name}, 'true', 'false'))"
    if pa.types.is_timestamp(column.type):
        fraction = f"if(microsecond({name}) = 0, '', trim(trailing '0' from date_format({name}, '.%f')))"
        return f"concat(date_format({name}, '%Y-%m-%d %H:%i:%s'), {fraction}, '+00')"
    return f"concat({name})"


def transaction(dice: random.Random, *, truncates: bool = True) -> Iterator[str]:
    """Yield the statements of a random transaction on the three tables."""
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        yield dice.choice(STATEMENTS)(dice)
    if truncates and dice.random() < 0.004:
        yield dice.choice(("truncate pages", "truncate table `Order Lines`", "truncate articles"))


def _article(dice: random.Random) -> str:
    number = dice.randrange(10**6)
    text = dice.choice((f"article {number}", "", "ä ö 漢字 🙂", "a\\\\b\\tc", "it''s", "null"))
    sold = dice.choice(("true", "false", "null"))
    return (
        f"insert into articles values ({dice.randrange(300)}, '{text}', {number / 100}, {sold},"
        f" date '2020-01-01' + interval {number % 999} day, now(6), {dice.random()!r})"
        " on duplicate key update name = values(name), price = null, seen_at = values(seen_at)"
    )


def _articles(dice: random.Random) -> str:
    first = 1000 + dice.randrange(100000)
    return (
        "insert ignore into articles select seq, 'many', seq / 7.0, null, null, now(), seq / 3.0e0"
        f" from seq_{first}_to_{first + dice.randrange(60)}"
    )


def _order(dice: random.Random) -> str:
    return (
        f"insert into `Order Lines` values ({dice.randrange(80)}, {dice.randrange(5)}, 1, 2, 'new')"
        " on duplicate key update quantity = quantity + 1"
    )


def _page(dice: random.Random) -> str:
    return (
        f"insert into pages values ('pä{dice.randrange(30)}', repeat(md5('{dice.random()}'), 200),"
        " unhex(repeat('00ff41', 2000)), 0) on duplicate key update visits = visits + 1"
    )


STATEMENTS = (
    _article,
    _article,
    _articles,
    _order,
    _order,
    _page,
    _page,
    lambda dice: f"update pages set visits = visits + 1 where slug > 'pä{dice.randrange(30)}'",
    lambda dice: f"update pages set slug = concat('q', slug) where slug = 'pä{dice.randrange(30)}'",
    lambda dice: f"update pages set body = null where slug = 'pä{dice.randrange(30)}'",
    lambda dice: f"update articles set id = id + 500000 where id = {dice.randrange(300)}",
    lambda dice: f"delete from articles where id % 97 = {dice.randrange(97)}",
    lambda dice: f"update `Order Lines` set line = line + 10 where `Order No` = {dice.randrange(80)} and line < 10",
    lambda dice: f"delete from `Order Lines` where `Order No` = {dice.randrange(80)}",
)
