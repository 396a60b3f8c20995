"""A SQLite source: a real file, in which any column may hold anything."""
# ruff: noqa: DTZ001 - times without a zone are what is tested

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.database import DatabaseReader, describe
from granary.warehouse.errors import GranaryError
from tests.python.engine.databases.conftest import INSTANT, contract, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.python.engine.databases.conftest import Shop

    Sqlite = tuple[str, Callable[..., Any]]

UTC = timezone.utc


def test_describe(sqlite: Sqlite) -> None:
    uri, run = sqlite
    run("create table orders (id integer primary key, total numeric(12,2), note, modified_at timestamp, raw blob)")
    run("insert into orders (total) values (1), (2)")
    run("create view recent as select id from orders")
    orders, recent = describe(uri)
    assert (orders.location, orders.key, orders.rows, orders.cursors) == ("orders", ("id",), 2, ("modified_at",))
    assert [(c.type, c.nullable) for c in orders.columns] == [
        (pa.int64(), False),
        (pa.decimal128(12, 2), True),
        (pa.string(), True),
        (pa.timestamp("us"), True),
        (pa.binary(), True),
    ]
    assert (recent.name, recent.is_view) == ("recent", True)


def test_the_contract_says_what_values_are(shop: Shop, sqlite: Sqlite) -> None:
    uri, run = sqlite
    run(
        "create table things (id integer primary key, price numeric(12,2), flag boolean, at datetime, day date, t text)"
    )
    good = (1, 0.1, 1, "2017-01-02 03:04:05", "2017-01-02", "a")
    bad = [
        (2, "a lot", None, None, None, None),
        (3, 0.105, None, None, None, None),
        (4, None, 7, None, None, None),
        (5, None, None, 1483326245, None, None),
        (6, None, None, None, "2017-01-02 10:00", None),
        (7, None, None, None, None, b"\xff"),
        (8, None, None, None, None, "nu\0l"),
    ]
    for row in (good, *bad):
        run("insert into things values (?, ?, ?, ?, ?, ?)", *row)
    run("insert into things values (9, null, null, null, null, cast(x'ff41' as text))")
    columns = {
        "id": pa.int64(),
        "price": pa.decimal128(12, 2),
        "flag": pa.bool_(),
        "at": pa.timestamp("us"),
        "day": pa.date32(),
        "t": pa.string(),
    }
    result = shop.load(DatabaseReader(uri), contract("things", columns=columns))
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (9, 1, 8)
    assert shop.rows("select price::text, flag, at, day, t from raw_shop.things") == [
        ("0.10", True, datetime(2017, 1, 2, 3, 4, 5), date(2017, 1, 2), "a")
    ]
    assert shop.rows("select (payload ->> 'id')::int, column_name, reason from ops.quarantine order by 1") == [
        (2, "price", "is not a valid decimal128(12, 2)"),
        (3, "price", "has more than 2 decimals"),
        (4, "flag", "is neither 0 nor 1"),
        (5, "at", "is not a time"),
        (6, "day", "has a time of day, which would be cut off"),
        (7, "t", "is not UTF-8 text"),
        (8, "t", "holds a NUL character"),
        (9, "t", "is not UTF-8 text"),
    ]


def test_instants_however_they_are_written(shop: Shop, sqlite: Sqlite) -> None:
    uri, run = sqlite
    run("create table t (id integer primary key, at text)")
    run("insert into t values (1, '2017-01-02T03:00:00Z'), (2, '2017-01-02 05:00:00+01:00'), (3, '2017-01-02 03:00')")
    table = contract("t", columns={"id": pa.int64(), "at": INSTANT}, cursor="at")
    first = shop.load(DatabaseReader(uri, overlap=timedelta(minutes=5)), table)
    assert (first.rows_loaded, first.rows_quarantined) == (2, 1)
    assert first.watermark_after == "2017-01-02T04:00:00+00:00"
    # Late, earlier than the watermark, and in a zone in which it is still the day before.
    run("insert into t values (4, '2017-01-01 22:56:00-05:00')")
    again = shop.load(DatabaseReader(uri, overlap=timedelta(minutes=5), zone="UTC"), table)
    assert (again.rows_read, again.rows_quarantined) == (4, 0)
    assert shop.rows("select id, at from raw_shop.t order by 1") == [
        (1, datetime(2017, 1, 2, 3, tzinfo=UTC)),
        (2, datetime(2017, 1, 2, 4, tzinfo=UTC)),
        (3, datetime(2017, 1, 2, 3, tzinfo=UTC)),
        (4, datetime(2017, 1, 2, 3, 56, tzinfo=UTC)),
    ]


