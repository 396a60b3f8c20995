"""Contracts and how they evolve: new, missing, renamed, wider and narrower columns, nulls, ranges, enumerations."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load.api import load_table
from granary.sources.spec import Column
from granary.sources.units import SourceBatch, StillWrittenError, UnreadableError
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Load = Callable[[Table], LoadResult]

CHANGES = "select column_name, change, detail from ops.schema_changes order by change_id"
TYPE = (
    "select format_type(atttypid, atttypmod) from pg_attribute"
    " where attrelid = 'raw_shop.orders'::regclass and attname = $1"
)


def test_narrower_types_always_fit(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(
        Column("amount", pa.decimal128(12, 2), "Money."),
        Column("at", pa.timestamp("us"), "When."),
        Column("share", pa.float64(), "Share."),
    )
    shop.put(
        "a",
        {
            "id": pa.array([1], pa.int8()),
            "amount": pa.array([7], pa.int32()),
            "at": pa.array([date(2017, 1, 2)]),
            "share": pa.array([0.5], pa.float32()),
        },
    )
    land(contract)
    assert rows("select id, amount, at, share from raw_shop.orders") == [
        (1, Decimal("7.00"), datetime.fromisoformat("2017-01-02"), 0.5)
    ]
    assert rows(CHANGES) == []


def test_wider_type_that_fits_by_value(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(Column("pieces", pa.int32(), "Pieces."), Column("day", pa.date32(), "Day."))
    shop.put(
        "a",
        {
            "id": [1, 2, 3],
            "pieces": pa.array([5, 2**40, 6], pa.int64()),
            "day": [
                datetime.fromisoformat("2017-01-02"),
                datetime.fromisoformat("2017-01-02"),
                datetime.fromisoformat("2017-01-02T03:00"),
            ],
        },
    )
    result = land(contract)
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (3, 1, 2)
    assert rows("select id, pieces, day from raw_shop.orders") == [(1, 5, date(2017, 1, 2))]
    assert rows("select row_number, column_name, reason, payload ->> 'pieces' from ops.quarantine order by 1") == [
        (2, "pieces", "is not a valid int32", str(2**40)),
        (3, "day", "is not a valid date32[day]", "6"),
    ]
    assert [row[:2] for row in rows(CHANGES)] == [("pieces", "narrowed"), ("day", "narrowed")]


@pytest.mark.parametrize(
    ("agreed", "first", "then", "raw", "values"),
    [
        (pa.int16(), pa.array([5], pa.int16()), pa.array([70_000], pa.int32()), "bigint", [5, 70_000]),
        (pa.int32(), pa.array([5], pa.int32()), pa.array([2**40], pa.int64()), "bigint", [5, 2**40]),
        (
            pa.int64(),
            pa.array([5], pa.int64()),
            pa.array([Decimal("1.25")], pa.decimal128(5, 2)),
            "numeric(21,2)",
            [Decimal("5.00"), Decimal("1.25")],
        ),
        (
            pa.decimal128(5, 2),
            pa.array([Decimal("1.25")]).cast(pa.decimal128(5, 2)),
            pa.array([Decimal("1234567.125")], pa.decimal128(10, 3)),
            "numeric(10,3)",
            [Decimal("1.250"), Decimal("1234567.125")],
        ),
        (
            pa.float32(),
            pa.array([0.5], pa.float32()),
            pa.array([1e300], pa.float64()),
            "double precision",
            [0.5, 1e300],
        ),
        (
            pa.date32(),
            pa.array([date(2017, 1, 2)]),
            pa.array([datetime.fromisoformat("2017-01-02T03:00")]),
            "timestamp without time zone",
            [datetime.fromisoformat("2017-01-02"), datetime.fromisoformat("2017-01-02T03:00")],
        ),
    ],
)
def test_raw_column_widens(
    shop: Shop,
    land: Load,
    rows: Rows,
    agreed: pa.DataType,
    first: pa.Array,
    then: pa.Array,
    raw: str,
    values: list[Any],
) -> None:
    contract = table(Column("value", agreed, "Value."), retyped="widen")
    shop.put("a", {"id": [1], "value": first})
    land(contract)
    shop.put("b", {"id": [2], "value": then})
    result = land(contract)
    assert rows(TYPE, "value") == [(raw,)]
    assert [value for (value,) in rows("select value from raw_shop.orders order by id")] == values
    assert [(change.column, change.change) for change in result.changes] == [("value", "widened")]
    # And what comes in the narrower type later goes into the wider column.
    shop.put("c", {"id": [3], "value": first})
    assert land(contract).changes == ()
    assert rows("select count(*), count(distinct value) from raw_shop.orders") == [(3, 2)]


def test_widening_under_views_keeps_them_with_owner_grants_and_comments(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    contract = table(Column("pieces", pa.int32(), "Pieces."), retyped="widen")
    shop.put("a", {"id": [1], "pieces": pa.array([5], pa.int32())})
    land(contract)
    with connect(warehouse, role="transformer") as connection:
        for statement in (
            "create schema staging",
            "create view staging.orders as select id, pieces from raw_shop.orders",
            "create view staging.big_orders as select o.id, o.pieces * 2 as twice from staging.orders as o",
            "comment on view staging.orders is 'Orders, it''s said.'",
            "comment on column staging.orders.pieces is 'Pieces.'",
            "grant usage on schema staging to analyst",
            "grant select on staging.orders to analyst",
            "grant select (id) on staging.big_orders to analyst",
        ):
            execute(connection, statement)
        connection.commit()
    state = (
        "select c.relname::text, pg_get_userbyid(c.relowner)::text, c.relacl::text, obj_description(c.oid),"
        " (select string_agg(concat(a.attname, a.attacl::text, col_description(c.oid, a.attnum)), ','"
        " order by a.attnum)"
        " from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0)"
        " from pg_class as c where c.relnamespace = 'staging'::regnamespace order by 1"
    )
    before = rows(state)
    shop.put("b", {"id": [2], "pieces": pa.array([2**40], pa.int64())})
    land(contract)
    assert rows(state) == before
    assert rows("select twice from staging.big_orders order by id") == [(10,), (2**41,)]


def test_only_raw_tables_are_widened_and_only_so(warehouse: Settings, shop: Shop, land: Load) -> None:
    shop.put("a", {"id": [1]})
    land(table())
    with connect(warehouse, role="loader") as connection:
        for call in (
            "select ops.widen_column('ops.watermarks'::regclass, 'load_id', 'numeric(38,0)')",
            "select ops.widen_column('raw_shop.orders'::regclass, 'id', 'text')",
            "select ops.widen_column('raw_shop.orders'::regclass, 'id', 'numeric(3,0); drop table ops.watermarks')",
        ):
            with pytest.raises(Exception, match=r"cannot be widened|query returned no rows"):
                query(connection, call)
            connection.rollback()
    with connect(warehouse, role="transformer") as connection, pytest.raises(Exception, match="permission denied"):
        query(connection, "select ops.widen_column('raw_shop.orders'::regclass, 'id', 'numeric(20,0)')")


def test_contract_that_widens_a_type(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1], "pieces": pa.array([5], pa.int32())})
    land(table(Column("pieces", pa.int32(), "Pieces.")))
    shop.put("b", {"id": [2], "pieces": pa.array([2**40], pa.int64())})
    land(table(Column("pieces", pa.int64(), "Pieces."), contract=2))
    assert rows("select pieces from raw_shop.orders order by id") == [(5,), (2**40,)]
    assert rows(CHANGES) == [("pieces", "widened", "integer became bigint")]


def test_retyped_refused(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1], "pieces": pa.array([5], pa.int64())})
    with pytest.raises(GranaryError, match="column pieces is retyped: int32 was agreed, int64 came"):
        land(table(Column("pieces", pa.int32(), "Pieces."), retyped="refuse"))
    assert rows("select to_regclass('raw_shop.orders')::text") == [(None,)]


def test_two_differences_of_a_column_are_kept_once(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(Column("pieces", pa.int32(), "Pieces.", aliases=("qty",)))
    shop.put("a", {"id": [1], "qty": pa.array([5], pa.int32())})
    land(contract)
    for day, kind in enumerate([pa.int64(), pa.int64(), pa.int64()]):
        shop.put(f"b{day}", {"id": [2 + day], "qty": pa.array([6], kind)})
        land(contract)
    kept = [("pieces", "renamed"), ("pieces", "renamed"), ("pieces", "narrowed")]
    assert sorted(row[:2] for row in rows(CHANGES)) == sorted(kept)


def test_renamed_column_by_alias(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(Column("pieces", pa.int64(), "Pieces.", aliases=("Pieces sold", "qty")))
    shop.put("a", {"id": [1], "pieces": [5]})
    shop.put("b", {"id": [2], "qty": [6]})
    shop.put("c", {"id": [3], "Pieces sold": [7]})
    land(contract)
    assert rows("select id, pieces from raw_shop.orders order by id") == [(1, 5), (2, 6), (3, 7)]
    assert rows(CHANGES) == [
        ("pieces", "renamed", "delivered as qty"),
        ("pieces", "renamed", "delivered as Pieces sold"),
    ]
    shop.put("d", {"id": [4], "pieces": [8], "qty": [8]})
    with pytest.raises(GranaryError, match="column pieces is retyped: it is there twice, as pieces and as qty"):
        land(contract)


def test_missing_column_may_be_null(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(Column("note", pa.string(), "Note.", missing="null"))
    shop.put("a", {"id": [1], "note": ["x"]})
    shop.put("b", {"id": [2]})
    assert [change.change for change in land(contract).changes] == ["missing"]
    assert rows("select id, note from raw_shop.orders order by id") == [(1, "x"), (2, None)]
    with pytest.raises(ValueError, match="column note may be missing, so it has to be nullable"):
        Column("note", pa.string(), "Note.", nullable=False, missing="null")


@pytest.mark.parametrize(("policy", "columns"), [("add", ["id", "till"]), ("ignore", ["id"])])
def test_new_column(shop: Shop, land: Load, rows: Rows, policy: Any, columns: list[str]) -> None:
    shop.put("a", {"id": [1], "till": [9]})
    result = land(table(new_columns=policy))
    names = (
        "select attname::text from pg_attribute where attrelid = 'raw_shop.orders'::regclass and attnum > 0"
        " and attname !~ '^_' order by attnum"
    )
    assert [name for (name,) in rows(names)] == columns
    assert [(c.column, c.change) for c in result.changes] == [("till", "added" if policy == "add" else "ignored")]
    assert land(table(new_columns=policy)).changes == ()


def test_new_column_refused(shop: Shop, land: Load) -> None:
    shop.put("a", {"id": [1], "till": [9]})
    with pytest.raises(GranaryError, match="column till is added: int64, and the contract refuses new ones"):
        land(table(new_columns="refuse"))


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "_load_id", "line\nbreak"])
def test_new_column_with_a_name_that_no_column_can_have(shop: Shop, land: Load, name: str) -> None:
    shop.put("a", {"id": [1], name: [9]})
    with pytest.raises(GranaryError, match="no raw column can have this name"):
        land(table())


def test_new_column_that_changes_its_type_later(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1], "till": [9]})
    land(table())
    shop.put("b", {"id": [2, 3], "till": ["8", "none"]})
    result = land(table())
    assert (result.rows_loaded, result.rows_quarantined) == (1, 1)
    assert rows("select id, till from raw_shop.orders order by 1") == [(1, 9), (2, 8)]
    assert rows("select reason, payload ->> 'till' from ops.quarantine") == [("is not a valid int64", "none")]


def test_nulls_ranges_and_enumerations(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(
        Column("pieces", pa.int64(), "Pieces.", nullable=False, minimum=1, maximum=10),
        Column("kind", pa.string(), "Kind.", allowed=("a", "b")),
    )
    shop.put(
        "a", {"id": [1, 2, 3, 4, 5, 6], "pieces": [1, 0, 11, None, 5, 10], "kind": ["a", "a", "b", "b", "c", None]}
    )
    land(contract)
    assert rows("select id from raw_shop.orders order by 1") == [(1,), (6,)]
    assert rows("select row_number, column_name, reason from ops.quarantine order by 1") == [
        (2, "pieces", "is below 1"),
        (3, "pieces", "is above 10"),
        (4, "pieces", "is null"),
        (5, "kind", "is none of a, b"),
    ]


def test_text_as_received_is_parsed_row_by_row(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(
        Column("amount", pa.decimal128(12, 2), "Money."),
        Column("paid", pa.bool_(), "Paid."),
        Column("at", pa.timestamp("us", tz="UTC"), "When."),
        Column("note", pa.string(), "Note."),
    )
    batch = pa.RecordBatch.from_pydict(
        {
            "id": ["1", " 2", "x", "4", "5"],
            "amount": ["1.50", "2", "3", "4.005", ""],
            "paid": ["yes", "0", "1", "1", None],
            "at": ["2017-01-02T03:04:05Z", "2017-01-02 03:04:05+01:00", "2017-01-02T03:04:05Z", "2017-01-02Z", ""],
            "note": [" kept as is ", "", None, "", ""],
        }
    )
    shop.put("a", SourceBatch(batch, text=True, line=2))
    land(contract)
    assert rows("select id, amount, paid, at::text, note from raw_shop.orders order by 1") == [
        (1, Decimal("1.50"), True, "2017-01-02 03:04:05+00", " kept as is "),
        (2, Decimal("2.00"), False, "2017-01-02 02:04:05+00", ""),
        (5, None, None, None, ""),
    ]
    assert rows(
        "select row_number, line, column_name, reason, payload ->> 'amount' from ops.quarantine order by 1"
    ) == [
        (3, 4, "id", "is not a valid int64", "3"),
        (4, 5, "amount", "is not a valid decimal128(12, 2)", "4.005"),
    ]


def test_text_that_postgres_cannot_hold_is_refused_alone(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(Column("note", pa.string(), "Note."))
    shop.put("a", {"id": [1, 2], "note": ["good", "b\0ad"]})
    land(contract)
    assert rows("select note from raw_shop.orders") == [("good",)]
    assert rows("select column_name, reason, payload ->> 'note' from ops.quarantine") == [
        ("note", "holds a NUL character", "b\ufffdad")
    ]


def test_damaged_unit_is_quarantined_alone_and_read_again_when_it_changes(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1]})
    shop.put("b", error=UnreadableError("the file is damaged", "b", "ask"), fingerprint="bad")
    shop.put("c", {"id": [3]})
    result = land(table())
    assert (result.rows_loaded, result.units_loaded, result.units_unreadable) == (2, ("a", "c"), ("b",))
    assert rows("select unit, row_number, reason, payload ->> 'fingerprint', status from ops.quarantine") == [
        ("b", 0, "the file is damaged", "bad", "open")
    ]
    assert rows("select unit, status, error from ops.load_audit where status = 'unreadable'") == [
        ("b", "unreadable", "the file is damaged")
    ]
    shop.opened.clear()
    assert land(table()).status == "unchanged"
    assert shop.opened == []
    shop.put("b", {"id": [2]}, fingerprint="good")
    land(table())
    assert rows("select id from raw_shop.orders order by 1") == [(1,), (2,), (3,)]
    assert rows("select status from ops.quarantine") == [("superseded",)]


def test_damaged_redelivery_leaves_the_rows_of_the_earlier_one(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1]})
    shop.put("b", {"id": [2]})
    land(table())
    shop.put("a", {"id": [10]}, fingerprint="new")
    shop.put("b", error=UnreadableError("the file is damaged", "b", "ask"), fingerprint="bad")
    result = land(table())
    assert (result.rows_deleted, result.units_unreadable) == (1, ("b",))
    assert rows("select id from raw_shop.orders order by 1") == [(2,), (10,)]


def test_damaged_redelivery_that_is_taken_back_leaves_nothing_open(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1]}, fingerprint="good")
    land(table())
    shop.put("a", error=UnreadableError("the file is damaged", "a", "ask"), fingerprint="bad")
    land(table())
    land(table())
    assert rows("select status from ops.quarantine") == [("open",)]
    shop.put("a", {"id": [1]}, fingerprint="good")
    assert land(table()).status == "unchanged"
    assert rows("select status from ops.quarantine") == [("superseded",)]
    assert rows("select count(*) from ops.load_audit where status = 'unreadable' and superseded_by is null") == [(0,)]
    assert rows("select id from raw_shop.orders") == [(1,)]


def test_unit_that_is_still_written_is_left_for_the_next_load(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", {"id": [1]})
    shop.put("b", error=StillWrittenError("it changed while it was read", "b"), fingerprint="half")
    assert land(table()).units_loaded == ("a",)
    assert rows("select count(*) from ops.quarantine") == [(0,)]
    shop.put("b", {"id": [2]}, fingerprint="whole")
    assert land(table()).units_loaded == ("b",)


def test_known_version_is_not_opened_and_a_touched_unit_is_not_read(shop: Shop, land: Load, rows: Rows) -> None:
    asked: list[str] = []

    def content() -> str:
        asked.append("a")
        return "same"

    shop.put("a", {"id": [1]}, fingerprint=None, version="v1", content=content)
    land(table())
    land(table())
    assert (asked, shop.opened) == (["a"], ["a"])
    shop.put("a", {"id": [1]}, fingerprint=None, version="v2", content=content)
    assert land(table()).status == "unchanged"
    land(table())
    assert (asked, shop.opened) == (["a", "a"], ["a"])
    assert rows("select version from ops.load_audit where status = 'loaded'") == [("v2",)]


def test_new_unit_without_rows_is_known_afterwards(shop: Shop, land: Load) -> None:
    shop.put("a", {"id": pa.array([], pa.int64())})
    assert land(table()).status == "loaded"
    shop.opened.clear()
    assert land(table()).status == "unchanged"
    assert shop.opened == []


def test_append_takes_a_key_once(shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(Column("note", pa.string(), "Note."), disposition="append", key=("id",))
    shop.put("a", {"id": [1, 2, 1], "note": ["first", "x", "second"]})
    land(contract)
    shop.put("b", {"id": [2, 3], "note": ["later", "y"]})
    result = land(contract)
    assert (result.rows_read, result.rows_loaded) == (2, 2)
    assert rows("select id, note from raw_shop.orders order by 1") == [(1, "first"), (2, "x"), (3, "y")]


def test_full_refresh_of_merged_rows_counts_what_it_replaced(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    contract = table(Column("at", pa.int64(), "Order."), disposition="merge", key=("id",), cursor="at")
    shop.put("a", {"id": [1, 2], "at": [10, 20]}, fingerprint=None)
    assert land(contract).watermark_after == "20"
    again = load_table(warehouse, "shop", "orders", full_refresh=True)
    assert (again.rows_deleted, again.rows_loaded) == (2, 2)
    assert rows("select count(*) from raw_shop.orders") == [(2,)]


def test_watermark_never_goes_back(shop: Shop, land: Load) -> None:
    contract = table(Column("at", pa.date32(), "Day."), disposition="merge", key=("id",), cursor="at")
    shop.put("a", {"id": [1], "at": [date(2017, 1, 9)]}, fingerprint=None)
    assert land(contract).watermark_after == "2017-01-09"
    shop.put("a", {"id": [2], "at": [date(2017, 1, 2)]}, fingerprint=None)
    assert land(contract).watermark_after == "2017-01-09"


def test_a_missing_column_names_what_came_but_no_values_of_a_file_without_a_header(shop: Shop, land: Load) -> None:
    contract = table(Column("name", pa.string(), "Name.", personal="identifier"))
    shop.put("a", {"id": [1], "Name": ["Ada"], "city": ["Ely"]})
    with pytest.raises(GranaryError, match=r"column name is missing: .*; what came are id, Name, city"):
        land(contract)
    shop.put("a", {"1": [2], "Ada": ["Bo"]}, fingerprint="2")
    with pytest.raises(GranaryError, match="none of the 2 columns that came is the contract's") as error:
        land(contract)
    assert "Ada" not in str(error.value)
    shop.put("a", {f"column_{number}": [1] for number in range(40)}, fingerprint="3")
    with pytest.raises(GranaryError, match=r"column_29 and 10 more \(shop\.orders, a\)"):
        land(table())


@pytest.mark.parametrize("new_columns", ["add", "ignore"])
def test_values_of_a_file_without_a_header_become_no_columns_where_every_column_may_be_missing(
    shop: Shop, land: Load, rows: Rows, new_columns: str
) -> None:
    key = Column("id", pa.int64(), "Key.", missing="null")
    name = Column("name", pa.string(), "Name.", personal="identifier", missing="null")
    contract = replace(table(name, new_columns=new_columns), columns=(key, name))
    shop.put("a", {"1": [2], "Ada": ["Bo"]})
    with pytest.raises(GranaryError, match="none of the 2 columns that came is the contract's") as error:
        land(contract)
    assert "Ada" not in str(error.value)
    assert rows("select distinct column_name from ops.schema_changes") == [("id",)]
    shop.put("a", {"name": ["Ada"], "city": ["Ely"]}, fingerprint="2")
    assert land(contract).rows_loaded == 1
    assert rows("select id, name from raw_shop.orders") == [(None, "Ada")]
