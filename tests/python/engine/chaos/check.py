"""Truth against warehouse: rows lost, rows double, and whether the ledger still tells the truth about the tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.sources.spec import Table
    from granary.warehouse.connection import Connection
    from tests.python.engine.chaos.world import Rows

COUNTED = """
with loads as (
    select load_id, rows_loaded from ops.load_audit
    where source = $1 and table_name = $2 and status = 'loaded' and superseded_by is null and rows_loaded > 0
    and archive_id is null
), held as (select _load_id as load_id, count(*) as rows from {raw} group by _load_id)
select coalesce(loads.load_id, held.load_id), loads.rows_loaded, held.rows
from loads full outer join held using (load_id) where loads.rows_loaded is distinct from held.rows
"""
"""Loads that count and have other rows in the table than the ledger says; rows of loads that do not count."""

KEYED = """
with held as (select _load_id as load_id, count(*) as rows from {raw} group by _load_id)
select held.load_id, audit.rows_loaded, held.rows
from held left join ops.load_audit as audit
on audit.load_id = held.load_id and audit.source = $1 and audit.table_name in ($2, $2 || '_changes')
and audit.status = 'loaded'
where audit.rows_loaded is null or audit.rows_loaded < held.rows
"""
"""The same where later loads take rows over: each row's load is in the ledger, and had at least so many. The rows of a
captured table have the load of their change."""

SILENT = """
select load_id, rows_read, rows_loaded + rows_quarantined + rows_forgotten from ops.load_audit
where source = $1 and table_name = $2 and status = 'loaded'
and rows_read <> rows_loaded + rows_quarantined + rows_forgotten
"""

QUARANTINED = """
with loads as (
    select load_id, rows_quarantined from ops.load_audit
    where source = $1 and table_name = $2 and status = 'loaded' and superseded_by is null and rows_quarantined > 0
), held as (
    select load_id, count(*) as rows from ops.quarantine
    where source = $1 and table_name = $2 and row_number > 0
    and (status = 'open' or (status = 'replayed' and load_id in (select load_id from loads))) group by load_id
)
select coalesce(loads.load_id, held.load_id), loads.rows_quarantined, held.rows
from loads full outer join held using (load_id) where loads.rows_quarantined is distinct from held.rows
"""
"""Where units are replaced whole, the refused rows that are open or replayed are those of the loads that count."""

ADVANCED = """
select mark.load_id, null, null from ops.watermarks as mark where mark.source = $1 and mark.table_name = $2
and not exists (
    select from ops.load_audit as audit where audit.load_id = mark.load_id and audit.status in ('loaded', 'unchanged')
    and audit.watermark_after = mark.value
)
"""
"""A watermark that no landed load has set. Events that all came before change nothing, and are not read again."""


@dataclass(frozen=True)
class Difference:
    """Rows of the truth that are not there, and rows that are there and not (or not so often) in the truth."""

    lost: int
    double: int
    words: str = ""

    @property
    def none(self) -> bool:
        """Whether all is well."""
        return self.lost == self.double == 0


def compare(truth: dict[str, Rows], landed: dict[str, Rows]) -> Difference:
    """Compare multisets by table."""
    lost = {name: rows - landed.get(name, Counter()) for name, rows in truth.items()}
    double = {name: landed.get(name, Counter()) - rows for name, rows in truth.items()}
    words = [
        f"{name}: {sum(rows.values())} {what}, such as {next(iter(rows))}"
        for what, found in (("lost", lost), ("double", double))
        for name, rows in found.items()
        if rows
    ]
    return Difference(
        sum(sum(rows.values()) for rows in lost.values()),
        sum(sum(rows.values()) for rows in double.values()),
        "; ".join(words),
    )


def ledger_faults(connection: Connection, source: str, tables: Iterable[Table]) -> list[str]:
    """Return where ledger, watermarks, quarantine and raw tables contradict each other: it must hold at any moment."""
    faults = []
    for table in tables:
        for what, sql in _rules(connection, source, table).items():
            faults += [
                f"{source}.{table.name}: {what} (load {load}: {ledger} / {held})"
                for load, ledger, held in query(connection, sql, source, table.name)
            ]
    return faults


def _rules(connection: Connection, source: str, table: Table) -> dict[str, str]:
    rules = {"rows that nobody accounts for": SILENT, "a watermark of no load": ADVANCED}
    if table.disposition == "replace_unit":
        rules["quarantine and ledger differ"] = QUARANTINED
    raw = f'"raw_{source}"."{table.name}"'
    if query(connection, "select to_regclass($1)::text", raw) != [(None,)]:
        counted = table.disposition in ("replace_unit", "append") and not table.key
        rules["ledger and table differ"] = (COUNTED if counted else KEYED).format(raw=raw)
    return rules
