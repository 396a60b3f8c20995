"""Source databases of several kinds, all real, and a source spec that reads a table of any of them."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.readers.database import DatabaseReader
from granary.sources.spec import Column, Source, Table
from granary.warehouse.connection import connect, ensure_database, execute, query
from tests.python.support import mariadb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.load.api import LoadResult
    from granary.sources.units import SourceBatch
    from granary.warehouse.settings import Settings

INSTANT = pa.timestamp("us", tz="UTC")


def contract(location: str, key: str | None = "id", **changes: Any) -> Table:
    """Return a contract for a table; `columns` maps names to Arrow types."""
    columns = changes.pop("columns", {"id": pa.int64(), "name": pa.string()})
    defaults = {
        "name": location.rpartition(".")[2].lower(),
        "description": "A table of a test.",
        "location": location,
        "disposition": "merge" if key else "replace_unit",
        "freshness": timedelta(days=1),
        "key": (key,) if key else (),
        "max_refused": 1.0,
    }
    made = tuple(
        column if isinstance(column, Column) else Column(name, column, "A column.", nullable=name != key)
        for name, column in columns.items()
    )
    return Table(**(defaults | {"columns": made} | changes))


def source_batches(reader: DatabaseReader, table: Table, watermark: str | None = None) -> list[SourceBatch]:
    """Read a table as a load would."""
    [unit] = reader.units(table, watermark)
    return list(reader.read(table, unit, watermark))


def read(reader: DatabaseReader, table: Table, watermark: str | None = None) -> pa.Table:
    """Return the rows that a reader yields."""
    return pa.Table.from_batches([source_batch.batch for source_batch in source_batches(reader, table, watermark)])


@dataclass
class Shop:
    """A source called `shop` in a warehouse of its own."""

    warehouse: Settings
    monkeypatch: pytest.MonkeyPatch

    def load(self, reader: DatabaseReader, table: Table, **options: Any) -> LoadResult:
        spec = Source("shop", "A shop.", "shop", "database", (), lambda _: reader, (table,))
        self.monkeypatch.setattr(load, "SOURCES", {"shop": spec})
        return load_table(self.warehouse, "shop", table.name, **options)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with connect(self.warehouse) as connection:
            return query(connection, sql)


def read_amid(
    moves: list[int], write: Callable[[threading.Event], None], look: Callable[[], pa.Table]
) -> tuple[int, pa.Table]:
    """Have `write`, in a thread, make at least 20 moves before and 20 after `look`.

    Returns:
        The moves that were made when the look began, and what it saw.
    """
    done = threading.Event()
    writer = threading.Thread(target=write, args=(done,))
    writer.start()
    try:
        while len(moves) < 20:
            assert writer.is_alive()
        before = len(moves)
        found = look()
        while len(moves) < before + 20:
            assert writer.is_alive()
    finally:
        done.set()
        writer.join()
    return before, found


@pytest.fixture
def shop(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(warehouse, monkeypatch)


@dataclass
class Postgres:
    """A source database in the test's own Postgres."""

    settings: Settings
    name: str

    @property
    def uri(self) -> str:
        return self.settings.uri(self.name)

    def run(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        with connect(self.settings, self.name, autocommit=True) as connection:
            if sql.lstrip().lower().startswith(("select", "with")):
                return query(connection, sql, *parameters)
            execute(connection, sql, *parameters)
            return []


_number = count(1)


@pytest.fixture
def postgres(settings: Settings) -> Iterator[Postgres]:
    """Return an empty Postgres database on the shared server."""
    name = f"{settings.database}_source{next(_number)}"
    ensure_database(settings, name)
    yield Postgres(settings, name)
    with connect(settings, "postgres", autocommit=True) as connection:
        execute(connection, f'drop database "{name}" with (force)')


@pytest.fixture(scope="session")
def maria_server() -> Iterator[mariadb.MariaDB]:
    program = mariadb.binary()
    if program is None:
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    server = mariadb.start(program)
    yield server
    server.stop()


@pytest.fixture
def maria(maria_server: mariadb.MariaDB) -> mariadb.MariaDB:
    """Return a MariaDB whose database `shop` is empty."""
    maria_server.run("drop database shop", "create database shop character set utf8mb4")
    return maria_server


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Return the URI of a SQLite file and a function that runs SQL in it."""
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path, isolation_level=None)
    yield f"sqlite:///{path}", lambda sql, *values: connection.execute(sql, values).fetchall()
    connection.close()
