"""The dbt project on a small slice of the real data, in this process."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from dbt.cli.main import dbtRunner

from demo import crm, retailer
from granary.load.api import load_table
from granary.sources.select import select
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query, quote_name
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    from granary.warehouse.settings import Settings

HOUSEHOLDS = 7
"""The slice: households 1 to 7, of which 3 and 7 change in the year."""
KEPT = "_kept"
"""What the names of the copy end with."""
EMPTY = "_empty"
"""What the name of the empty warehouse ends with."""


@dataclass
class Pipeline:
    """A warehouse with the slice of the retailer beside it, and dbt to build it."""

    settings: Settings
    target: Path
    parsed: Any = None
    """The project as dbt has parsed it, once it has."""

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Name the warehouse in the environment."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRANARY_HOME", str(self.settings.home))
            patch.setenv("PGDATABASE", self.settings.database)
            yield

    def begin(self, day: date | None) -> None:
        """Have the slice as it is before the year, or when all until the evening of a day is loaded and built.

        The evening is kept: the next module that begins with it has it at once.
        """
        kept = f"{KEPT}_{day:%m_%d}" if day else KEPT
        there = (self.settings.home / f"demo{kept}").exists()
        self.copy(kept if there else KEPT, "")
        server.prepare(self.settings)  # the grants on a database are not copied with it
        if day and not there:
            with self.at_hand():
                self.day(day)
            self.copy("", kept)

    def begin_empty(self) -> None:
        """Have a warehouse in which nothing was ever loaded, and no retailer."""
        self.drop("")
        self.copy_database(self.settings.database, EMPTY, "")
        server.prepare(self.settings)

    def copy(self, origin: str, to: str) -> None:
        """Replace the databases and files with one ending by those with another."""
        self.drop(to)
        for name in (self.settings.database, crm.database(self.settings)):
            self.copy_database(name, origin, to)
        shutil.copytree(self.settings.home / f"demo{origin}", self.settings.home / f"demo{to}")

    def copy_database(self, name: str, origin: str, to: str) -> None:
        """Make a database with one ending from that with another."""
        strategy = "" if self.settings.external else " strategy file_copy"  # as in tests/python/conftest.py
        made = f"{quote_name(name + to)} template {quote_name(name + origin)}{strategy}"
        with connect(self.settings, "postgres", autocommit=True) as connection:
            execute(connection, f"create database {made}")

    def drop(self, ending: str) -> None:
        """Remove the databases and files with one ending."""
        with connect(self.settings, "postgres", autocommit=True) as connection:
            for name in (self.settings.database, crm.database(self.settings)):
                execute(connection, f"drop database if exists {quote_name(name + ending)} with (force)")
        for name in ("demo", "erasures"):  # who is forgotten is known beside the database, too
            shutil.rmtree(self.settings.home / f"{name}{ending}", ignore_errors=True)

    def day(self, to: date, *selection: str) -> None:
        """Let business go on until `to`, and load, snapshot and build what is new, of these models or all."""
        retailer.advance(self.settings, to)
        self.load()
        self.dbt("build", "--exclude-resource-type", "test", "unit_test", *selection)

    def load(self, *names: str) -> None:
        with retailer.systems(self.settings):
            for source, table in select(names):
                load_table(self.settings, source, table)

    def dbt(self, command: str, *arguments: str, succeeds: bool = True, log: str = "none") -> dict[str, Any]:
        """Run dbt and return its results by node name; a log costs a sixth of a build, whatever its level.

        The project is parsed once, whatever the vars: no model's place, config or reference depends on one. A manifest
        for each run is nothing but garbage after it, of which the collector has a quarter of a second's work.
        """
        if not self.parsed:
            self.parsed = self._invoke(None, log, "parse").result
        self.parsed.build_flat_graph()  # what a run has settled for its nodes is kept there
        done = self._invoke(self.parsed, log, command, *arguments)
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

    def _invoke(self, manifest: Any, log: str, command: str, *arguments: str) -> Any:
        return dbtRunner(manifest).invoke(
            [
                command,
                *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
                *("--target-path", str(self.target), "--log-path", str(self.target)),
                *("--log-level", "none", "--log-level-file", log, "--threads", "2", "--no-write-json"),
                *arguments,
            ]
        )

    def said(self, command: str, *arguments: str, succeeds: bool = True) -> str:
        """Run dbt and return what it said."""
        log = self.target / "dbt.log"
        log.unlink(missing_ok=True)
        self.dbt(command, *arguments, succeeds=succeeds, log="info")
        return " ".join(log.read_text().split())

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


@pytest.fixture(scope="session")
def opened(make_warehouse: Callable[[str], Settings], tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Return the slice as it is before the year, with a copy of it beside: of its databases, and of its files."""
    made = Pipeline(make_warehouse("pipeline"), tmp_path_factory.mktemp("target"))
    made.copy_database(made.settings.database, "", EMPTY)
    with made.at_hand():
        retailer.open_for_business(made.settings, households=HOUSEHOLDS)
        made.load()
        made.dbt("build", "--exclude-resource-type", "test", "unit_test")
    made.copy("", KEPT)
    return made  # its databases go with the warehouse: their names begin with that of it


@pytest.fixture(scope="module")
def pipeline(opened: Pipeline, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """Return the slice as it is before the year: the retailer open, its CRM loaded and kept as history.

    Every module has it anew in the same place, for which dbt has parsed the project already; with `BEGINS` in a module
    it is as on the evening of that day.
    """
    opened.begin(getattr(request.module, "BEGINS", None))
    with opened.at_hand():
        yield opened
