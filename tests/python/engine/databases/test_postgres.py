"""A Postgres source: values, cursors, and one state of a table whoever reads and writes it."""
# ruff: noqa: DTZ001 - times without a zone are what is tested

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from granary.readers.database import DatabaseReader, describe
from granary.sources.spec import Column
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.databases.conftest import INSTANT, contract, read, read_amid, source_batches

if TYPE_CHECKING:
    from tests.python.engine.databases.conftest import Postgres, Shop

UTC = timezone.utc


def test_describe(postgres: Postgres) -> None:
    postgres.run("create schema sales")
    postgres.run(
        "create table sales.orders (shop int, id bigint, total numeric(12,2), note text, created_at timestamptz,"
        " last_modified timestamptz not null, modified_date date, tags text[], primary key (id, shop))"
    )
    postgres.run("comment on table sales.orders is 'What was ordered'")
    postgres.run("create domain cents as numeric(9,0)")
    postgres.run("create table parts (id int, c cents) partition by range (id)")
    postgres.run("create table parts_1 partition of parts for values from (1) to (10)")
    postgres.run("insert into parts select n, n from generate_series(1, 9) as n")
    postgres.run("analyze parts")
    postgres.run("create view recent as select id from sales.orders")
    parts, recent, orders = describe(postgres.uri)
    assert (parts.location, parts.rows, parts.key, parts.columns[1].type) == (
        "public.parts",
        9,
        (),
        pa.decimal128(9, 0),
    )
    assert (recent.location, recent.is_view, recent.rows) == ("public.recent", True, None)
    assert (orders.location, orders.key, orders.comment) == ("sales.orders", ("id", "shop"), "What was ordered")
    assert orders.cursors == ("last_modified", "modified_date")
    assert {c.name: (c.type, c.nullable) for c in orders.columns} == {
        "shop": (pa.int32(), False),
        "id": (pa.int64(), False),
        "total": (pa.decimal128(12, 2), True),
        "note": (pa.string(), True),
        "created_at": (INSTANT, True),
        "last_modified": (INSTANT, False),
        "modified_date": (pa.date32(), True),
        "tags": (pa.string(), True),
    }
    assert [shape.name for shape in describe(postgres.uri, "sales")] == ["orders"]


