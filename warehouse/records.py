"""What the writer writes: raw tables, and the rows of the ledger and of the quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warehouse.connection import quote_name
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from datetime import datetime

LOAD_ID, ROW = "_load_id", "_row"
LOAD_COLUMNS = (pa.field(LOAD_ID, pa.int64(), nullable=False), pa.field(ROW, pa.int32(), nullable=False))
"""What every raw table has beside its source's columns: the load, and the row's place in its unit, from 1."""


@dataclass(frozen=True)
class Target:
    """A raw table: where it is, its columns as Arrow fields, and its key (empty when rows have none)."""

    source: str
    table: str
    schema: pa.Schema
    key: tuple[str, ...]

    @property
    def sql_name(self) -> str:
        """The quoted, qualified name."""
        return f"{quote_name('raw_' + self.source)}.{quote_name(self.table)}"


@dataclass(frozen=True)
class Audit:
    """One row of ops.load_audit."""

    load_id: int
    run_id: str
    source: str
    table: str
    unit: str
    fingerprint: str | None
    status: str
    rows_read: int
    rows_loaded: int
    rows_quarantined: int
    rows_deleted: int
    bytes: int
    seconds: float
    started_at: datetime
    watermark_before: str | None = None
    watermark_after: str | None = None
    error: str | None = None


AUDIT_SCHEMA = pa.schema(
    [
        ("load_id", pa.int64()),
        *((name, pa.string()) for name in ("run_id", "source", "table_name", "unit", "fingerprint", "status")),
        *((f"rows_{what}", pa.int64()) for what in ("read", "loaded", "quarantined", "deleted")),
        ("bytes", pa.int64()),
        ("seconds", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        *((name, pa.string()) for name in ("watermark_before", "watermark_after", "error")),
    ]
)


@dataclass(frozen=True)
class Refusal:
    """One row that a contract refused: its place in the unit (from 1), the column at fault, why, and the row itself."""

    row: int
    column: str
    reason: str
    payload: dict[str, Any]


def sql_type(arrow_type: pa.DataType) -> str:
    """Return the Postgres type of an Arrow type.

    Raises:
        GranaryError: a type that raw tables do not hold.
    """
    if pa.types.is_timestamp(arrow_type):
        return "timestamptz" if arrow_type.tz else "timestamp"
    if pa.types.is_decimal(arrow_type):
        return f"numeric({arrow_type.precision},{arrow_type.scale})"
    names = {
        pa.int16(): "smallint",
        pa.int32(): "integer",
        pa.int64(): "bigint",
        pa.float32(): "real",
        pa.float64(): "double precision",
        pa.bool_(): "boolean",
        pa.date32(): "date",
        pa.string(): "text",
        pa.binary(): "bytea",
    }
    try:
        return names[arrow_type]
    except KeyError:
        raise GranaryError(f"no raw column can hold Arrow type {arrow_type}") from None
