"""The load seam: from a source's units to a raw table, in one transaction (see warehouse.writer)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from ingestion.intake import UNKNOWN, LoadResult, Progress, recognised
from ingestion.loading import BeginAgainError, Learnt, Loading, Window
from ingestion.sources import SOURCES
from warehouse.connection import connect, query, reason
from warehouse.errors import GranaryError, unknown
from warehouse.ledger import landed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from ingestion.spec import Source, Table
    from warehouse.settings import Settings

__all__ = ["LoadResult", "Progress", "Window", "find", "load_table", "pending_dates", "row_count"]


def find(source: str, table: str) -> tuple[Source, Table]:
    """Return the specs of a source and its table.

    Raises:
        GranaryError: there is no such source or table; the error names those that there are.
    """
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    spec = SOURCES[source]
    try:
        return spec, spec.table(table)
    except KeyError:
        raise unknown(f"table of source {source}", table, (t.name for t in spec.tables)) from None


def load_table(
    settings: Settings,
    source: str,
    table: str,
    *,
    window: Window | None = None,
    full_refresh: bool = False,
    dry_run: bool = False,
    run_id: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Load what is new in one table, exactly once.

    Args:
        settings: the warehouse.
        source: the source's name.
        table: the table's name.
        window: for tables partitioned by day, only units of these business dates.
        full_refresh: read everything again and replace the table, within the same transaction; with a window,
            read its units again and replace them.
        dry_run: read and check, then roll back.
        run_id: the run that this load belongs to, for the ledger.
        progress: called after each batch.

    Raises:
        GranaryError: the source, the data or the server failed; the raw table is as it was before, and the ledger
            has a row with status "failed" that says why.
    """
    spec, contract = find(source, table)
    learnt = Learnt()
    while True:
        loading = Loading(settings, spec, contract, window, full_refresh, run_id, progress, learnt)
        try:
            return loading.run(dry_run=dry_run)
        except BeginAgainError:
            continue  # the load learnt something of a unit that it needs to know from the start
        except BaseException as error:
            told = _told(error, loading)
            if not dry_run:
                loading.record_failure(told)
            raise told from (None if told is error else error)


def _told(error: BaseException, loading: Loading) -> BaseException:
    """Return what a person is told of a failure: the driver's words for one of the warehouse, else the error itself."""
    if not isinstance(error, (psycopg.Error, OSError)):
        return error
    # An answer to the commit that is lost leaves open which of the two it was; the next load finds out.
    words = "all of it or nothing has" if loading.committing else "nothing of it has"
    return GranaryError(
        f"the warehouse broke off the load: {reason(error)}",
        loading.place,
        f"{words} landed; mend the cause and load again",
    )


def pending_dates(settings: Settings, source: str) -> list[date]:
    """Return the business dates of day-partitioned units that are new or changed since they were loaded."""
    spec = SOURCES[source]
    reader = spec.reader(settings)
    dates: set[date] = set()
    with connect(settings, role="loader") as connection:
        for table in spec.tables:
            if table.partition == "day":
                known = landed(connection, source, table.name)
                dates |= {
                    unit.date
                    for unit in reader.units(table, None)
                    if unit.date and recognised(unit, known.get(unit.name, UNKNOWN))[1] is None
                }
    return sorted(dates)


def row_count(settings: Settings, source: str, table: str) -> int:
    """Return the number of rows in a raw table."""
    find(source, table)
    with connect(settings, role="loader") as connection:
        return int(str(query(connection, f'select count(*) from "raw_{source}"."{table}"')[0][0]))
