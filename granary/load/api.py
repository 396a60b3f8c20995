"""The load seam: from a source's units to a raw table, in one transaction (see granary.warehouse.writer)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from granary.load.batch_stage import UNKNOWN, LoadResult, Progress, recognised, together
from granary.load.failures import Findings, RestartLoadError
from granary.load.load_step import LoadStep
from granary.load.table_load import TableLoad, Window
from granary.sources.discovery import BROKEN, SOURCES
from granary.sources.spec import KeepsPosition
from granary.sources.units import StillWrittenError, UnreachableError
from granary.warehouse.connection import connect, query, reason
from granary.warehouse.errors import GranaryError, unknown
from granary.warehouse.ledger import landed
from granary.warehouse.raw_tables import lost
from granary.warehouse.records import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import date

    from granary.sources.spec import Reader, Source, Table
    from granary.sources.units import Unit
    from granary.warehouse.records import Landed
    from granary.warehouse.settings import Settings

__all__ = ["LoadResult", "Progress", "Window", "find", "load_table", "pending_dates", "row_count", "waiting"]


def find(source: str, table: str) -> tuple[Source, Table]:
    """Return the specs of a source and its table.

    Raises:
        GranaryError: there is no such source or table; the error names those that there are. Or its module cannot be
            used.
    """
    if source in BROKEN:
        raise BROKEN[source]
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
    rebuild: bool = False,
    dry_run: bool = False,
    run_id: str = "",
    progress: Callable[[Progress], None] | None = None,
    accepted: Collection[str] = (),
) -> LoadResult:
    """Load what is new in one table, exactly once.

    Args:
        settings: the warehouse.
        source: the source's name.
        table: the table's name.
        window: for tables partitioned by day, only units of these business dates.
        full_refresh: read everything again and replace the table, within the same transaction; with a window,
            read its units again and replace them.
        rebuild: read everything again, and give the raw table the types and the key that the contract has now; rows
            that the source does not offer any more are kept.
        dry_run: read and check, then roll back.
        run_id: the run that this load belongs to, for the ledger; with one, the load is a step of it in `ops.steps`.
        progress: called after each batch.
        accepted: units that are loaded though their content has landed under another name.

    Returns:
        What landed, and in `left` what did not: where some units failed and others landed, `failed` has the former.

    Raises:
        GranaryError: the source, the data or the server failed; the raw table is as it was before, and the ledger
            has a row with status "failed" that says why.
    """
    spec, contract = find(source, table)
    findings = Findings()
    step = LoadStep(settings, run_id, spec, contract, is_full=full_refresh or rebuild)
    near = _neighbours(settings, spec)
    done: list[LoadResult] = []
    reader: Reader | None = None
    while True:
        table_load = TableLoad(
            settings,
            spec,
            contract,
            window,
            full_refresh,
            run_id,
            progress,
            findings,
            rebuild=rebuild,
            neighbours=near,
            accepted=accepted,
            reader=reader,
        )
        try:
            result = table_load.run(dry_run=dry_run)
        except RestartLoadError:
            continue  # the load learnt something of a unit that it needs to know from the start
        except BaseException as error:
            shown = _user_error(error, table_load)
            if not dry_run:
                table_load.record_failure(shown)
                step.keep(shown)
            raise shown from (None if shown is error else error)
        done.append(result)
        reader = table_load.reader
        if not dry_run and isinstance(reader, KeepsPosition) and reader.has_more(contract):
            continue  # what has landed ends at a position of the source's, and the source goes on
        whole = together(done)
        if not dry_run:
            step.keep(None, whole)
        return whole


def _neighbours(settings: Settings, spec: Source) -> list[Table]:
    """Return the tables of other sources that lie in the same place: their files are not passed over."""
    with suppress(GranaryError):
        place = getattr(spec.reader(settings), "place", None)
        if place:
            return [table for other in SOURCES.values() if other is not spec for table in _in(place, settings, other)]
    return []


def _in(place: str, settings: Settings, source: Source) -> Sequence[Table]:
    with suppress(Exception):  # whatever is wrong with another source is not this one's affair
        if getattr(source.reader(settings), "place", None) == place:
            return source.tables
    return ()


def _user_error(error: BaseException, table_load: TableLoad) -> BaseException:
    """Return the user-facing error: for one of the warehouse the driver's words, else the error itself."""
    if isinstance(error, MemoryError):
        return GranaryError("this machine has too little memory left", table_load.place, "free some and load again")
    if not isinstance(error, (psycopg.Error, OSError)):
        return error
    # An answer to the commit that is lost leaves open which of the two it was; the next load finds out.
    words = "all of it or nothing has" if table_load.committing else "nothing of it has"
    return GranaryError(
        f"the load was interrupted by the warehouse: {reason(error)}",
        table_load.place,
        f"{words} landed; fix the cause and load again",
    )


def pending_dates(settings: Settings, source: str) -> list[date]:
    """Return the business dates of day-partitioned units that are new or changed since they were loaded.

    Where the raw table lost rows, that is all of them.

    Raises:
        GranaryError: the source cannot be asked.
    """
    if source in BROKEN:
        raise BROKEN[source]
    if source not in SOURCES:
        return []
    spec = SOURCES[source]
    reader = spec.reader(settings)
    daily = [table for table in spec.tables if table.is_daily]
    new = (unit for table in daily for unit in waiting(settings, source, table, reader.units(table, None)))
    return sorted({unit.date for unit in new if unit.date})


def waiting(settings: Settings, source: str, table: Table, units: Sequence[Unit]) -> list[Unit]:
    """Return those of a table's units that are new or changed since they were loaded; all, if the raw table lost rows.

    Raises:
        GranaryError: the warehouse does not answer.
    """
    target = Target(source, table.name, table.schema, table.key)
    with connect(settings, role="loader") as connection:
        missing = lost(connection, target, by_load=table.disposition == "replace_unit")
        known = {} if missing else landed(connection, source, table.name)
    return [unit for unit in units if _is_new(unit, known.get(unit.name, UNKNOWN))]


def _is_new(unit: Unit, ledger: Landed) -> bool:
    try:
        return recognised(unit, ledger)[1] is None
    except (UnreachableError, StillWrittenError):  # its load will say so
        return True


def row_count(settings: Settings, source: str, table: str) -> int:
    """Return the number of rows in a raw table."""
    find(source, table)
    with connect(settings, role="loader") as connection:
        return int(str(query(connection, f'select count(*) from "raw_{source}"."{table}"')[0][0]))