def test_values_land_exactly(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create type mood as enum ('sad', 'ok')")
    postgres.run("create domain cents as numeric(9,2)")
    postgres.run(
        "create table things (id int, d numeric(12,2), free numeric, whole numeric, dom cents, u uuid, j jsonb,"
        " a int[], m mood, t time, tz timestamptz(3), w timestamp, day date, b bytea, f real, flag boolean, c char(3))"
    )
    postgres.run(
        "insert into things values (1, 0.10, 12345678901234567890.123456789, 7, 1.5,"
        " '00000000-0000-0000-0000-000000000001', '{\"a\": [1, null]}', '{1,null}', 'ok', '10:00',"
        " '2017-01-02 03:04:05.678+02', '2017-01-02 03:04', '2017-01-02', '\\x00ff', 0.5, true, 'ab')"
    )
    columns = {
        "id": pa.int64(),
        "d": pa.decimal128(12, 2),
        "free": pa.decimal128(38, 9),
        "whole": pa.int64(),
        "dom": pa.decimal128(12, 2),
        **dict.fromkeys(("u", "j", "a", "m", "t"), pa.string()),
        "tz": INSTANT,
        "w": pa.timestamp("us"),
        "day": pa.date32(),
        "b": pa.binary(),
        "f": pa.float64(),
        "flag": pa.bool_(),
        "c": pa.string(),
    }
    shop.load(DatabaseReader(postgres.uri), contract("public.things", columns=columns))
    [row] = shop.rows(f"select {', '.join(columns)} from raw_shop.things")
    assert [str(value) for value in row[1:5]] == ["0.10", "12345678901234567890.123456789", "7", "1.50"]
    assert row[5:] == (
        "00000000-0000-0000-0000-000000000001",
        '{"a": [1, null]}',
        "{1,NULL}",
        "ok",
        "10:00:00",
        datetime(2017, 1, 2, 1, 4, 5, 678000, tzinfo=UTC),
        datetime(2017, 1, 2, 3, 4),
        date(2017, 1, 2),
        b"\x00\xff",
        0.5,
        True,
        "ab ",
    )


def test_a_value_that_no_contract_holds_refuses_its_row_alone(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table odd (id int, n numeric, at timestamptz, day date)")
    postgres.run(
        "insert into odd values (1, 1, '2017-01-02Z', '2017-01-02'), (2, 'NaN', null, null), (3, 1.005, null, null),"
        " (4, 1, 'infinity', null), (5, 1, '-infinity', null), (6, 1, null, '0044-03-15 BC'), (7, 1, null, 'infinity'),"
        " (8, 1, '12345-01-01Z', null), (9, 2.50, '9999-12-31 23:59:59Z', '0001-01-01')"
    )
    columns = {"id": pa.int64(), "n": pa.decimal128(12, 2), "at": INSTANT, "day": pa.date32()}
    result = shop.load(DatabaseReader(postgres.uri), contract("odd", columns=columns))
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (9, 2, 7)
    assert shop.rows("select id, n::text, at::text, day::text from raw_shop.odd order by id") == [
        (1, "1.00", "2017-01-02 00:00:00+00", "2017-01-02"),
        (9, "2.50", "9999-12-31 23:59:59+00", "0001-01-01"),
    ]
    assert shop.rows(
        "select (payload ->> 'id')::int, column_name, reason, payload ->> column_name from ops.quarantine order by 1"
    ) == [
        (2, "n", "is not a valid decimal128(12, 2)", "NaN"),
        (3, "n", "is not a valid decimal128(12, 2)", "1.005"),
        (4, "at", "is outside of the years 1 to 9999", "infinity"),
        (5, "at", "is outside of the years 1 to 9999", "-infinity"),
        (6, "day", "is outside of the years 1 to 9999", "-735160 days from 1970"),
        (7, "day", "is outside of the years 1 to 9999", "infinity"),
        (8, "at", "is outside of the years 1 to 9999", "327403382400000000 microseconds from 1970"),
    ]


def test_new_columns_land_and_ignored_ones_are_not_even_read(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, name text, extra numeric, pair point)")
    postgres.run("insert into t values (1, 'a', 1.25, '(1,2)')")
    reader = DatabaseReader(postgres.uri)
    assert read(reader, contract("t", new_columns="ignore")).column_names == ["id", "name"]
    shop.load(reader, contract("t"))
    assert shop.rows("select extra, pair from raw_shop.t") == [("1.25", "(1,2)")]


def test_a_renamed_cursor_is_found_by_its_alias(shop: Shop, postgres: Postgres) -> None:
    postgres.run('create table t (id int, "Changed On" timestamptz)')
    postgres.run("insert into t values (1, '2017-01-01Z'), (2, '2017-01-02Z')")
    columns = {"id": pa.int64(), "c": Column("changed_on", INSTANT, "Change.", aliases=("Changed On",))}
    table = contract("t", columns=columns, cursor="changed_on")
    reader = DatabaseReader(postgres.uri)
    assert shop.load(reader, table).watermark_after == "2017-01-02T00:00:00+00:00"
    assert shop.load(reader, table).rows_read == 1


def test_integers_and_dates_are_cursors_too(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, version bigint not null, day date not null)")
    postgres.run("insert into t select n, n * 10, date '2017-01-01' + n from generate_series(1, 9) as n")
    columns = {"id": pa.int64(), "version": pa.int64(), "day": pa.date32()}
    versions = contract("t", columns=columns, cursor="version", name="versions")
    reader = DatabaseReader(postgres.uri, overlap=timedelta(days=2), overlap_number=20)
    assert shop.load(reader, versions).watermark_after == "90"
    assert shop.load(reader, versions).rows_read == 3  # 70, 80 and 90
    days = contract("t", columns=columns, cursor="day", name="days")
    assert shop.load(reader, days).watermark_after == "2017-01-10"
    assert shop.load(reader, days).rows_read == 3


def test_the_overlap_picks_up_what_was_committed_late(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int primary key, at timestamptz not null)")
    postgres.run("insert into t values (1, '2017-01-02 12:00Z')")
    table = contract("t", columns={"id": pa.int64(), "at": INSTANT}, cursor="at")
    with connect(postgres.settings, postgres.name) as slow:
        execute(slow, "insert into t values (2, '2017-01-02 12:01Z')")
        postgres.run("insert into t values (3, '2017-01-02 12:05Z')")
        with_overlap = DatabaseReader(postgres.uri, overlap=timedelta(minutes=10))
        assert shop.load(with_overlap, table).rows_loaded == 2
        slow.commit()
    # Without an overlap the row is behind the watermark for ever; that is what the overlap is for.
    assert shop.load(DatabaseReader(postgres.uri), table).rows_read == 1
    assert shop.rows("select id from raw_shop.t order by 1") == [(1,), (3,)]
    again = shop.load(with_overlap, table)
    assert (again.rows_read, again.watermark_after) == (3, "2017-01-02T12:05:00+00:00")
    assert shop.rows("select id, _load_id from raw_shop.t order by 1")[1] == (2, again.load_ids[0])
    assert shop.load(with_overlap, table).status == "unchanged"


def test_a_time_in_the_future_does_not_carry_the_watermark_away(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, at timestamptz)")
    postgres.run("insert into t values (1, '2017-01-01Z'), (2, '9999-12-31Z'), (3, '2017-01-02Z'), (4, 'infinity')")
    table = contract("t", columns={"id": pa.int64(), "at": INSTANT}, cursor="at")
    result = shop.load(DatabaseReader(postgres.uri), table)
    assert (result.rows_loaded, result.rows_quarantined) == (2, 2)
    assert result.watermark_after == "2017-01-02T00:00:00+00:00"
    assert shop.rows("select row_number, column_name, reason from ops.quarantine order by 1") == [
        (2, "at", "lies in the future"),
        (4, "at", "is outside of the years 1 to 9999"),
    ]
    postgres.run("update t set at = '2017-01-03Z' where id = 2")
    assert shop.load(DatabaseReader(postgres.uri), table).rows_loaded == 2


def test_rows_without_a_time_of_change_are_read_each_time(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, at timestamptz)")
    postgres.run("insert into t values (1, '2017-01-01Z'), (2, '2017-01-02Z'), (3, null)")
    table = contract("t", columns={"id": pa.int64(), "at": INSTANT}, cursor="at")
    assert shop.load(DatabaseReader(postgres.uri), table).rows_loaded == 3
    assert shop.load(DatabaseReader(postgres.uri), table).rows_read == 2


def test_local_times_become_instants(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, at timestamp)")
    postgres.run(
        "insert into t values (1, '2017-01-02 19:00'), (2, '2017-11-05 01:30'), (3, '2017-03-12 02:30'), (4, null),"
        " (5, 'infinity'), (6, '2017-12-01 00:00')"
    )
    table = contract("t", columns={"id": pa.int64(), "at": INSTANT}, cursor="at")
    with pytest.raises(GranaryError, match="column at is retyped"):
        shop.load(DatabaseReader(postgres.uri), table)
    reader = DatabaseReader(postgres.uri, zone="America/New_York")
    result = shop.load(reader, table)
    assert (result.rows_loaded, result.rows_quarantined) == (3, 3)
    assert result.watermark_after == "2017-12-01T05:00:00+00:00"
    assert shop.rows("select id, at::text from raw_shop.t order by 1") == [
        (1, "2017-01-03 00:00:00+00"),
        (4, None),
        (6, "2017-12-01 05:00:00+00"),
    ]
    assert shop.load(reader, table).rows_read == 3  # 4, 5 and 6


def test_a_table_without_a_key_is_replaced_whole(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, name text)")
    postgres.run("insert into t values (1, 'a'), (1, 'a'), (2, 'b')")
    table = contract("t", key=None)
    reader = DatabaseReader(postgres.uri)
    assert shop.load(reader, table).rows_loaded == 3
    postgres.run("delete from t where id = 2")
    assert shop.load(reader, table).rows_loaded == 2
    assert shop.rows("select id, count(*) from raw_shop.t group by 1") == [(1, 2)]


def test_what_would_store_rows_twice_is_refused(postgres: Postgres) -> None:
    reader = DatabaseReader(postgres.uri)
    with pytest.raises(GranaryError, match="without a key they would be stored as often"):
        reader.units(contract("t", key=None, disposition="append"), None)
    with pytest.raises(GranaryError, match="a cursor needs a disposition that keeps the rows before it"):
        reader.units(contract("t", key=None, cursor="id"), None)


def test_the_session_can_only_read(postgres: Postgres) -> None:
    postgres.run("create table t (id int, name text)")
    postgres.run("create function spy() returns text language sql as 'insert into t values (1) returning name'")
    postgres.run("create view v as select 1 as id, spy() as name")
    with pytest.raises(GranaryError, match="cannot execute INSERT in a read-only transaction"):
        read(DatabaseReader(postgres.uri), contract("v"))


def test_a_statement_has_its_time(postgres: Postgres) -> None:
    postgres.run("create view v as select 1 as id, pg_sleep(30)::text as name")
    with pytest.raises(GranaryError, match="canceling statement due to statement timeout"):
        read(DatabaseReader(postgres.uri, timeout=timedelta(milliseconds=100)), contract("v"))


def test_hostile_names(shop: Shop, postgres: Postgres) -> None:
    name = 'x"; drop table y; --'
    quoted = '"' + name.replace('"', '""') + '"'
    postgres.run("create table y (id int)")
    postgres.run(f"create table {quoted} (id int, {quoted} text)")
    postgres.run(f"insert into {quoted} values (1, 'a')")
    table = contract(name, name="odd", columns={"id": pa.int64()})
    shop.load(DatabaseReader(postgres.uri), table)
    assert shop.rows(f"select id, {quoted} from raw_shop.odd") == [(1, "a")]
    assert postgres.run("select count(*) from y") == [(0,)]


BIG = 300_000


def _accounts(postgres: Postgres) -> None:
    """Make accounts that together hold 100 each, whatever is moved between them."""
    postgres.run("create table accounts (id int primary key, cents bigint not null)")
    postgres.run(f"insert into accounts select n, 100 from generate_series(1, {BIG}) as n")


def test_parallel_readers_see_one_state_while_others_write(postgres: Postgres) -> None:
    _accounts(postgres)
    moves: list[int] = []

    def write(done: threading.Event) -> None:
        with connect(postgres.settings, postgres.name, autocommit=True) as connection:
            while not done.is_set():
                n = len(moves)
                a, b = n * 7919 % BIG + 1, BIG - n * 6101 % BIG
                execute(
                    connection,
                    f"with moved as (update accounts set cents = cents + case id when {a} then -1 else 1 end"
                    f" where id in ({a}, {b}) and {a} <> {b}) insert into accounts values ({BIG + n + 1}, 100)",
                )
                moves.append(n)

    table = contract("accounts", columns={"id": pa.int64(), "cents": pa.int64()})
    before, found = read_amid(moves, write, lambda: read(DatabaseReader(postgres.uri, parallel=4), table))
    ids = found.column("id").to_pylist()
    # Each move adds an account of 100 and keeps the sum: a mixture of states would have a gap or another sum.
    assert sorted(ids) == list(range(1, len(ids) + 1))
    assert before + BIG <= len(ids) <= BIG + len(moves)
    assert pc.sum(found.column("cents")).as_py() == 100 * len(ids)


def test_parallel_loads_what_one_reader_loads(shop: Shop, postgres: Postgres) -> None:
    _accounts(postgres)
    postgres.run("insert into accounts values (2000000000, 7), (-5, 7)")
    columns = {"id": pa.int64(), "cents": pa.int64()}
    alone = shop.load(DatabaseReader(postgres.uri), contract("accounts", name="one", columns=columns))
    four = shop.load(DatabaseReader(postgres.uri, parallel=4), contract("accounts", name="four", columns=columns))
    assert alone.rows_loaded == four.rows_loaded == BIG + 2
    assert shop.rows(
        "select count(*) from (select id, cents from raw_shop.one except select id, cents from raw_shop.four) as d"
    ) == [(0,)]


def sessions(postgres: Postgres) -> int:
    return int(str(postgres.run(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )[0][0]))  # fmt: skip


def test_leaving_early_ends_threads_and_connections(postgres: Postgres) -> None:
    _accounts(postgres)
    table = contract("accounts", columns={"id": pa.int64(), "cents": pa.int64()})
    reader = DatabaseReader(postgres.uri, parallel=3)
    threads = threading.active_count()
    [unit] = reader.units(table, None)
    reading = reader.read(table, unit, None)
    next(reading)
    assert sessions(postgres) == 3
    reading.close()
    assert threading.active_count() == threads
    while sessions(postgres):
        pass


def test_a_source_killed_in_mid_read_gives_one_error_and_nothing_lands(shop: Shop, postgres: Postgres) -> None:
    _accounts(postgres)
    threads = threading.active_count()

    def kill(_: object) -> None:
        postgres.run(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    table = contract("accounts", columns={"id": pa.int64(), "cents": pa.int64()})
    reader = DatabaseReader(postgres.uri, parallel=3)
    with pytest.raises(GranaryError, match=r"the source database stopped answering: .*; nothing of this load") as error:
        shop.load(reader, table, progress=kill)
    assert str(error.value).count("stopped answering") == 1
    assert shop.rows("select to_regclass('raw_shop.accounts')::text") == [(None,)]
    assert threading.active_count() == threads
    assert shop.load(reader, table).rows_loaded == BIG


def test_an_empty_table_is_no_error(shop: Shop, postgres: Postgres) -> None:
    postgres.run("create table t (id int, name text)")
    assert shop.load(DatabaseReader(postgres.uri, parallel=2), contract("t")).rows_loaded == 0
    assert [
        source_batch.batch.num_rows for source_batch in source_batches(DatabaseReader(postgres.uri), contract("t"))
    ] == [0]


def test_a_table_that_is_gone_or_forbidden_is_said_to_be(postgres: Postgres) -> None:
    postgres.run("create table secret (id int primary key, name text)")
    with pytest.raises(GranaryError, match=r'has no table: .*"gone" does not exist.* check the table\'s location'):
        read(DatabaseReader(postgres.uri), contract("gone"))
    other = f"{postgres.uri}{'&' if '?' in postgres.uri else '?'}options=-crole%3Dpg_monitor"
    with pytest.raises(GranaryError, match=r"refuses: .*permission denied for table secret") as refused:
        read(DatabaseReader(other), contract("secret"))
    assert refused.value.todo == (
        'have its owner run `grant select on "secret" to` our login there; nothing of this load has landed'
    )
    postgres.run("create schema hidden")
    postgres.run("create table hidden.t (id int primary key, name text)")
    with pytest.raises(GranaryError, match=r"refuses: .*permission denied for schema hidden") as refused:
        read(DatabaseReader(other), contract("hidden.t"))
    assert refused.value.todo == (
        'have its owner run `grant usage on schema "hidden" to` our login there; nothing of this load has landed'
    )
