"""A MariaDB source: its own kinds of values, cursors, snapshots that several readers share, and its end in mid-read."""
# ruff: noqa: DTZ001 - times without a zone are what is tested

from __future__ import annotations

import threading
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from granary.readers.database import DatabaseReader, describe
from granary.readers.database.connecting import Database
from granary.scaffold.inspection import inspect_source
from granary.warehouse.errors import GranaryError
from tests.python.engine.databases.conftest import INSTANT, contract, read, read_amid

if TYPE_CHECKING:
    from tests.python.engine.databases.conftest import Shop
    from tests.python.support.mariadb import MariaDB

UTC = timezone.utc
BIG = 60_000
ACCOUNTS = contract("accounts", columns={"id": pa.int64(), "cents": pa.int64()})


def accounts(maria: MariaDB) -> None:
    maria.run(
        # Wide enough that no socket takes in the whole table at once.
        "create table accounts (id int primary key, cents bigint not null, pad char(250) not null default 'x')",
        f"insert into accounts select seq, 100, repeat('x', 250) from seq_1_to_{BIG}",
    )


def test_describe(maria: MariaDB) -> None:
    maria.run(
        "create table orders (id bigint unsigned auto_increment primary key, paid tinyint(1) not null, n int unsigned,"
        " total decimal(12,2), mood enum('sad', 'ok'), doc json, day date,"
        " stamp timestamp default current_timestamp on update current_timestamp, updated datetime)",
        "create view recent as select id from orders",
    )
    orders, recent = describe(maria.uri)
    assert (orders.location, orders.key, orders.cursors) == ("orders", ("id",), ("stamp", "updated"))
    assert {c.name: c.type for c in orders.columns} == {
        "id": pa.decimal128(20, 0),
        "paid": pa.bool_(),
        "n": pa.int64(),
        "total": pa.decimal128(12, 2),
        "mood": pa.string(),
        "doc": pa.string(),
        "day": pa.date32(),
        "stamp": INSTANT,
        "updated": pa.timestamp("us"),
    }
    assert [c.name for c in orders.columns if not c.nullable] == ["id", "paid"]
    assert (orders.rows, recent.rows, recent.is_view) == (0, None, True)
    assert [shape.name for shape in describe(maria.uri, "shop")] == ["orders", "recent"]


def test_keys_that_are_equal_there_and_rights_that_are_missing_are_told(maria: MariaDB) -> None:
    maria.run(
        "create table codes (code varchar(9) collate utf8mb4_general_ci primary key, n int)",
        "create table exact (code varchar(9) collate utf8mb4_bin primary key, n int)",
        "insert into codes values ('a', 1)",
        "insert into exact values ('a', 1), ('A', 2)",
        "create user if not exists narrow@'%' identified by 'narrow'",
        "grant select on shop.codes to narrow@'%'",
    )
    planned = inspect_source("shop", maria.uri)
    assert [note for note in planned.notes if "compared by" in note] == [
        "codes: code is compared by utf8mb4_general_ci: keys that differ only in case or accents are one row there and"
        " two here, so that a key whose case is changed is a new row, and joins by it miss what they match there"
    ]
    assert planned.skipped == ()
    narrow = inspect_source("shop", f"mysql://narrow:narrow@127.0.0.1:{maria.port}/shop")
    assert [table.name for table in narrow.tables] == ["codes"]
    assert narrow.skipped == ("what the server hides: the login may not read it: grant select on `shop`.* to narrow@%",)


