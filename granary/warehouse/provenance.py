"""What the ledger and the quarantine say of loads: where rows came from, what they replaced, what was refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import Connection, query, quote_relation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True)
class Load:
    """One row of the ledger: a unit (file, page set, cursor window, offsets) as one load landed it.

    `superseded_by` is the load that replaced its rows since; `rows_forgotten` were of somebody who is forgotten.
    """

    load_id: int
    source: str
    table: str
    unit: str
    status: str
    rows_loaded: int
    rows_quarantined: int
    fingerprint: str | None
    run_id: str
    finished_at: datetime
    superseded_by: int | None
    rows_forgotten: int = 0


@dataclass(frozen=True)
class RefusedRow:
    """One entry of the quarantine, without the row itself; row 0 is the unit as a whole.

    `concerns` is whether the row has the values that were asked for: true, false, or None if that cannot be told.
    """

    quarantine_id: int
    load_id: int
    source: str
    table: str
    unit: str
    row: int
    line: int | None
    column: str
    reason: str
    status: str
    contract_version: int
    concerns: bool | None


LEDGER_COLUMNS = (
    "load_id, source, table_name, unit, status, rows_loaded, rows_quarantined, fingerprint, run_id, finished_at,"
    " superseded_by, rows_forgotten"
)


def loads(connection: Connection, load_ids: Sequence[int]) -> dict[int, Load]:
    """Return the ledger's rows of these loads."""
    rows = query(
        connection, f"select {LEDGER_COLUMNS} from ops.load_audit where load_id = any($1::bigint[])", list(load_ids)
    )
    return {int(row[0]): Load(*row) for row in rows}


def superseded(connection: Connection, source: str, table: str, units: Sequence[str]) -> list[Load]:
    """Return the earlier loads of these units whose rows were replaced, oldest first."""
    rows = query(
        connection,
        f"select {LEDGER_COLUMNS} from ops.load_audit where source = $1 and table_name = $2 and unit = any($3::text[])"
        " and status = 'loaded' and superseded_by is not null order by load_id",
        source,
        table,
        list(units),
    )
    return [Load(*row) for row in rows]


def raw_rows(connection: Connection, source: str, table: str, load_ids: Sequence[int]) -> dict[int, int]:
    """Count the rows of each of these loads that the raw table holds now."""
    rows = query(
        connection,
        f"select _load_id, count(*) from {_raw(source, table)} where _load_id = any($1::bigint[]) group by _load_id",
        list(load_ids),
    )
    return {int(load_id): int(number) for load_id, number in rows}


def has_key(connection: Connection, source: str, table: str) -> bool:
    """Return whether rows of a raw table are merged by a key, so that a later load may take over an earlier one's."""
    sql = "select count(*) from pg_index where indrelid = to_regclass($1) and indisunique"
    return bool(query(connection, sql, _raw(source, table))[0][0])


def _raw(source: str, table: str) -> str:
    return quote_relation(f"raw_{source}", table)


def refused(
    connection: Connection,
    source: str,
    table: str,
    units: Sequence[str],
    days: Sequence[str],
    values: dict[str, list[str]],
) -> list[RefusedRow]:
    """Return what was refused of these units, and of units that are named for one of these days (YYYY-MM-DD).

    `values` are columns with the values that a row must have, as text, to concern the caller. Rows that do come
    first, then those of which nobody knows, then open ones.
    """
    keys = [f"(payload ->> ${6 + 2 * n}) = any(${7 + 2 * n}::text[])" for n in range(len(values))]
    concerns = " and ".join(keys) if keys else "null::boolean"
    named = [mark for day in days for mark in (f"%{day}%", f"%{day.replace('-', '')}%", f"%{day.replace('-', '/')}%")]
    rows = query(
        connection,
        "select * from (select quarantine_id, load_id, source, table_name, unit, row_number, line, column_name,"
        f" reason, status, contract_version, case when row_number > 0 then {concerns} end as concerns"
        " from ops.quarantine where source = $1 and table_name = $2"
        " and (unit = any($3::text[]) or unit like any($4::text[]))) as entries"
        " order by concerns is not true, concerns is not null, status <> $5, quarantine_id",
        source,
        table,
        list(units),
        named,
        "open",
        *(part for name, known in values.items() for part in (name, known)),
    )
    return [RefusedRow(*row) for row in rows]
