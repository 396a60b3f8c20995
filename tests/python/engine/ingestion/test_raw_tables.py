"""Raw tables that contracts declare are there, empty, from `granary up` on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from granary.load import api as load
from granary.load import declared_tables
from granary.load.api import load_table
from granary.sources.discovery import SOURCES
from granary.sources.spec import Column
from granary.warehouse.connection import connect, execute, lock, query
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

TABLES = "select schemaname || '.' || tablename from pg_tables where schemaname like 'raw%' order by 1"


def test_every_declared_table_is_there_for_the_models(warehouse: Settings, rows: Rows) -> None:
    declared = sorted(f"raw_{source.name}.{one.name}" for source in SOURCES.values() for one in source.tables)
    assert sorted(declared_tables.create_missing(warehouse)) == declared
    assert [name for (name,) in rows(TABLES)] == declared
    with connect(warehouse, role="transformer") as connection:
        assert query(connection, "select count(*) from raw_till.receipts") == [(0,)]
    assert rows("select distinct tableowner from pg_tables where schemaname like 'raw%'") == [("loader",)]
    assert declared_tables.create_missing(warehouse) == []


def test_the_first_load_finds_its_table(warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    contract = table(Column("name", pa.string(), "Name.", aliases=("Name",)))
    for module in (load, declared_tables):
        monkeypatch.setattr(module, "SOURCES", {"shop": shop.source(contract)})
    assert declared_tables.create_missing(warehouse) == ["raw_shop.orders"]
    shop.put("a", {"id": [1], "Name": ["x"]})
    result = load_table(warehouse, "shop", "orders")
    assert (result.warnings, result.changes) == ((), ())
    assert rows("select id, name from raw_shop.orders") == [(1, "x")]


def test_a_contract_that_changed_before_its_first_load(
    warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    for kind in (pa.string(), pa.int64()):
        contract = table(Column("pieces", kind, "Pieces."))
        for module in (load, declared_tables):
            monkeypatch.setattr(module, "SOURCES", {"shop": shop.source(contract)})
        declared_tables.create_missing(warehouse)
    shop.put("a", {"id": [1], "pieces": [5]})
    load_table(warehouse, "shop", "orders")
    assert rows("select id, pieces from raw_shop.orders") == [(1, 5)]


def test_a_table_that_is_gone_with_its_rows_is_not_made_empty(
    warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    for module in (load, declared_tables):
        monkeypatch.setattr(module, "SOURCES", {"shop": shop.source(table())})
    shop.put("a", {"id": [1]})
    load_table(warehouse, "shop", "orders")
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, "drop table raw_shop.orders")
    assert declared_tables.create_missing(warehouse) == []
    load_table(warehouse, "shop", "orders")
    assert rows("select id from raw_shop.orders") == [(1,)]


def test_a_source_that_is_being_loaded_is_left_to_its_load(warehouse: Settings, rows: Rows) -> None:
    with connect(warehouse, role="loader") as connection:
        lock(connection, "load.till", 1)
        made = declared_tables.create_missing(warehouse)
    assert "raw_office.members" in made
    assert not any(name.startswith("raw_till") for name in made)
