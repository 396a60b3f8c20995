"""The CRM: a Postgres database of households, products and stores, each row with the time of its change."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demo.clock import ends_at
from demo.files import put
from demo.history import (
    CHANGING,
    CYCLE,
    DEMOGRAPHICS,
    OPENED_AT,
    changed_at,
    earlier_household,
    earlier_product,
)
from demo.progress import Step
from granary.warehouse.binary_copy import copy_into
from granary.warehouse.connection import connect, ensure_database, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    from demo.data import Data
    from demo.history import Row
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

_INSTANT = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Entity:
    """One table: its text columns follow the numeric ones, and `earlier` gives the version at the opening."""

    name: str
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    rows: Callable[[Data], pa.Table]
    earlier: Callable[[Row], Row | None]

    @property
    def key(self) -> str:
        """The primary key."""
        return self.numbers[0]

    @property
    def schema(self) -> pa.Schema:
        """The table's columns as Arrow types."""
        numbers = [(name, pa.int64()) for name in self.numbers]
        return pa.schema([*numbers, *((name, pa.string()) for name in self.texts), ("updated_at", _INSTANT)])

    def ddl(self) -> str:
        """Return the statement that creates the table."""
        columns = [f"{self.key} bigint primary key", *(f"{name} bigint" for name in self.numbers[1:])]
        columns += [*(f"{name} text" for name in self.texts), "updated_at timestamptz not null"]
        return f"create table public.{self.name} ({', '.join(columns)})"

    def update(self) -> str:
        """Return the statement that makes one row newer, given all columns in order; safe to repeat."""
        names = self.schema.names
        values = ", ".join(f"{name} = ${n}" for n, name in enumerate(names, start=1) if name != self.key)
        return f"update public.{self.name} set {values} where {self.key} = $1 and updated_at < ${len(names)}"

    def versions(self, data: Data) -> tuple[pa.Table, pa.Table]:
        """Return the table at the opening, and the real rows that replace some of it, with their instants."""
        real = self.rows(data).sort_by(self.key)
        pairs = [(self.earlier(row), row) for row in _candidates(real, self.key).to_pylist()]
        before = [old | {"updated_at": OPENED_AT} for old, _ in pairs if old]
        after = [new | {"updated_at": changed_at(new[self.key], data.scale.years)} for old, new in pairs if old]
        changing = pa.array([row[self.key] for row in after], pa.int64())
        stays = real.filter(pc.invert(pc.is_in(real[self.key], changing)))
        stays = stays.append_column("updated_at", pa.repeat(pa.scalar(OPENED_AT, _INSTANT), stays.num_rows))
        opening = pa.concat_tables([stays.cast(self.schema), pa.Table.from_pylist(before, self.schema)])
        return opening.sort_by(self.key), pa.Table.from_pylist(after, self.schema)


def _households(data: Data) -> pa.Table:
    """Return every household that shops, with its demographics where they are known."""
    seen = data.keys("transactions", "household_id")
    return seen.join(data.read("demographics"), "household_id", use_threads=False)


def _products(data: Data) -> pa.Table:
    return data.read("products").select([*ENTITIES["products"].numbers, *ENTITIES["products"].texts])


def _stores(data: Data) -> pa.Table:
    return data.keys("transactions", "store_id")


def _candidates(rows: pa.Table, key: str) -> pa.Table:
    """Return the rows that `history` could mean, so that 92,331 products need not become Python objects."""
    cycles = pc.multiply(pc.divide(rows[key], CYCLE), CYCLE)
    return rows.filter(pc.is_in(pc.subtract(rows[key], cycles), pa.array(CHANGING, pa.int64())))


ENTITIES = {
    "households": Entity(
        "households",
        ("household_id",),
        DEMOGRAPHICS,
        _households,
        earlier_household,
    ),
    "products": Entity(
        "products",
        ("product_id", "manufacturer_id"),
        ("department", "brand", "product_category", "product_type", "package_size"),
        _products,
        earlier_product,
    ),
    "stores": Entity("stores", ("store_id",), (), _stores, lambda _: None),
}


def database(settings: Settings) -> str:
    """Return the name of the database in which the retailer keeps its CRM."""
    return f"{settings.database}_crm"


def exists(settings: Settings) -> bool:
    """Return whether the CRM is there; it is made in one transaction, so it is never there in part."""
    with connect(settings, "postgres") as connection:
        if not query(connection, "select 1 from pg_database where datname = $1", database(settings)):
            return False
    with connect(settings, database(settings)) as connection:
        return query(connection, "select to_regclass('public.stores') is not null") == [(True,)]


def build(settings: Settings, data: Data) -> Iterator[Step]:
    """Make the CRM as it was at the opening, in place of any that is there, in one transaction."""
    ensure_database(settings, database(settings))
    with _transaction(settings) as connection:
        for entity in ENTITIES.values():
            opening, _ = entity.versions(data)
            execute(connection, f"drop table if exists public.{entity.name}")
            execute(connection, entity.ddl())
            _copy(connection, entity.name, opening)
            execute(connection, f"create index on public.{entity.name} (updated_at)")
            yield Step("crm", entity.name, opening.num_rows)


def prepare(data: Data, stock: Path) -> Iterator[Step]:
    """Write the changes of every year into `stock`, yielding a step for each table."""
    for entity in ENTITIES.values():
        _, later = entity.versions(data)
        sink = pa.BufferOutputStream()
        pq.write_table(later, sink)
        put(stock / "crm" / f"{entity.name}.parquet", sink.getvalue())
        yield Step("crm", f"changes of {entity.name}", later.num_rows)


def change(settings: Settings, stock: Path, until: date) -> Iterator[Step]:
    """Apply, in one transaction, every change up to the end of `until` that has not been applied yet."""
    with _transaction(settings) as connection:
        for entity in ENTITIES.values():
            later = pq.read_table(stock / "crm" / f"{entity.name}.parquet")
            due = later.filter(pc.less(later["updated_at"], pa.scalar(ends_at(until), _INSTANT)))
            if due.num_rows:
                yield Step("crm", entity.name, _update(connection, entity, due))


def drop(settings: Settings) -> None:
    """Remove the CRM and throw out whoever is still connected to it."""
    with connect(settings, "postgres", autocommit=True) as connection:
        execute(connection, f"drop database if exists {quote_name(database(settings))} with (force)")


@contextmanager
def _transaction(settings: Settings) -> Iterator[Connection]:
    """Open the CRM, commit at the end, and put what Postgres says of a failure into a sentence."""
    with connect(settings, database(settings)) as connection:
        try:
            yield connection
            connection.commit()
        except psycopg.Error as error:
            raise GranaryError(
                f"the sample CRM cannot be written: {reason(error)}",
                database(settings),
                "run the same again",
            ) from error


def _copy(connection: Connection, name: str, rows: pa.Table) -> None:
    copy_into(connection, f"public.{quote_name(name)}", rows.to_batches())


def _update(connection: Connection, entity: Entity, rows: pa.Table) -> int:
    """Return how many rows were older and are now like `rows`."""
    with connection.cursor() as cursor:
        cursor.executemany(entity.update().encode(), [tuple(row.values()) for row in rows.to_pylist()])
        return max(cursor.rowcount, 0)
