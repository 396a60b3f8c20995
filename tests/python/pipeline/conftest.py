"""The dbt project on a small slice of the real data, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from dbt.cli.main import dbtRunner

from demo import retailer
from ingestion.load import load_table
from ingestion.select import select
from warehouse.connection import connect, execute, query
from warehouse.settings import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    from warehouse.settings import Settings

HOUSEHOLDS = 7
"""The slice: households 1 to 7, of which 3 and 7 change in the year."""


@dataclass
class Pipeline:
    """A warehouse with the slice of the retailer beside it, and dbt to build it."""

    settings: Settings
    target: Path

    def day(self, to: date) -> None:
        """Let business go on until `to`, and load, snapshot and build what is new."""
        retailer.advance(self.settings, to)
        self.load()
        self.dbt("build", "--exclude-resource-type", "test", "unit_test")

    def load(self, *names: str) -> None:
        with retailer.systems(self.settings):
            for source, table in select(names):
                load_table(self.settings, source, table)

    def dbt(self, *arguments: str, succeeds: bool = True) -> dict[str, Any]:
        """Run dbt and return its results by node name."""
        done = dbtRunner().invoke(
            [
                *arguments,
                *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
                *("--target-path", str(self.target), "--log-path", str(self.target)),
                *("--log-level", "none", "--log-level-file", "info", "--threads", "2"),
            ]
        )
        # An operation's result has no node.
        results = {
            result.node.name if hasattr(result, "node") else result.unique_id: result
            for result in getattr(done.result, "results", [])
        }
        bad = {
            name: result.message
            for name, result in results.items()
            if result.status not in ("success", "pass", "skipped", "no-op")
        }
        assert done.success is succeeds, bad or done.exception
        return results

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.settings) as connection:
            return query(connection, sql)

    def execute(self, *statements: str) -> None:
        with connect(self.settings) as connection:
            for sql in statements:
                execute(connection, sql)
            connection.commit()

    def marts(self) -> dict[str, tuple[Any, ...]]:
        """Return the row count of each mart and the sum of its row hashes: equal for equal multisets of rows."""
        names = self.query(
            "select table_name from information_schema.tables where table_schema = 'marts' order by table_name"
        )
        digest = "select count(*), sum(hashtextextended(t::text, 0)::numeric)::text from marts.{} as t"
        return {str(name): self.query(digest.format(name))[0] for (name,) in names}


@pytest.fixture(scope="module")
def pipeline(
    make_warehouse: Callable[[str], Settings], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Return the slice as it is before the year: the retailer open, its CRM loaded and kept as history."""
    name = str(request.module.__name__).rpartition("test_")[2]
    settings = make_warehouse(f"pipeline_{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRANARY_HOME", str(settings.home))
        patch.setenv("PGDATABASE", settings.database)
        retailer.open_for_business(settings, households=HOUSEHOLDS)
        prepared = Pipeline(settings, tmp_path_factory.mktemp("target"))
        prepared.load()
        prepared.dbt("build", "--exclude-resource-type", "test", "unit_test")
        yield prepared
