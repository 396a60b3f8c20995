"""`granary doctor SOURCE` at databases: what is in the way of reading, and what could be better there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from granary.load.api import load_table
from granary.readers.database import DatabaseReader
from granary.sources.attempt import clock
from granary.sources.spec import Column
from tests.python.engine.databases.conftest import INSTANT, contract
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import pytest

    from granary.warehouse.findings import Finding
    from tests.python.engine.databases.conftest import Postgres, Shop
    from tests.python.support.mariadb import MariaDB

COLUMNS = {"id": pa.int64(), "name": pa.string(), "changed": INSTANT}


def words(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.what, one.where, one.severity) for one in found]


def test_a_postgres_says_what_is_missing(postgres: Postgres) -> None:
    postgres.run("create table orders (id bigint primary key, changed timestamptz not null)")
    postgres.run("insert into orders values (1, now())")
    tables = [contract("orders", columns=COLUMNS, cursor="changed"), contract("gone", columns=COLUMNS)]
    found = list(DatabaseReader(postgres.uri).examine(tables))
    assert words(found)[0] == ("there is no column name", "orders", "problem")
    assert (found[1].where.partition(":")[0], found[1].severity) == ("gone", "problem")
    assert "gone" in found[1].what


def test_a_postgres_says_what_could_be_better(postgres: Postgres) -> None:
    postgres.run("create table orders (id bigint primary key, name text, changed timestamptz not null)")
    reader, tables = DatabaseReader(postgres.uri), [contract("orders", columns=COLUMNS, cursor="changed")]
    assert words(list(reader.examine(tables))) == [
        ("our login may write to the table", "orders", "hint"),
        ("no index begins with the cursor changed", "orders", "hint"),
    ]
    postgres.run("create index on orders (changed, id)")
    assert words(list(reader.examine(tables))) == [("our login may write to the table", "orders", "hint")]


def test_a_mariadb_says_what_is_in_the_way(maria: MariaDB) -> None:
    maria.run("create table orders (id bigint primary key, name text, changed datetime(6) not null)")
    reader = DatabaseReader(maria.uri, zone="UTC")
    tables = [contract("orders", columns=COLUMNS, cursor="changed")]
    assert words(list(reader.examine(tables))) == [("no index begins with the cursor changed", "orders", "hint")]
    maria.run("create index changed on orders (changed)")
    assert list(reader.examine(tables)) == []
    wrong = maria.uri.replace(maria.reader, "not-the-password")
    (refused,) = DatabaseReader(wrong, zone="UTC").examine(tables)
    assert refused.severity == "problem"
    assert "Access denied" in refused.what
    assert "not-the-password" not in f"{refused}"


def test_an_index_under_the_cursor_s_other_name_counts(sqlite: tuple[str, Callable[..., Any]]) -> None:
    uri, run = sqlite
    run("create table orders (id integer primary key, name text, modified text)")
    run("insert into orders values (1, 'a', '2024-01-01 00:00:00')")
    changed = Column("changed", INSTANT, "When.", aliases=("modified",))
    tables = [contract("orders", columns={**COLUMNS, "changed": changed}, cursor="changed")]
    reader = DatabaseReader(uri, zone="UTC")
    assert words(list(reader.examine(tables))) == [("no index begins with the cursor changed", "orders", "hint")]
    run("create index m on orders (modified)")
    assert list(reader.examine(tables)) == []


def test_clocks_are_compared() -> None:
    assert list(clock("there", 1_000.0, 1_004.0)) == []
    (hint,) = clock("there", 1_000.0, 1_030.0)
    assert (hint.how_large, hint.severity) == ("30 s behind", "hint")
    (problem,) = clock("there", 5_000.0, 1_400.0)
    assert (problem.how_large, problem.severity) == ("3,600 s ahead", "problem")


def test_the_guide_s_example(shop: Shop, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.run("create schema shop")
    postgres.run(
        "create table shop.orders (id bigint primary key, total numeric(12, 2), updated_at timestamptz not null)"
    )
    postgres.run("insert into shop.orders values (1, 9.50, '2024-02-29 12:00+00')")
    example("databases", monkeypatch, GRANARY_SHOP_URL=postgres.uri)
    assert load_table(shop.warehouse, "shop", "orders").rows_loaded == 1
    postgres.run("update shop.orders set total = 8, updated_at = '2024-03-01 12:00+00'")
    assert load_table(shop.warehouse, "shop", "orders").rows_loaded == 1
    assert shop.rows("select id, total::text, extract(day from updated_at)::int from raw_shop.orders") == [
        (1, "8.00", 1)
    ]
