"""What the writer writes: raw tables, and the rows of the ledger and of the quarantine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.warehouse.connection import quote_relation
from granary.warehouse.errors import GranaryError

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
        return quote_relation(f"raw_{self.source}", self.table)


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
    version: str | None = None
    watermark_before: str | None = None
    watermark_after: str | None = None
    error: str | None = None
    rows_forgotten: int = 0
    unpacked: str | None = None
    """The fingerprint of what was in a unit that came packed."""
    is_new: bool | None = None
    """Whether the load changed what was there."""
    data_at: datetime | None = None
    """How new the newest of its rows is."""


AUDIT_SCHEMA = pa.schema(
    [
        ("load_id", pa.int64()),
        *(
            (name, pa.string())
            for name in ("run_id", "source", "table_name", "unit", "fingerprint", "unpacked", "version", "status")
        ),
        *((f"rows_{what}", pa.int64()) for what in ("read", "loaded", "quarantined", "forgotten", "deleted")),
        ("bytes", pa.int64()),
        ("seconds", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        *((name, pa.string()) for name in ("watermark_before", "watermark_after", "error")),
        ("is_new", pa.bool_()),
        ("data_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True)
class Refusal:
    """One row that a contract refused: its place in the unit (from 1), the column at fault, why, and the row itself.

    `line` is the physical line or offset, where a person looks for it. Row 0 is the unit itself, which is unreadable.
    """

    row: int
    column: str
    reason: str
    payload: dict[str, Any]
    line: int | None = None


@dataclass(frozen=True)
class Change:
    """One difference between a contract and a delivery: a row of ops.schema_changes."""

    column: str
    change: str
    detail: str


@dataclass(frozen=True)
class Landed:
    """What the ledger knows of a unit: the contents and versions that it has seen, the loads whose rows are there."""

    fingerprints: frozenset[str]
    versions: frozenset[str]
    load_ids: tuple[int, ...]
    unreadable: frozenset[str] = frozenset()
    """Those of the fingerprints and versions whose content could not be read."""
    holds: frozenset[str] = frozenset()
    """Those of the fingerprints whose rows are there, and those of what was in it if it came packed."""
    duplicate: tuple[str, ...] = ()
    """The fingerprint, and that of what was in it, with which it was last left out, as a copy of another unit."""
    duplicate_marks: frozenset[str] = frozenset()
    """Those of the fingerprints and versions with which it was left out."""


NAMES = {
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp without time zone",
    pa.timestamp("us", tz="UTC"): "timestamp with time zone",
    pa.string(): "text",
    pa.binary(): "bytea",
}
NARROW = 38
"""Digits that a decimal of 128 bits has; one of 256 bits has 76."""
TYPES = {name: arrow_type for arrow_type, name in NAMES.items()}


def sql_type(arrow_type: pa.DataType) -> str:
    """Return the Postgres type of an Arrow type, as `format_type` writes it.

    Raises:
        GranaryError: a type that raw tables do not hold.
    """
    if pa.types.is_decimal(arrow_type):
        return f"numeric({arrow_type.precision},{arrow_type.scale})"
    if pa.types.is_timestamp(arrow_type) and arrow_type.tz:
        arrow_type = pa.timestamp("us", tz="UTC")
    try:
        return NAMES[arrow_type]
    except KeyError:
        raise GranaryError(f"no raw column can hold Arrow type {arrow_type}") from None


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a raw column's Postgres type; the opposite of `sql_type`.

    Raises:
        GranaryError: a type that no loader has made.
    """
    if numeric := re.fullmatch(r"numeric\((\d+),(\d+)\)", name):
        kind = pa.decimal128 if int(numeric[1]) <= NARROW else pa.decimal256
        return kind(int(numeric[1]), int(numeric[2]))
    try:
        return TYPES[name]
    except KeyError:
        raise GranaryError(f"a raw column has type {name}, which no loader makes") from None
