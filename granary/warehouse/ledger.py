"""The ledger: what each load did, what it knows of each unit, and how contracts and deliveries differed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from granary.warehouse.binary_copy import copy_into
from granary.warehouse.connection import execute, query
from granary.warehouse.records import AUDIT_SCHEMA, Audit, Change, Landed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from granary.warehouse.connection import Connection


def landed(connection: Connection, source: str, table: str) -> dict[str, Landed]:
    """Return what the ledger knows of each unit of a raw table."""
    rows = query(
        connection,
        "select unit, fingerprint, version, load_id, status, rows_read, unpacked from ops.load_audit where source = $1"
        " and table_name = $2 and status in ('loaded', 'unreadable', 'duplicate') and superseded_by is null and unit in"
        " (select unit from ops.load_audit where source = $1 and table_name = $2 and superseded_by is null"
        " and fingerprint is not null) order by load_id",
        source,
        table,
    )
    units: dict[str, list[tuple[object, ...]]] = {}
    for unit, *rest in rows:
        units.setdefault(str(unit), []).append(tuple(rest))
    return {
        unit: Landed(
            fingerprints=frozenset(str(row[0]) for row in known if row[0] is not None),
            versions=frozenset(str(row[1]) for row in known if row[1] is not None),
            load_ids=tuple(int(str(row[2])) for row in known),
            unreadable=frozenset(str(mark) for row in known if row[3] == "unreadable" for mark in row[:2] if mark),
            holds=frozenset(
                str(mark) for row in known if row[3] == "loaded" and row[4] for mark in (row[0], row[5]) if mark
            ),
            duplicate=next(
                (
                    tuple(str(mark) for mark in (row[0], row[5]) if mark)
                    for row in reversed(known)
                    if row[3] == "duplicate"
                ),
                (),
            ),
            duplicate_marks=frozenset(str(mark) for row in known if row[3] == "duplicate" for mark in row[:2] if mark),
        )
        for unit, known in units.items()
    }


def record(connection: Connection, audits: Sequence[Audit]) -> None:
    """Append rows to ops.load_audit."""
    rows = [vars(audit) | {"table_name": audit.table} for audit in audits]
    copy_into(connection, "ops.load_audit", [pa.RecordBatch.from_pylist(rows, schema=AUDIT_SCHEMA)])


def record_changes(
    connection: Connection, source: str, table: str, load_id: int, changes: Iterable[Change]
) -> list[Change]:
    """Keep differences between contract and delivery, and return the new ones.

    A column's differences are kept together, whenever one of them is not among those that were kept of it last.
    """
    by_column: dict[str, list[Change]] = {}
    for change in changes:
        by_column.setdefault(change.column, []).append(change)
    if not by_column:
        return []
    latest = {
        Change(*row)
        for row in query(
            connection,
            "select column_name, change, detail from"
            " (select *, max(load_id) over (partition by column_name) as last_load_id from ops.schema_changes"
            " where source = $1 and table_name = $2) as kept where load_id = last_load_id",
            source,
            table,
        )
    }
    new = []
    for arrived in by_column.values():
        if latest.issuperset(arrived):
            continue
        new += [change for change in arrived if change not in latest]
        for change in arrived:
            execute(
                connection,
                "insert into ops.schema_changes (load_id, source, table_name, column_name, change, detail)"
                " values ($1, $2, $3, $4, $5, $6)",
                load_id,
                source,
                table,
                change.column,
                change.change,
                change.detail,
            )
    return new


def record_not_loaded(
    connection: Connection, source: str, table: str, load_id: int, left: Iterable[tuple[str, str, str]]
) -> None:
    """Keep what a load saw and did not take: (unit, outcome, reason); what no table takes is the source's."""
    execute(
        connection,
        "insert into ops.files_not_loaded (source, table_name, unit, outcome, reason, load_id)"
        " select $1, case outcome when 'passed over' then '' else $2 end, unit, outcome, reason, $3"
        " from unnest($4::text[], $5::text[], $6::text[]) as seen (unit, outcome, reason)"
        " on conflict (source, table_name, unit) do update set outcome = excluded.outcome, reason = excluded.reason,"
        " load_id = excluded.load_id, last_seen_at = clock_timestamp()",
        source,
        table,
        load_id,
        *([list(column) for column in zip(*left, strict=True)] or [[], [], []]),
    )


def forget_unreadable(connection: Connection, source: str, table: str, unit: str) -> None:
    """Have the ledger forget that a unit's content could not be read."""
    execute(
        connection,
        "update ops.load_audit set superseded_by = load_id where source = $1 and table_name = $2 and unit = $3"
        " and status = 'unreadable' and superseded_by is null",
        source,
        table,
        unit,
    )


def shrink(connection: Connection, load_id: int, rows: int) -> None:
    """Have the ledger say that fewer rows of a load are there than it brought: others took them away.

    Its fingerprint becomes another, so that the unit is read again when the source offers it again.
    """
    execute(
        connection,
        "update ops.load_audit set rows_read = rows_read - rows_loaded + $2, rows_loaded = $2,"
        " fingerprint = 'lost ' || fingerprint, unpacked = null, version = null, error ="
        " (rows_loaded - $2) || ' of ' || rows_loaded || ' rows were taken away outside of Granary' where load_id = $1",
        load_id,
        rows,
    )
