"""What a database has to offer: tables, columns, keys and how to read only what changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

CHANGED = re.compile(
    r"(?i)(^|_)(last_?)?(updated?|modified|modification|changed?|upd|mod|touched)(_?(at|on|date|time|timestamp|ts|dt|utc))?$"
    r"|(^|_)(mtime|row_?version|last_?seen)$"
)
"""Names under which systems keep the instant of a row's last change. `created_at` is not one: it misses updates."""


@dataclass(frozen=True)
class ColumnShape:
    """A column: its name as the database has it, the Arrow type for a contract, and the declared type's text.

    `collation` is the rule by which the database takes different texts for equal, such as 'a' and 'A'; None without it.
    """

    name: str
    type: pa.DataType
    nullable: bool
    declared: str
    comment: str | None = None
    collation: str | None = None


@dataclass(frozen=True)
class TableShape:
    """A table or view.

    `location` is what `Table.location` takes. `rows` is the database's own estimate, None where it has none. `cursors`
    are the columns that look like the time of a row's last change, the likeliest first.
    """

    schema: str | None
    name: str
    columns: tuple[ColumnShape, ...]
    key: tuple[str, ...] = ()
    rows: int | None = None
    cursors: tuple[str, ...] = ()
    comment: str | None = None
    is_view: bool = False

    @property
    def location(self) -> str:
        """`schema.table`, or `table` where the database has one schema."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


def cursor_candidates(columns: Sequence[ColumnShape]) -> tuple[str, ...]:
    """Return the columns that look like the instant or date of a row's last change, the best first.

    A database may write the time itself (MySQL's `on update`); else the name tells. Instants come before dates, and
    columns that are never null before those that may be.
    """
    t = pa.types
    found = [
        column
        for column in columns
        if (t.is_timestamp(column.type) or t.is_date(column.type))
        and (CHANGED.search(column.name) or "on update" in column.declared.lower())
    ]
    found.sort(key=lambda c: ("on update" not in c.declared.lower(), t.is_date(c.type), c.nullable))
    return tuple(column.name for column in found)
