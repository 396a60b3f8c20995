"""The ledger: what each load did, what it knows of each unit, and how contracts and deliveries differed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from warehouse.connection import execute, query
from warehouse.records import AUDIT_SCHEMA, Audit, Change, Landed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from warehouse.connection import Connection


def landed(connection: Connection, source: str, table: str) -> dict[str, Landed]:
    """Return what the ledger knows of each unit of a raw table."""
    rows = query(
        connection,
        "select unit, fingerprint, version, load_id, status from ops.load_audit where source = $1 and table_name = $2"
        " and status in ('loaded', 'unreadable') and superseded_by is null and unit in (select unit from ops.load_audit"
        " where source = $1 and table_name = $2 and superseded_by is null and fingerprint is not null)"
        " order by load_id",
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
        )
        for unit, known in units.items()
    }


def record(connection: Connection, audits: Sequence[Audit]) -> None:
    """Append rows to ops.load_audit."""
    rows = [vars(audit) | {"table_name": audit.table} for audit in audits]
    with connection.cursor() as cursor:
        cursor.adbc_ingest(
            "load_audit", pa.Table.from_pylist(rows, schema=AUDIT_SCHEMA), mode="append", db_schema_name="ops"
        )


def record_changes(
    connection: Connection, source: str, table: str, load_id: int, changes: Iterable[Change]
) -> list[Change]:
    """Keep differences between contract and delivery, unless they are their column's latest; return the new ones."""
    arrived = list(changes)
    if not arrived:
        return []
    latest = {
        (str(column), str(change), str(detail))
        for column, change, detail in query(
            connection,
            "select distinct on (column_name) column_name, change, detail from ops.schema_changes"
            " where source = $1 and table_name = $2 order by column_name, change_id desc",
            source,
            table,
        )
    }
    new = []
    for change in arrived:
        known = (change.column, change.change, change.detail)
        if known in latest:
            continue
        latest = {other for other in latest if other[0] != change.column} | {known}
        new.append(change)
        execute(
            connection,
            "insert into ops.schema_changes (load_id, source, table_name, column_name, change, detail)"
            " values ($1, $2, $3, $4, $5, $6)",
            load_id,
            source,
            table,
            *known,
        )
    return new


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