def test_a_time_that_is_no_text_is_not_lost_behind_the_cursor(shop: Shop, sqlite: Sqlite) -> None:
    uri, run = sqlite
    run("create table t (id integer primary key, at timestamp)")
    run("insert into t values (1, '2017-01-02 03:00:00')")
    table = contract("t", columns={"id": pa.int64(), "at": pa.timestamp("us")}, cursor="at")
    shop.load(DatabaseReader(uri), table)
    run("insert into t values (2, 1483326245)")
    assert shop.load(DatabaseReader(uri), table).rows_quarantined == 1


def test_one_state_while_another_connection_writes(sqlite: Sqlite) -> None:
    uri, run = sqlite
    run("pragma journal_mode = wal")
    run("create table t (id integer primary key, name text)")
    run(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)"
        " insert into t select i, 'a' from n"
    )
    reader, table = DatabaseReader(uri, parallel=4), contract("t")
    [unit] = reader.units(table, None)
    reading = reader.read(table, unit, None)
    batches = [next(reading).batch]
    run("update t set name = 'b'")
    run("delete from t where id > 10000")
    batches += [source_batch.batch for source_batch in reading]
    found = pa.Table.from_batches(batches)
    assert found.num_rows == 20000
    assert set(found.column("name").to_pylist()) == {"a"}


def test_it_is_opened_for_reading_only(sqlite: Sqlite, tmp_path: Path) -> None:
    uri, run = sqlite
    run("create table t (id integer primary key, name text)")
    with pytest.raises(GranaryError, match="cannot connect to the source database: unable to open database file"):
        read(DatabaseReader(f"sqlite:///{tmp_path}/not-there.db"), contract("t"))
    assert not (tmp_path / "not-there.db").exists()
    (tmp_path / "text.db").write_text("this is not a database, and long enough to be looked at" * 20)
    with pytest.raises(GranaryError, match="file is not a database"):
        read(DatabaseReader(f"sqlite:///{tmp_path}/text.db"), contract("t"))
    with pytest.raises(GranaryError, match="has no table gone"):
        read(DatabaseReader(uri), contract("gone"))


BEFORE = [(1, "a", 10), (2, "b", 20), (3, "c", 30)]
READ = {
    "merge, cursor": (("merge", "id", "at"), 2, [(1, "a"), (2, "b"), (3, "c"), (4, "d")]),
    "append, cursor": (("append", "id", "at"), 2, [(1, "a"), (2, "b"), (3, "c"), (4, "d")]),
    "merge": (("merge", "id", None), 3, [(1, "a"), (2, "B"), (3, "c"), (4, "d")]),
    "replace": (("replace", "id", None), 3, [(2, "B"), (3, "c"), (4, "d")]),
    "replace, cursor": (("replace", "id", "at"), 3, [(2, "B"), (3, "c"), (4, "d")]),
    "replace_unit": (("replace_unit", None, None), 3, [(2, "B"), (3, "c"), (4, "d")]),
}
"""By disposition, key and cursor: the rows that a second load reads, and what is there after it, when row 1 was
deleted, row 2 changed without a new cursor, and row 4 came."""


@pytest.mark.parametrize("how", READ)
def test_what_a_load_reads(shop: Shop, sqlite: Sqlite, how: str) -> None:
    (disposition, key, cursor), again, after = READ[how]
    uri, run = sqlite
    run("create table t (id integer primary key, name text, at integer)")
    for row in BEFORE:
        run("insert into t values (?, ?, ?)", *row)
    columns = {"id": pa.int64(), "name": pa.string(), "at": pa.int64()}
    table = contract("t", key, columns=columns, disposition=disposition, cursor=cursor)
    assert shop.load(DatabaseReader(uri), table).rows_read == 3
    run("delete from t where id = 1")
    run("update t set name = 'B' where id = 2")
    run("insert into t values (4, 'd', 40)")
    assert shop.load(DatabaseReader(uri), table).rows_read == again
    assert shop.rows("select id, name from raw_shop.t order by 1") == after
    run("insert into t values (5, 'late', 5)")
    shop.load(DatabaseReader(uri), table)
    found = {(2, "B"), (5, "late")}
    seen = shop.rows("select id, name from raw_shop.t")
    assert (found & set(seen) == set()) is (cursor is not None and disposition != "replace")
    shop.load(DatabaseReader(uri), table, full_refresh=True)
    seen = shop.rows("select id, name from raw_shop.t")
    assert found & set(seen) == (found if disposition != "append" else {(5, "late")})
