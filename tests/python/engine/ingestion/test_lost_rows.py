"""Raw tables that others dropped, renamed, emptied or thinned out, and loads that notice it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.load.append import append
from granary.sources.spec import Column, Stream
from granary.sources.units import SourceBatch, Unit
from granary.warehouse import raw_tables
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.writer import LoadTransaction
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Load = Callable[..., LoadResult]

NAME = Column("name", pa.string(), "Name.")
UPDATED = Column("updated_at", pa.timestamp("us", tz="UTC"), "Changed.", nullable=False)
NOON = datetime(2017, 1, 2, 12, tzinfo=timezone.utc)
RENAME = "alter table raw_shop.orders rename to orders_old"
DROP = "drop table raw_shop.orders cascade"
TRUNCATE = "truncate raw_shop.orders"


@pytest.fixture
def outside(warehouse: Settings) -> Callable[[str], None]:
    """Return a function that does to the warehouse what somebody does with psql."""

    def run(sql: str) -> None:
        with connect(warehouse, autocommit=True) as connection:
            execute(connection, sql)

    return run


def contracts() -> list[Any]:
    """Return a contract of each kind."""
    return [
        pytest.param(table(NAME), id="replace_unit"),
        pytest.param(table(NAME, disposition="append"), id="append"),
        pytest.param(table(NAME, disposition="append", key=("id",)), id="append by key"),
        pytest.param(table(NAME, disposition="merge", key=("id",)), id="merge"),
        pytest.param(table(NAME, disposition="replace", key=("id",)), id="replace"),
    ]


@pytest.mark.parametrize("contract", contracts())
@pytest.mark.parametrize("harm", [DROP, RENAME, TRUNCATE, "delete from raw_shop.orders where id = 2"])
def test_lost_rows_are_read_again_and_said(
    shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None], contract: Table, harm: str
) -> None:
    shop.put("a", {"id": [1, 2], "name": ["x", "y"]})
    shop.put("b", {"id": [3], "name": ["z"]})
    land(contract)
    outside(harm)
    result = land(contract)
    assert result.status == "loaded"
    assert "its loads had brought 3" in result.warnings[0]
    assert "3 rows are there now" in result.warnings[0]
    assert rows("select id, name from raw_shop.orders order by id") == [(1, "x"), (2, "y"), (3, "z")]
    after = land(contract)
    assert (after.status, after.warnings, shop.opened) == ("unchanged", (), ["a", "b", "a", "b"])


def test_a_cursor_begins_anew(warehouse: Settings, shop: Shop, land: Load, outside: Callable[[str], None]) -> None:
    contract = table(UPDATED, disposition="merge", key=("id",), cursor="updated_at")
    asked: list[str | None] = []
    read = shop.read

    def watched(contract: Table, unit: Unit, watermark: str | None) -> Any:
        asked.append(watermark)
        return read(contract, unit, watermark)

    shop.read = watched  # type: ignore[method-assign]
    shop.put("window", {"id": [1], "updated_at": [NOON]}, fingerprint=None)
    land(contract)
    outside(TRUNCATE)
    assert land(contract).watermark_before is None
    assert asked == [None, None]
    land(contract)
    assert asked[-1] == NOON.isoformat()


def test_units_that_are_gone_at_the_source_are_named(
    shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None]
) -> None:
    shop.put("a", {"id": [1, 2]})
    shop.put("b", {"id": [3]})
    land(table())
    del shop.units_by_name["b"]
    outside("delete from raw_shop.orders where id in (2, 3)")
    result = land(table())
    assert result.warnings[1] == ("lost, since the source does not offer them any more: 1 of 1 row of b (load 2)")
    assert rows("select id from raw_shop.orders order by id") == [(1,), (2,)]
    assert land(table()).status == "unchanged"
    shop.put("b", {"id": [3]})
    land(table())
    assert rows("select id from raw_shop.orders order by id") == [(1,), (2,), (3,)]


def test_a_day_that_was_asked_for_does_not_hide_the_loss(
    shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None]
) -> None:
    day = datetime(2017, 1, 2).date()  # noqa: DTZ001 - a date
    shop.put("a", {"id": [1]}, date=day.replace(day=1))
    shop.put("b", {"id": [2]}, date=day)
    contract = table(partition="day")
    land(contract)
    outside(TRUNCATE)
    land(contract, window=(day, day))
    assert rows("select id from raw_shop.orders order by id") == [(1,), (2,)]


def test_what_cannot_come_back_stops_the_load_until_it_is_accepted(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None]
) -> None:
    contract = table(NAME, disposition="append", key=("id",))
    source = shop.source(contract)
    with LoadTransaction(warehouse, "shop") as tx:  # a stream's batch, which nobody can read again
        append(
            tx,
            source,
            contract,
            Unit("stream[0]"),
            [SourceBatch(pa.RecordBatch.from_pydict({"id": [1, 2, 3], "name": ["x", "y", "z"]}))],
        )
    outside(DROP)
    for _ in range(2):
        with pytest.raises(GranaryError, match=r"the raw table is gone, and its loads had brought 3 rows"):
            land(contract)
    assert rows("select to_regclass('raw_shop.orders') is null") == [(True,)]
    with pytest.raises(GranaryError, match=r"granary load shop\.orders --rebuild"):
        land(contract)
    result = land(contract, rebuild=True)
    assert "0 rows are there now" in result.warnings[0]
    assert land(contract).status == "unchanged"


def test_a_stream_begins_anew(
    warehouse: Settings,
    shop: Shop,
    rows: Rows,
    outside: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contract = table(disposition="append", key=("id",))
    source = replace(shop.source(contract), stream=Stream({"orders": "orders"}, "ADDRESS", "SECRETS"))
    monkeypatch.setattr(load, "SOURCES", {"shop": source})
    shop.put("a", {"id": [1, 2]})
    load_table(warehouse, "shop", "orders")
    batch = [SourceBatch(pa.RecordBatch.from_pydict({"id": [3]}))]
    with LoadTransaction(warehouse, "shop") as tx:
        append(tx, source, contract, Unit("orders[0]"), batch, position='{"kafka:orders[0]": "1"}')
    load_table(warehouse, "shop", "orders")
    assert rows("select value from ops.watermarks") == [('{"kafka:orders[0]": "1"}',)]
    outside("delete from raw_shop.orders where id = 3")
    assert load_table(warehouse, "shop", "orders").warnings[1:] == (
        "its stream begins at the oldest message that the log or queue still has",
    )
    assert rows("select value from ops.watermarks") == []


def test_a_batch_into_a_table_that_was_dropped_does_not_hide_the_loss(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None]
) -> None:
    contract = table(NAME, disposition="append", key=("id",))
    shop.put("a", {"id": [1, 2], "name": ["x", "y"]})
    land(contract)
    outside(DROP)
    with LoadTransaction(warehouse, "shop") as tx:
        append(
            tx,
            shop.source(contract),
            contract,
            Unit("stream"),
            [SourceBatch(pa.RecordBatch.from_pydict({"id": [3], "name": ["z"]}))],
        )
    assert "holds 1 row, and its loads had brought 3" in land(contract).warnings[0]
    assert rows("select id from raw_shop.orders order by id") == [(1,), (2,), (3,)]


def test_large_tables_are_asked_for_a_row_of_each_load(
    shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_tables, "COUNTED_BYTES", 0)
    shop.put("a", {"id": [1, 2]})
    shop.put("b", {"id": [3]})
    land(table())
    assert land(table()).status == "unchanged"
    outside("delete from raw_shop.orders where id = 3")
    assert land(table()).status == "loaded"
    assert rows("select count(*) from raw_shop.orders") == [(3,)]


def test_a_table_that_was_rewritten_or_restored_is_no_loss(
    shop: Shop, land: Load, outside: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_tables, "COUNTED_BYTES", 0)
    shop.put("a", {"id": [1, 2]})
    land(table())
    outside("create table kept as table raw_shop.orders")
    outside(DROP)
    outside("create table raw_shop.orders as table kept")
    outside("alter table raw_shop.orders owner to loader")
    assert land(table()).status == "unchanged"


def test_a_renamed_table_keeps_its_indexes_and_the_new_one_gets_its_own(
    shop: Shop, land: Load, rows: Rows, outside: Callable[[str], None]
) -> None:
    shop.put("a", {"id": [1, 2]})
    land(table())
    outside(RENAME)
    land(table())
    indexed = "select count(*) from pg_index where indrelid = $1::text::regclass"
    assert (rows(indexed, "raw_shop.orders"), rows(indexed, "raw_shop.orders_old")) == ([(1,)], [(1,)])


def test_counts_follow_what_loads_do(shop: Shop, land: Load, rows: Rows) -> None:
    kept = "select row_count from ops.raw_tables"
    shop.put("a", {"id": [1, 2]})
    land(table())
    shop.put("a", {"id": [1, 2, 3]}, fingerprint="2")
    land(table())
    assert rows(kept) == [(3,)]
    land(table(), full_refresh=True)
    assert rows(kept) == [(3,)]
    shop.put("b", {"id": [9]})
    land(table(), dry_run=True)
    assert rows(kept) == [(3,)]


def test_an_older_warehouse_counts_once_what_it_has(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    from granary.warehouse import server  # noqa: PLC0415

    shop.put("a", {"id": [1, 2]})
    land(table())
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, "drop table ops.migrations, ops.raw_tables")
        execute(connection, TRUNCATE)
    server.prepare(warehouse)
    assert "holds 0 rows, and its loads had brought 2" in land(table()).warnings[0]
    assert rows("select count(*) from raw_shop.orders") == [(2,)]
