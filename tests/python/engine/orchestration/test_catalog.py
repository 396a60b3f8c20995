"""What a run says about a relation: few rows are counted, many are known from the statistics of the build."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from granary.dbt import catalog
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    import pytest

    from granary.warehouse.settings import Settings


def test_a_table_with_many_rows_is_not_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(connect(settings, autocommit=True)) as connection:
        execute(connection, "create temporary table loans as select generate_series(1, 9) as id")
        execute(connection, "alter table loans set (autovacuum_enabled = false)")
        execute(connection, "analyze loans")
        execute(connection, "delete from loans where id = 1")
        found = catalog.Catalog(connection)
        monkeypatch.setattr(catalog, "COUNTED_ROWS", 9)
        assert found.rows("pg_temp.loans") == 8
        monkeypatch.setattr(catalog, "COUNTED_ROWS", 8)
        assert found.rows("pg_temp.loans") == 9
        execute(connection, "create temporary table returns as select 1 as id")
        monkeypatch.setattr(catalog, "COUNTED_ROWS", 0)
        assert found.rows("pg_temp.returns") == 1, "it has no statistics yet"