def test_values_land_exactly(shop: Shop, maria: MariaDB) -> None:
    maria.run(
        "create table things (id int primary key, big bigint unsigned, d decimal(12,2), flag tinyint(1), bits bit(9),"
        " doc json, mood enum('sad', 'ok'), tags set('a', 'b'), took time, at timestamp, wall datetime(6), day date,"
        " raw varbinary(9), t text, y year) character set utf8mb4",
        "set time_zone = '+02:00'",
        "insert into things values (1, 18446744073709551615, 0.10, 1, b'100000001', '{\"a\": 1}', 'ok', 'b,a',"
        " '-30:05:00',"
        " '2017-01-02 03:04:05', '2017-01-02 03:04:05.678', '2017-01-02', x'00ff', '\U0001f34e', 2017)",
    )
    columns = {
        "id": pa.int64(),
        "big": pa.decimal128(20, 0),
        "d": pa.decimal128(12, 2),
        "flag": pa.bool_(),
        "bits": pa.int64(),
        **dict.fromkeys(("doc", "mood", "tags", "took"), pa.string()),
        "at": INSTANT,
        "wall": pa.timestamp("us"),
        "day": pa.date32(),
        "raw": pa.binary(),
        "t": pa.string(),
        "y": pa.int64(),
    }
    shop.load(DatabaseReader(maria.uri), contract("shop.things", columns=columns))
    [row] = shop.rows(f"select {', '.join(columns)} from raw_shop.things")
    assert [str(value) for value in row[:3]] == ["1", "18446744073709551615", "0.10"]
    assert row[3:] == (
        True,
        257,
        '{"a": 1}',
        "ok",
        "a,b",
        "-30:05:00",
        datetime(2017, 1, 2, 1, 4, 5, tzinfo=UTC),
        datetime(2017, 1, 2, 3, 4, 5, 678000),
        date(2017, 1, 2),
        b"\x00\xff",
        "\U0001f34e",
        2017,
    )


def test_floats_bits_and_places_land_exactly(shop: Shop, maria: MariaDB, recwarn: pytest.WarningsRecorder) -> None:
    maria.run(
        "create table odd (id int primary key, f float, g float, b bit(64), h bit(63), p point, a inet6)",
        "insert into odd values (1, 1234567.875, 1.1, 0xffffffffffffffff, 0x7fffffffffffffff, point(1, 2), '::1'),"
        " (2, 16777217, -0.0, 0, 0, null, null), (3, null, 3.40282e38, null, null, null, null)",
    )
    [odd] = describe(maria.uri)
    types = {column.name: column.type for column in odd.columns}
    assert types == {
        "id": pa.int32(),
        "f": pa.float64(),
        "g": pa.float64(),
        "b": pa.decimal128(20, 0),
        "h": pa.int64(),
        "p": pa.binary(),
        "a": pa.string(),
    }
    shop.load(DatabaseReader(maria.uri), contract("odd", columns=types))
    place = bytes.fromhex("000000000101000000000000000000f03f0000000000000040")
    assert shop.rows("select f, g, b::text, h, p, a from raw_shop.odd order by id") == [
        (1234567.9, 1.1, "18446744073709551615", 9223372036854775807, place, "::1"),
        (16777216.0, 0.0, "0", 0, None, None),  # what a float of 32 bits holds
        (None, 3.40282e38, None, None, None, None),
    ]
    assert not [warned for warned in recwarn if "Did not recognize" in str(warned.message)]


def test_a_value_that_no_contract_holds_refuses_its_row_alone(shop: Shop, maria: MariaDB) -> None:
    maria.run(
        "create table odd (id int primary key, big bigint unsigned, day date, at datetime, flag tinyint(1), t text)",
        "set sql_mode = ''",
        "insert into odd values (1, 9223372036854775807, '2017-01-02', '2017-01-02', 0, 'a'),"
        " (2, 9223372036854775808, null, null, null, null), (3, null, '0000-00-00', null, null, null),"
        " (4, null, null, '0000-00-00 00:00:00', null, null), (5, null, '2017-02-00', null, null, null),"
        " (6, null, null, null, 2, null), (7, null, null, null, null, 'nu\\0l')",
    )
    columns = {
        "id": pa.int64(),
        "big": pa.int64(),
        "day": pa.date32(),
        "at": pa.timestamp("us"),
        "flag": pa.bool_(),
        "t": pa.string(),
    }
    table = contract("odd", columns=columns)
    result = shop.load(DatabaseReader(maria.uri), table)
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (7, 1, 6)
    assert shop.rows("select (payload ->> 'id')::int, column_name, reason from ops.quarantine order by 1") == [
        (2, "big", "does not fit into 64 bits"),
        (3, "day", "is the zero date"),
        (4, "at", "is the zero date"),
        (5, "day", "is not a date or time"),
        (6, "flag", "is neither 0 nor 1"),
        (7, "t", "holds a NUL character"),
    ]
    assert shop.load(DatabaseReader(maria.uri, zero_dates="null"), table).rows_quarantined == 4


