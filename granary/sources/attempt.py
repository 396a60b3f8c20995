"""What an attempt to read shows of a source: whether it answers, lets us in, and has what the contracts ask for."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, cast

from granary.warehouse.errors import GranaryError
from granary.warehouse.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import pyarrow as pa

    from granary.sources.spec import Reader, Table
    from granary.sources.units import SourceBatch

SKEW_SECONDS, HINT_SECONDS = 60.0, 5.0
"""How far a source's clock may be from ours; from the second one on it is worth a word."""


def attempts(reader: Reader, tables: Sequence[Table]) -> Iterator[Finding]:
    """Begin to read each table, as a first load would, and yield what is in the way; nothing is kept."""
    for table in tables:
        try:
            yield from _attempt(reader, table)
        except GranaryError as error:
            yield of_error(error, table.name)


def of_error(error: GranaryError, where: str) -> Finding:
    """Return an error as something that was found."""
    place = f"{where}: {error.where}" if error.where and error.where != where else where
    return Finding(error.what, place, "", error.todo)


def clock(where: str, theirs: float, ours: float | None = None) -> Iterator[Finding]:
    """Yield a finding if a source's clock (seconds since 1970) is not ours.

    Cursors that are times, signatures and freshness all compare the two.
    """
    skew = theirs - (time.time() if ours is None else ours)
    if abs(skew) > HINT_SECONDS:
        yield Finding(
            "the source's clock is not ours",
            where,
            f"{abs(skew):,.0f} s {'ahead' if skew > 0 else 'behind'}",
            "have both machines follow the same time servers; `timedatectl` shows whether this one does",
            "problem" if abs(skew) > SKEW_SECONDS else "hint",
        )


def missing(table: Table, names: Sequence[str]) -> Iterator[Finding]:
    """Yield the columns of a contract that a source does not deliver."""
    there = {name.casefold() for name in names}
    for column in table.columns:
        known = {name.casefold() for name in (column.name, *column.aliases)}
        if column.missing == "refuse" and not known & there:
            yield Finding(
                f"there is no column {column.name}",
                table.name,
                "",
                'name its alias in the contract, or say missing="null" if it may be absent',
            )


def _attempt(reader: Reader, table: Table) -> Iterator[Finding]:
    units = reader.units(table, None)
    if not units:
        yield Finding("there is nothing to load", table.name, table.location, "check the table's location", "hint")
        return
    unit = next((one for one in units if not one.problem), None)
    if unit is None:
        yield Finding(f"no unit can be read: {units[0].problem}", table.name, units[0].name, "correct it at the source")
        return
    with closing(cast("Generator[SourceBatch, None, None]", iter(reader.read(table, unit, None)))) as batches:
        first = next(batches, None)
    if first is not None and first.batch.num_rows:
        yield from missing(table, first.batch.schema.names)
        yield from empty(table, first.batch)


def empty(table: Table, batch: pa.RecordBatch) -> Iterator[Finding]:
    """Yield the columns that may not be null and are in every row: JSON has no names for what is not there."""
    for column in table.columns:
        name = next((one for one in (column.name, *column.aliases) if one in batch.schema.names), None)
        if name and not column.nullable and batch.column(name).null_count == batch.num_rows:
            yield Finding(
                f"the column {column.name} is empty, and may not be",
                table.name,
                f"in each of {batch.num_rows:,} rows",
                "name its alias in the contract, or let it be null",
            )
