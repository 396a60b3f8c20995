"""The first hour of a warehouse: nothing is loaded yet, and plain dbt is the first thing that somebody runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingestion.sources import SOURCES
from tests.python.pipeline.conftest import Pipeline
from warehouse.writer import LoadTransaction, Target

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.settings import Settings


@pytest.fixture
def empty(warehouse: Settings, tmp_path: Path) -> Pipeline:
    """Return a warehouse with the raw tables of all sources, and not one row."""
    for source in SOURCES.values():
        with LoadTransaction(warehouse, source.name) as tx:
            for table in source.tables:
                tx.ensure_table(Target(source.name, table.name, table.schema, table.key))
    return Pipeline(warehouse, tmp_path)


def test_a_plain_dbt_build_passes_before_the_first_load(empty: Pipeline) -> None:
    results = empty.dbt("build")
    assert {str(result.status) for result in results.values()} <= {"pass", "success", "no-op"}
    assert empty.query("select count(*) from ops.publish_holds") == [(0,)]
    assert empty.query("select count(*) from ops.unpublished") == [(0,)]
    assert empty.query("select count(*) from marts.fct_sales") == [(0,)]