def test_the_overlap_picks_up_what_was_committed_late(shop: Shop, maria: MariaDB) -> None:
    maria.run(
        "create table t (id int primary key, at timestamp not null)",
        "set time_zone = '+00:00'",
        "insert into t values (1, '2017-01-02 12:00:00')",
    )
    table = contract("t", columns={"id": pa.int64(), "at": INSTANT}, cursor="at")
    reader = DatabaseReader(maria.uri, overlap=timedelta(minutes=10))
    with closing(maria.connect()) as slow, slow.cursor() as cursor:
        slow.begin()
        cursor.execute("set time_zone = '+00:00'")
        cursor.execute("insert into t values (2, '2017-01-02 12:01:00')")
        maria.run("set time_zone = '+00:00'", "insert into t values (3, '2017-01-02 12:05:00')")
        assert shop.load(reader, table).watermark_after == "2017-01-02T12:05:00+00:00"
        slow.commit()
    assert shop.load(DatabaseReader(maria.uri), table).rows_read == 1
    assert shop.load(reader, table).rows_read == 3
    assert shop.rows("select id from raw_shop.t order by 1") == [(1,), (2,), (3,)]
    assert shop.load(reader, table).status == "unchanged"


def test_parallel_readers_see_one_state_while_others_write(maria: MariaDB, caplog: pytest.LogCaptureFixture) -> None:
    accounts(maria)
    moves: list[int] = []

    def write(done: threading.Event) -> None:
        with closing(maria.connect()) as connection, connection.cursor() as cursor:
            while not done.is_set():
                n = len(moves)
                a, b = n * 7919 % BIG + 1, BIG - n * 6101 % BIG
                connection.begin()
                cursor.execute(f"update accounts set cents = cents - 1 where id = {a}")
                cursor.execute(f"update accounts set cents = cents + 1 where id = {b}")
                cursor.execute(f"insert into accounts values ({BIG + n + 1}, 100, default)")
                connection.commit()
                moves.append(n)

    before, found = read_amid(moves, write, lambda: read(DatabaseReader(maria.uri, parallel=4), ACCOUNTS))
    ids = found.column("id").to_pylist()
    assert sorted(ids) == list(range(1, len(ids) + 1))
    assert before + BIG <= len(ids) <= BIG + len(moves)
    assert pc.sum(found.column("cents")).as_py() == 100 * len(ids)
    assert not caplog.records


