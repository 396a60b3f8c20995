"""A database whose rows change in place: one table read past a cursor and merged, one read whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.readers.database import DatabaseReader
from granary.sources.spec import Column, Source, Table
from granary.warehouse.connection import connect, ensure_database, execute
from tests.python.engine.chaos.world import REFUSED, Rows, World, load_all, select

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

COLUMNS = (
    Column("id", pa.int64(), "Number of the row.", nullable=False),
    Column("amount", pa.int64(), "Cents.", nullable=False),
    Column("updated_at", pa.timestamp("us", tz="UTC"), "When it last changed.", nullable=False),
)


def source(uri: str) -> Source:
    """Return the source of the database."""
    tables = (
        Table(
            "members",
            "Merged.",
            "chaos.members",
            COLUMNS,
            "merge",
            timedelta(days=1),
            key=("id",),
            cursor="updated_at",
        ),
        Table("shops", "Replaced.", "chaos.shops", COLUMNS, "replace", timedelta(days=1), key=("id",), floor=0.1),
    )
    return Source("chaos_database", "A database.", "tests", "database", (), lambda _: DatabaseReader(uri), tables)


@dataclass(frozen=True)
class DatabaseLoader:
    """Loads the two tables."""

    uri: str

    def load(self, settings: Settings) -> None:
        """Load both tables."""
        load_all(settings, source(self.uri))


class DatabaseWorld(World):
    """A source database beside the warehouse. Rows arrive late, at the very instant that was read last."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.database = f"{self.settings.database}_origin"
        ensure_database(self.settings, self.database)
        uri = self.settings.uri(self.database)
        self.source, self.loader = source(uri), DatabaseLoader(uri)
        self.tables = self.source.tables
        self.day = 0
        columns = "(id bigint primary key, amount bigint not null, updated_at timestamptz not null)"
        self._run(
            "drop schema if exists chaos cascade",
            "create schema chaos",
            f"create table chaos.members {columns}",
            f"create table chaos.shops {columns}",
        )

    def advance(self) -> None:
        self.day += 1
        today = f"'2017-01-01Z'::timestamptz + interval '{self.day} days'"
        last = f"'2017-01-01Z'::timestamptz + interval '{self.day - 1} days'"
        seed, some = self.random.randrange(1 << 30), self.random.randint(1100, 1700)
        changed = f"hashint8(id + {seed}) % 5 = 0"
        statements = []
        for table in ("members", "shops"):
            first = f"(select coalesce(max(id), 0) from chaos.{table})"
            statements += [
                f"update chaos.{table} set amount = amount + {self.day}, updated_at = {today} where {changed}",
                f"insert into chaos.{table} select {first} + n, n % 97, {today} from generate_series(1, {some}) as n",
                f"insert into chaos.{table} select {first} + n, 0, {last} from generate_series(1, 20) as n",
            ]
        self._run(*statements, f"delete from chaos.shops where hashint8(id + {seed}) % 7 in (1, 2)")

    def truth(self) -> dict[str, Rows]:
        with connect(self.settings, self.database) as connection:
            columns = "id, amount, updated_at"
            found = {t.name: select(connection, f"select {columns} from chaos.{t.name}") for t in self.source.tables}
        return found | {REFUSED: Rows()}

    def _run(self, *statements: str) -> None:
        with connect(self.settings, self.database) as connection:
            for statement in statements:
                execute(connection, statement)
            connection.commit()
