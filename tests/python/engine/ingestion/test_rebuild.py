"""`granary load SOURCE.TABLE --rebuild`: a contract that was corrected after the first load."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from granary.cli import main as cli
from granary.load import api as load
from granary.load import declared_tables
from granary.load.append import append
from granary.sources import select
from granary.sources.spec import Column
from granary.sources.units import SourceBatch, Unit, UnreadableError
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.writer import LoadTransaction
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Load = Callable[..., LoadResult]

MONEY = pa.decimal128(12, 2)
TYPE = (
    "select format_type(atttypid, atttypmod) from pg_attribute"
    " where attrelid = 'raw_shop.orders'::regclass and attname = $1"
)


def price(kind: pa.DataType, **options: Any) -> Column:
    return Column("price", kind, "Price.", **options)


def texts(**columns: list[Any]) -> SourceBatch:
    """Return rows as a file of text delivers them."""
    return SourceBatch(pa.RecordBatch.from_pydict(columns), text=True)


def test_text_becomes_a_number_under_views(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", texts(id=[1, 2], price=["1.50", "n/a"]))
    land(table(price(pa.string())))
    with connect(warehouse, role="transformer") as connection:
        execute(connection, "create schema staging")
        execute(connection, "create view staging.prices as select id, price from raw_shop.orders")
        execute(connection, "grant usage on schema staging to analyst")
        execute(connection, "grant select on staging.prices to analyst")
        connection.commit()
    with pytest.raises(GranaryError, match=r"granary load shop\.orders --rebuild"):
        land(table(price(MONEY), retyped="widen"))
    result = land(table(price(MONEY)), rebuild=True)
    assert (result.rows_loaded, result.rows_quarantined) == (1, 1)
    assert rows(TYPE, "price") == [("numeric(12,2)",)]
    with connect(warehouse, role="analyst") as connection:
        assert query(connection, "select id, price from staging.prices") == [(1, Decimal("1.50"))]
    assert land(table(price(MONEY))).status == "unchanged"


def test_rows_of_vanished_units_are_kept_by_casting(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", texts(id=[1], price=["1.50"]))
    shop.put("b", texts(id=[2], price=["2.25"]))
    land(table(price(pa.string())))
    before = rows("select id, _load_id, _row from raw_shop.orders where id = 1")
    del shop.units_by_name["a"]
    result = land(table(price(MONEY)), rebuild=True)
    assert result.warnings == ("kept what the source does not offer any more: 1 row",)
    assert rows("select id, price from raw_shop.orders order by id") == [(1, Decimal("1.50")), (2, Decimal("2.25"))]
    assert rows("select id, _load_id, _row from raw_shop.orders where id = 1") == before
    assert rows("select row_count from ops.raw_tables") == [(2,)]
    assert land(table(price(MONEY))).status == "unchanged"


def test_streamed_rows_are_kept(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    options: dict[str, Any] = {"disposition": "append", "key": ("id",)}
    contract = table(price(pa.string()), **options)
    shop.put("a", texts(id=[1], price=["1"]))
    land(contract)
    with LoadTransaction(warehouse, "shop") as tx:
        append(
            tx, shop.source(contract), contract, Unit("s"), [texts(id=[2], price=["2"])], position='{"kafka:s[0]": "1"}'
        )
    land(table(price(pa.int64()), **options), rebuild=True)
    assert rows("select id, price from raw_shop.orders order by id") == [(1, 1), (2, 2)]
    assert rows("select value from ops.watermarks") == [('{"kafka:s[0]": "1"}',)]


def test_a_row_that_cannot_be_kept_stops_the_rebuild(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", texts(id=[1], price=["cheap"]))
    land(table(price(pa.string())))
    del shop.units_by_name["a"]
    shop.put("b", texts(id=[2], price=["2"]))
    with pytest.raises(
        GranaryError, match=r'cannot be kept: price is not a valid decimal128\(12, 2\): "cheap"'
    ) as raised:
        land(table(price(MONEY)), rebuild=True)
    assert raised.value.where == "shop.orders, load 1"
    assert rows("select id, price from raw_shop.orders") == [(1, "cheap")]
    with pytest.raises(GranaryError, match=r"price is not a valid decimal128\(12, 2\) \(value not shown\)"):
        land(table(price(MONEY, personal="identifier")), rebuild=True)


def test_a_fraction_is_not_rounded_away(shop: Shop, land: Load) -> None:
    shop.put("a", {"id": [1], "price": [1.239]})
    land(table(price(pa.float64())))
    del shop.units_by_name["a"]
    shop.put("b", {"id": [2], "price": [2.0]})
    with pytest.raises(GranaryError, match=r"price is not a valid decimal128\(12, 2\): \"1.239\""):
        land(table(price(MONEY)), rebuild=True)


def test_a_merged_table_takes_another_type_and_another_key(shop: Shop, land: Load, rows: Rows) -> None:
    code = Column("code", pa.string(), "Code.", nullable=False)
    shop.put("a", texts(id=[1, 2], code=["x", "y"], price=["1", "2"]))
    land(table(code, price(pa.string()), disposition="merge", key=("id",)))
    shop.put("a", texts(id=[1, 3], code=["x", "z"], price=["5", "6"]), fingerprint="2")
    land(table(code, price(pa.int64()), disposition="merge", key=("code",)), rebuild=True)
    assert rows("select id, code, price from raw_shop.orders order by id") == [(1, "x", 5), (2, "y", 2), (3, "z", 6)]
    assert rows(
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'raw_shop.orders'::regclass"
        " and contype = 'p'"
    ) == [("PRIMARY KEY (code)",)]


def test_a_view_that_cannot_stand_on_the_new_type_is_named(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    shop.put("a", texts(id=[1], price=["1"]))
    land(table(price(pa.string())))
    with connect(warehouse, role="transformer") as connection:
        execute(connection, "create schema staging")
        execute(connection, "create view staging.prices as select trim(price) as price from raw_shop.orders")
        connection.commit()
    with pytest.raises(GranaryError, match=r"view staging\.prices cannot stand on the new type .*: drop it first"):
        land(table(price(MONEY)), rebuild=True)
    assert rows("select price from raw_shop.orders") == [("1",)]


def test_an_empty_table_takes_any_type(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", texts(id=pa.array([], pa.string()), price=pa.array([], pa.string())))
    land(table(price(pa.string())))
    shop.put("b", texts(id=["1"], price=["1.5"]))
    land(table(price(MONEY)))
    assert rows("select price from raw_shop.orders") == [(Decimal("1.50"),)]


def test_the_command_rebuilds_what_is_named(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("a", texts(id=[1], price=["1.50"]))
    land(table(price(pa.string())))
    contract = table(price(MONEY))
    for module in (load, declared_tables, select):
        monkeypatch.setattr(module, "SOURCES", {"shop": shop.source(contract)})
    for wrong in (["--rebuild"], ["shop.orders", "--rebuild", "--full-refresh"]):
        assert CliRunner().invoke(cli.app, ["load", *wrong]).exit_code == 2
    done = CliRunner().invoke(cli.app, ["load", "shop.orders", "--rebuild"])
    assert done.exit_code == 0, done.output
    assert rows("select price from raw_shop.orders") == [(Decimal("1.50"),)]


def test_a_rebuild_that_is_only_tried_changes_nothing(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", texts(id=[1], price=["1.50"]))
    land(table(price(pa.string())))
    assert land(table(price(MONEY)), rebuild=True, dry_run=True).rows_loaded == 1
    assert rows("select price from raw_shop.orders") == [("1.50",)]


def test_a_rebuild_of_a_source_that_offers_little_is_refused_below_the_floor(
    shop: Shop, land: Load, rows: Rows
) -> None:
    options: dict[str, Any] = {"disposition": "replace", "key": ("id",)}
    shop.put("a", texts(id=["1", "2", "3"], price=["1", "2", "3"]))
    land(table(price(pa.string()), **options))
    shop.put("a", texts(id=["1"], price=["1"]), fingerprint="2")
    with pytest.raises(GranaryError, match="the source offers 1 row, the table has 3: below its floor of 50%"):
        land(table(price(MONEY), **options), rebuild=True)
    assert rows("select id, price from raw_shop.orders order by id") == [(1, "1"), (2, "2"), (3, "3")]


def test_a_damaged_unit_keeps_its_rows_through_a_rebuild(shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a", texts(id=[1], price=["1.50"]))
    shop.put("b", texts(id=[2], price=["2.50"]))
    land(table(price(pa.string())))
    shop.put("a", fingerprint="2", error=UnreadableError("it is damaged", "a"))
    result = land(table(price(MONEY)), rebuild=True)
    assert result.units_unreadable == ("a",)
    assert rows("select id, price from raw_shop.orders order by id") == [(1, Decimal("1.50")), (2, Decimal("2.50"))]
    assert land(table(price(MONEY))).status == "unchanged"