def test_parallel_falls_back_where_no_state_can_be_shared(
    maria: MariaDB, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts(maria)
    reader = DatabaseReader(maria.uri, parallel=4)
    maria.run(
        "create table plain (id int primary key, cents bigint) engine = MyISAM", "insert into plain values (1, 2)"
    )
    table = contract("plain", columns={"id": pa.int64(), "cents": pa.int64()})
    assert read(reader, table).num_rows == 1
    assert "its storage engine MyISAM keeps no snapshots; one reader does it alone" in caplog.text
    monkeypatch.setattr("granary.readers.database.snapshot.LOCK_SECONDS", 1)
    with closing(maria.connect()) as busy, busy.cursor() as cursor:
        busy.begin()
        cursor.execute("update accounts set cents = 0 where id = 1")
        assert pc.sum(read(reader, ACCOUNTS).column("cents")).as_py() == 100 * BIG
    assert "Lock wait timeout exceeded" in caplog.text
    maria.run("revoke lock tables on shop.* from 'reader'@'%'")
    try:
        assert read(reader, ACCOUNTS).num_rows == BIG
    finally:
        maria.run("grant lock tables on shop.* to 'reader'@'%'")
    assert "Access denied for user 'reader'" in caplog.text


def test_the_session_can_only_read(maria: MariaDB) -> None:
    maria.run(
        "create table t (id int)",
        "create function spy() returns int modifies sql data begin insert into t values (1); return 1; end",
        "create sql security definer view v as select 1 as id, spy() as name",
    )
    with pytest.raises(GranaryError, match="Cannot execute statement in a READ ONLY transaction"):
        read(DatabaseReader(maria.uri), contract("v", columns={"id": pa.int64(), "name": pa.int64()}))


def test_a_statement_has_its_time(maria: MariaDB) -> None:
    maria.run("create view v as select 1 as id, sleep(30) as name")
    with pytest.raises(GranaryError, match="max_statement_time exceeded"):
        read(
            DatabaseReader(maria.uri, timeout=timedelta(seconds=1)),
            contract("v", columns={"id": pa.int64(), "name": pa.int64()}),
        )


def test_the_server_waits_an_hour_for_a_loader_that_takes_nothing(maria: MariaDB) -> None:
    """Else it cuts off, after 60 s, a loader that waits for its warehouse."""
    database = Database(maria.uri, timedelta(hours=6))
    with database.session(database.engine(), "shop") as session:
        ((seconds,),) = session.exec_driver_sql("select @@session.net_write_timeout").fetchall()
    assert (seconds, maria.run("select @@global.net_write_timeout")) == (3600, [(60,)])


def test_a_view_needs_another_privilege_than_a_table(maria: MariaDB) -> None:
    maria.run("create table t (id int primary key, name text)", "insert into t values (1, 'a')")
    maria.run("create view v as select * from t")
    maria.run("revoke show view on shop.* from 'reader'@'%'")
    try:
        assert read(DatabaseReader(maria.uri), contract("t")).to_pylist() == [{"id": 1, "name": "a"}]
        with pytest.raises(GranaryError, match="SHOW VIEW"):
            read(DatabaseReader(maria.uri), contract("v"))
    finally:
        maria.run("grant show view on shop.* to 'reader'@'%'")
    assert read(DatabaseReader(maria.uri), contract("v")).to_pylist() == [{"id": 1, "name": "a"}]


@pytest.mark.parametrize("readers", [1, 3])
def test_leaving_early_ends_threads_and_connections(maria: MariaDB, readers: int) -> None:
    accounts(maria)
    threads = threading.active_count()
    reader = DatabaseReader(maria.uri, parallel=readers)
    [unit] = reader.units(ACCOUNTS, None)
    reading = reader.read(ACCOUNTS, unit, None)
    next(reading)
    assert len(maria.readers()) == readers
    reading.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    while maria.readers():
        pass


@pytest.mark.parametrize("readers", [1, 3])
def test_a_source_killed_in_mid_read_gives_one_error_and_nothing_lands(
    shop: Shop, maria: MariaDB, readers: int
) -> None:
    accounts(maria)
    threads = threading.active_count()

    def kill(_: object) -> None:
        for number in maria.readers():
            maria.run(f"kill hard connection {number}")

    with pytest.raises(GranaryError, match="the source database stopped answering: ") as error:
        shop.load(DatabaseReader(maria.uri, parallel=readers), ACCOUNTS, progress=kill)
    assert str(error.value).count("stopped answering") == 1
    assert shop.rows("select to_regclass('raw_shop.accounts')::text") == [(None,)]
    assert threading.active_count() == threads
    assert shop.load(DatabaseReader(maria.uri, parallel=readers), ACCOUNTS).rows_loaded == BIG


def test_wrong_password_and_missing_table(maria: MariaDB) -> None:
    with pytest.raises(GranaryError, match="cannot connect to the source database: Access denied") as caught:
        read(DatabaseReader(maria.uri.replace("reader:", "reader:wrong")), ACCOUNTS)
    assert maria.reader not in str(caught.value)
    with pytest.raises(GranaryError, match="the source database has no table `accounts`"):
        read(DatabaseReader(maria.uri), ACCOUNTS)


def test_a_table_that_cannot_be_read_keeps_no_other_out(maria: MariaDB) -> None:
    maria.run(
        "create table good (id int primary key)",
        "insert into good values (1)",
        "create table odd (id int primary key, `a``b` int)",
        "insert into odd values (1, 2)",
    )
    planned = inspect_source("shop", maria.uri)
    assert [table.name for table in planned.tables] == ["good"]
    (said,) = planned.skipped
    assert said.startswith("odd: ")
    with pytest.raises(GranaryError):
        inspect_source("shop", maria.uri, only=("odd",))
    maria.run("drop table good")
    with pytest.raises(GranaryError):
        inspect_source("shop", maria.uri)
